//! What the kernel tells of a process: memory, switches of its threads, CPU time.

use std::fs;

use anyhow::{Context as _, Result};

/// As of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) resident_kib: u64,
    pub(super) peak_kib: u64,
    /// Of all threads: how often one was switched away from, which is as often as it was switched to.
    pub(super) switches: u64,
    /// Of the threads that carry packets.
    pub(super) packet_switches: u64,
    pub(super) cpu_ms: u64,
}

impl Process {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let mut process = Self::default();
        let own = read(&format!("/proc/{pid}/status"))?;
        process.resident_kib = field(&own, "VmRSS:").context("VmRSS")?;
        process.peak_kib = field(&own, "VmHWM:").context("VmHWM")?;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = thread?.path();
            let (status, schedstat) = (folder.join("status"), folder.join("schedstat"));
            let status = read(&status.display().to_string())?;
            let switches = field(&status, "voluntary_ctxt_switches:").context("switches")?
                + field(&status, "nonvoluntary_ctxt_switches:").context("switches")?;
            process.switches += switches;
            if status.starts_with("Name:\tpackets") {
                process.packet_switches += switches;
            }
            let ran = read(&schedstat.display().to_string())?;
            let ran_ns: u64 = ran.split(' ').next().unwrap_or_default().parse()?;
            process.cpu_ms += ran_ns / 1_000_000;
        }
        Ok(process)
    }
}

/// The number that a line begins with, after its name.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{path}: has it ended?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmRSS:\t    2048 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";

        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(3));
        assert_eq!(field(status, "VmHWM:"), None);
    }
}
