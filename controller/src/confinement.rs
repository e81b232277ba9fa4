//! What the controller keeps of its rights: its data directory, its port, and no capability.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use ringfence_confine::{CapabilitySet, Confined, Connect, Needs, confine};

use crate::data_dir::CONFIG_FILE;
use crate::init::{Config, port_of};

/// Gives up all but what [`crate::run::run`] needs. For the only thread of a process that has just begun.
///
/// # Errors
/// If capabilities cannot be given up.
pub fn give_up(data_dir: &Path) -> Result<Confined> {
    let port = port(data_dir);
    let needs = Needs {
        capabilities: capabilities(port),
        read: READ.map(Into::into).into(),
        write: vec![data_dir.to_owned()],
        sockets: Vec::new(),
        devices: Vec::new(),
        listen_tcp: port.into_iter().collect(),
        connect_tcp: Connect::Nowhere,
    };
    let confined = confine(&needs)?;
    confined.log();
    Ok(confined)
}

/// A port below 1024 takes a right of its own; nothing else does.
fn capabilities(port: Option<u16>) -> CapabilitySet {
    match port {
        Some(1..1024) => CapabilitySet::NET_BIND_SERVICE,
        Some(_) | None => CapabilitySet::empty(),
    }
}

/// Where it will listen. What is wrong with its files is said by the part that reads them in earnest.
fn port(data_dir: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(data_dir.join(CONFIG_FILE)).ok()?;
    let config: Config = toml::from_str(&text).ok()?;
    let advertised = config.advertise.first().map(|first| port_of(first));
    config.listen.as_ref().map(SocketAddr::port).or(advertised)
}

/// How many threads the machine has for it.
const READ: [&str; 2] = ["/proc/self", "/sys/fs/cgroup"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_low_port_leaves_a_capability() {
        assert_eq!(capabilities(Some(7443)), CapabilitySet::empty());
        assert_eq!(capabilities(None), CapabilitySet::empty());
        assert_eq!(capabilities(Some(443)), CapabilitySet::NET_BIND_SERVICE);
    }
}
