//! The kernel's counters of CPU time and memory.

use std::fs;

use anyhow::{Context as _, Result};

/// CPU time used so far, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuTime {
    /// By the tunnel program on the left.
    pub(crate) left: f64,
    /// By the one on the right.
    pub(crate) right: f64,
    /// By everything on this machine.
    pub(crate) machine: f64,
}

impl CpuTime {
    /// Now. A side without a tunnel program uses none.
    pub(crate) fn now(left: Option<u32>, right: Option<u32>) -> Result<Self> {
        let of = |pid: Option<u32>| pid.map_or(Ok(0.0), process_seconds);
        let stat = fs::read_to_string("/proc/stat")?;
        Ok(Self {
            left: of(left)?,
            right: of(right)?,
            machine: machine_seconds(&stat).context("/proc/stat has a line cpu")?,
        })
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            left: self.left - earlier.left,
            right: self.right - earlier.right,
            machine: self.machine - earlier.machine,
        }
    }
}

/// The resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kib = resident_kib(&status).with_context(|| format!("{path} has VmRSS"))?;
    Ok(kib / 1024.0)
}

fn process_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("{path}: has it ended?"))?;
    process_ticks(&stat)
        .map(|ticks| ticks / TICKS_PER_SECOND)
        .with_context(|| format!("{path} is odd"))
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5): all threads, in user and in kernel mode.
fn process_ticks(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may hold anything, spaces too.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(14 - 3);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Everything but idle, waiting for disks, and what the host took: fields 1 to 3, 6 and 7 of the line `cpu`.
fn machine_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<f64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].map(|at| fields.get(at).copied());
    let ticks: Option<f64> = busy.into_iter().sum();
    Some(ticks? / TICKS_PER_SECOND)
}

fn resident_kib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `USER_HZ`, which is 100 on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_past_an_odd_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 5 0 0 0 250 150 0 0 20 0 4 0 99 1 2";

        assert_eq!(process_ticks(stat), Some(400.0));
    }

    #[test]
    fn idle_time_and_stolen_time_are_not_work() {
        let stat = "cpu  100 10 200 5000 60 7 300 999 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";

        assert_eq!(machine_seconds(stat), Some(6.17));
    }

    #[test]
    fn memory_is_what_is_resident() {
        assert_eq!(
            resident_kib("VmHWM:\t 99 kB\nVmRSS:\t    2048 kB\n"),
            Some(2048.0)
        );
    }
}
