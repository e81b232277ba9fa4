//! Runs a function under callgrind and reads how many instructions were its own.
//!
//! What a CPU's instruction sets decide is left out: the ciphers' assembler, and libc's copying. ring and libc choose
//! among several by CPUID, so that another machine, or another valgrind, would count others.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::hot::Hot;

/// Instructions of one operation.
///
/// # Errors
/// When valgrind is not installed, or the function fails under it.
pub fn count(hot: &Hot, folder: &Path) -> Result<f64> {
    let whole = each(hot.name, "work", folder)?;
    Ok(match hot.but {
        Some(_) => whole - each(hot.name, "but", folder)?,
        None => whole,
    })
}

/// Twice, a little and more: the difference is free of everything that is done once.
fn each(name: &str, part: &str, folder: &Path) -> Result<f64> {
    let few = run(name, part, FEW, folder)?;
    let many = run(name, part, FEW + MORE, folder)?;
    let more = many
        .checked_sub(few)
        .context("more work takes more instructions")?;
    let more = u32::try_from(more).context("a few thousand operations take less than 2^32")?;
    Ok(f64::from(more) / f64::from(MORE))
}

fn run(name: &str, part: &str, times: u32, folder: &Path) -> Result<u64> {
    let out = folder.join(format!("{name}-{part}-{times}.callgrind"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(["work", name, part, &times.to_string()])
        .output()
        .context("cannot run valgrind; scripts/setup.sh installs it")?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let profile = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let counted = own_instructions(&profile, |function| !is_chosen_by_cpu(function));
    if counted == 0 {
        bail!("{name}: callgrind counted nothing");
    }
    Ok(counted)
}

/// The sum over all functions that `counts` holds for, without what they call: the format of callgrind's profiles.
fn own_instructions(profile: &str, counts: impl Fn(&str) -> bool) -> u64 {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut counted, mut is_call, mut sum) = (false, false, 0);
    for line in profile.lines() {
        if let Some(named) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            // "(7) name" where it is first seen, "(7)" from then on.
            let (number, name) = named.split_once(' ').unwrap_or((named, ""));
            let name = if name.is_empty() {
                names.get(number).copied().unwrap_or(number)
            } else {
                names.insert(number, name);
                name
            };
            if line.starts_with("fn=") {
                counted = counts(name);
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            // After "calls=" stands what the callee took.
            if counted && !is_call {
                let cost = line
                    .split_whitespace()
                    .nth(1)
                    .and_then(|cost| cost.parse::<u64>().ok());
                sum += cost.unwrap_or(0);
            }
            is_call = false;
        }
    }
    sum
}

fn is_chosen_by_cpu(function: &str) -> bool {
    let lower = function.to_ascii_lowercase();
    let cipher = [
        "chacha20",
        "poly1305",
        "aes_",
        "aesni",
        "gcm_",
        "x25519",
        "fiat_25519",
        "sha256",
        "blake2",
    ];
    let copying = ["__mem", "memcpy", "memset", "memmove", "memcmp", "bcmp"];
    cipher.iter().chain(&copying).any(|part| lower.contains(part))
}

const FEW: u32 = 256;
/// A multiple of what the functions go through in turns.
const MORE: u32 = 2560;

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir
fl=(1) a.rs
fn=(1) seal
10 100
+2 20
cfn=(2) ring_core_ChaCha20_ctr32_avx2
calls=1 5
* 5000
fi=(2) inlined.rs
3 7
fn=(2)
5 5000
fn=(3) open
1 3
cfn=(1)
calls=2 10
2 240
totals: 5130
";

    #[test]
    fn each_function_is_charged_for_itself_alone() {
        assert_eq!(own_instructions(PROFILE, |_| true), 100 + 20 + 7 + 5000 + 3);
        assert_eq!(own_instructions(PROFILE, |name| name == "seal"), 127);
    }

    #[test]
    fn ciphers_and_copies_are_left_out() {
        let counted = own_instructions(PROFILE, |name| !is_chosen_by_cpu(name));

        assert_eq!(counted, 130);
        assert!(is_chosen_by_cpu("__memcpy_avx_unaligned_erms"));
        assert!(is_chosen_by_cpu("ring_core_0_17_14__chacha20_poly1305_seal_avx2"));
        assert!(!is_chosen_by_cpu("ringfence_wg::wireguard::WireGuard::seal"));
    }
}
