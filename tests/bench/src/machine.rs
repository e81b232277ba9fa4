//! The machine that a run was made on.

use std::fs;

use serde::{Deserialize, Serialize};

/// What the figures depend on besides the programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The processor's name as the kernel gives it.
    pub cpu: String,
    /// How many CPUs the run could use.
    pub cpus: usize,
    /// Which of the instruction sets that matter to ciphers it has.
    pub features: Vec<String>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// How many programs wanted to run in the minute before; anything but nearly 0 means a disturbed run.
    pub load_before: f64,
}

impl Machine {
    /// This one. What cannot be read is left empty.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let flags = after(&cpu, "flags").to_owned();
        let has = |name: &&&str| flags.split_whitespace().any(|flag| flag == **name);
        let memory = read("/proc/meminfo");
        let kib = after(&memory, "MemTotal").split_whitespace().next();
        let system = read("/etc/os-release");
        let name = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Self {
            cpu: after(&cpu, "model name").to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            features: FEATURES.iter().filter(has).map(|&name| name.to_owned()).collect(),
            memory_mib: kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: name.unwrap_or_default().trim_matches('"').to_owned(),
            load_before: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
        }
    }
}

/// The value of the first `name : value` line.
fn after<'a>(text: &'a str, name: &str) -> &'a str {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = values.filter(|(key, _)| key.trim() == name);
    values.next().map_or("", |(_, value)| value.trim())
}

const FEATURES: [&str; 7] = [
    "aes",
    "pclmulqdq",
    "avx2",
    "vaes",
    "avx512f",
    "avx512vl",
    "vpclmulqdq",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_up_to_the_colon() {
        let text = "model\t\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: aes avx2\n";

        assert_eq!(after(text, "model name"), "AMD EPYC");
        assert_eq!(after(text, "flags"), "aes avx2");
        assert_eq!(after(text, "bugs"), "");
    }
}
