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
fn assert_confined(pid: u32, capabilities: u64) {
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(threads(pid, set), [format!("{capabilities:016x}")], "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(threads(pid, set), [format!("{:016x}", 0)], "{set}");
    }
    assert_eq!(threads(pid, "NoNewPrivs:"), ["1"]);
    assert_eq!(threads(pid, "Seccomp:"), ["2"], "a filter");
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

    assert_confined(shop.mesh.controller().pid(), 0);
    assert_confined(shop.db.running().pid(), NET_ADMIN);
    assert_confined(shop.api.running().pid(), NET_ADMIN | NET_RAW);
    for log in [shop.db.log(), shop.mesh.controller().log()] {
        assert!(log.contains("files=\"whole\" calls=\"whole\""), "{log}");
    }
}

#[test]
fn memory_is_locked_where_there_is_no_limit_to_it_and_never_dumped() {
    let shop = Shop::start("locked");

    for (pid, log) in [
        (shop.db.running().pid(), shop.db.log()),
        (shop.mesh.controller().pid(), shop.mesh.controller().log()),
    ] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let limit = |name: &str| {
            limits
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned()
        };
        assert_eq!(limit("Max core file size").split_whitespace().nth(4), Some("0"));
        let locked = threads(pid, "VmLck:") != ["0 kB"];
        let unlimited = limit("Max locked memory").split_whitespace().nth(3) == Some("unlimited");
        assert_eq!(locked, unlimited, "{limits}");
        assert_eq!(log.contains("may be written to swap"), !unlimited, "{log}");
        assert!(Path::new(&format!("/proc/{pid}/mem")).exists());
    }
}

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
