//! What the controller keeps of its rights: its data directory, its port, the way to identity providers, and no
//! capability.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use ringfence_confine::{CapabilitySet, Confined, Connect, Needs, RESOLVER_FILES, confine};

use crate::data_dir::CONFIG_FILE;
use crate::init::{Config, port_of};

/// Gives up all but what [`crate::run::run`] needs. For the only thread of a process that has just begun.
///
/// # Errors
/// If capabilities cannot be given up.
pub fn give_up(data_dir: &Path) -> Result<Confined> {
    let config = config(data_dir);
    let port = config.as_ref().and_then(port);
    let mut connect = CONNECT.to_vec();
    connect.extend(
        config
            .iter()
            .flat_map(|config| config.provider_ports.iter().copied()),
    );
    let needs = Needs {
        capabilities: capabilities(port),
        read: READ.iter().chain(&RESOLVER_FILES).map(Into::into).collect(),
        write: vec![data_dir.to_owned()],
        sockets: Vec::new(),
        devices: Vec::new(),
        listen_tcp: port.into_iter().collect(),
        connect_tcp: Connect::Ports(connect),
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

/// What it is run with. What is wrong with its files is said by the part that reads them in earnest.
fn config(data_dir: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(data_dir.join(CONFIG_FILE)).ok()?;
    toml::from_str(&text).ok()
}

/// Where it will listen.
fn port(config: &Config) -> Option<u16> {
    let advertised = config.advertise.first().map(|first| port_of(first));
    config.listen.as_ref().map(SocketAddr::port).or(advertised)
}

/// Identity providers, and long answers to name queries.
const CONNECT: [u16; 2] = [443, 53];

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
