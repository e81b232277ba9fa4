//! What the running programs have given up, as the kernel tells it.

use std::fs;
use std::path::Path;

use ringfence_e2e::Node;

use crate::stage::{API_TO_DB, Shop};

/// Of every thread of `pid`: the lines of its status that are named.
fn threads(pid: u32, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let mut values: Vec<String> = statuses
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with(field))?;
            Some(line[field.len()..].trim().to_owned())
        })
        .collect();
    values.sort();
    values.dedup();
    values
}

/// A filter, no new privileges, and these capabilities in each set and on each thread.
pub(crate) fn assert_confined(pid: u32, capabilities: u64) {
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(threads(pid, set), [format!("{capabilities:016x}")], "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(threads(pid, set), [format!("{:016x}", 0)], "{set}");
    }
    assert_eq!(threads(pid, "NoNewPrivs:"), ["1"]);
    assert_eq!(threads(pid, "Seccomp:"), ["2"], "a filter");
}

/// The soft limit of this name, as the kernel writes it.
fn limit(pid: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

fn kib(pid: u32, field: &str) -> u64 {
    let value = threads(pid, field).remove(0);
    value.strip_suffix(" kB").unwrap().parse().unwrap()
}

/// What locked memory takes where the limit could not be lifted, as in a container.
pub(crate) fn memory_right(pid: u32) -> u64 {
    if limit(pid, "Max locked memory") == "unlimited" {
        0
    } else {
        IPC_LOCK
    }
}

fn restart(node: &mut Node) {
    node.stop().unwrap();
    node.start().unwrap();
}

#[test]
fn the_node_keeps_one_capability_and_the_controller_none() {
    let mut shop = Shop::open("confined", &[API_TO_DB]);

    // Where the kernel gives out ICMP sockets freely, as systemd sets it; else CAP_NET_RAW stays for pings.
    let everybody = "0 2147483647";
    shop.db.host().sysctl("ipv4/ping_group_range", everybody).unwrap();
    restart(&mut shop.db);

    let memory = memory_right(shop.db.running().pid());
    assert_confined(shop.mesh.controller().pid(), memory);
    assert_confined(shop.db.running().pid(), NET_ADMIN | memory);
    assert_confined(shop.api.running().pid(), NET_ADMIN | NET_RAW | memory);
    for log in [shop.db.log(), shop.mesh.controller().log()] {
        assert!(log.contains("files=\"whole\" calls=\"whole\""), "{log}");
    }
}

#[test]
fn memory_is_locked_stays_small_and_is_never_dumped() {
    let ours = u64::from_str_radix(&threads(std::process::id(), "CapEff:")[0], 16).unwrap();
    let lockable = ours & (SYS_RESOURCE | IPC_LOCK) != 0;
    let shop = Shop::start("locked");

    for (pid, log) in [
        (shop.db.running().pid(), shop.db.log()),
        (shop.mesh.controller().pid(), shop.mesh.controller().log()),
    ] {
        assert_eq!(limit(pid, "Max core file size"), "0");
        assert_eq!(kib(pid, "VmLck:") > 0, lockable, "{log}");
        assert_eq!(log.contains("may be written to swap"), !lockable, "{log}");
        // What is only reserved takes no memory.
        assert!(
            kib(pid, "VmRSS:") < RESIDENT_KIB_MAX,
            "{:?}",
            threads(pid, "VmRSS:")
        );
        assert!(Path::new(&format!("/proc/{pid}/mem")).exists());
    }
}

pub(crate) const NET_ADMIN: u64 = 1 << 12;
pub(crate) const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const SYS_RESOURCE: u64 = 1 << 24;
/// Of programs without optimisation, with all their debug information mapped.
const RESIDENT_KIB_MAX: u64 = 64 * 1024;
