//! Where the other tunnels' programs are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The path of a program: from `scripts/bench-peers.sh`'s folder, newest first, or from `PATH`.
///
/// # Errors
/// When it is in none of them.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let own = peers_folder();
    let newest = own.iter().map(|folder| folder.join("newest/usr/bin"));
    let built = own.iter().map(|folder| folder.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = newest.chain(built).chain(env::split_paths(&path)).collect();
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found
        .with_context(|| format!("{name} is not installed: scripts/bench-peers.sh could not, or was not run"))
}

/// The first line that mentions a version, of what `program` prints when asked for it.
pub(crate) fn version(program: &Path, ask: &str) -> String {
    let Ok(output) = Command::new(program).arg(ask).output() else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    version_in(&String::from_utf8_lossy(&text)).to_owned()
}

/// The first word with a digit and a dot in it.
fn version_in(text: &str) -> &str {
    let mut words = text.split_whitespace();
    let is_version = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
    words.find(is_version).unwrap_or_default()
}

/// `target/bench-peers`, beside the profile's folder that this program is in.
fn peers_folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("RINGFENCE_BENCH_PEERS") {
        return Some(folder.into());
    }
    let program = env::current_exe().ok()?;
    let folders = program.ancestors().skip(2).take(2);
    let candidates = folders.map(|folder| folder.join("bench-peers"));
    candidates.into_iter().find(|folder| folder.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(
            version_in("wireguard-go v0.0.20250522\n\nUserspace"),
            "v0.0.20250522"
        );
        assert_eq!(version_in("boringtun-cli 0.7.1"), "0.7.1");
        assert_eq!(version_in("Version: 1.11.0"), "1.11.0");
        assert_eq!(version_in("no idea"), "");
    }
}
