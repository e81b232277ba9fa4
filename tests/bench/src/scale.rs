//! What very many peers and perimeters cost one node that has nothing to do: memory, wake-ups, and asking it.
//!
//! The peers are devices of a perimeter, added at a real controller over its API; the node knows each by its key, rules
//! and addresses, as it knows any peer. Sessions are made by stock WireGuard clients in this process. The node is
//! started anew for each number of peers, so that what it had to know before is not counted.

mod process;
mod status;

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ringfence_e2e::{Allow, Crowd, Mesh, Node, NodeOptions, perimeter};
use ringfence_lab::{Host, Lab, wait_until};
use serde::{Deserialize, Serialize};

use process::Process;
pub use status::StatusReading;

/// Everything that was found out about very many peers and perimeters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// A node with so many peers, with and without sessions, and in so many perimeters.
    pub idle: Vec<IdleReading>,
    /// Asking the node that has the most peers.
    pub status: Option<StatusReading>,
}

/// A node that has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdleReading {
    /// Perimeters it is in.
    pub perimeters: u32,
    /// Peers it knows in all of them.
    pub peers: u32,
    /// Sessions it has with them.
    pub sessions: u32,
    /// Resident memory, KiB.
    pub resident_kib: u64,
    /// The most it ever was since the node's start, KiB.
    pub peak_kib: u64,
    /// How often any of its threads was switched to, a second.
    pub wakeups: f64,
    /// How often the thread that carries packets was.
    pub packet_wakeups: f64,
    /// CPU time it used, in milliseconds a second.
    pub cpu_ms: f64,
}

impl Scale {
    /// What each peer, session or perimeter of `reading` takes, in KiB, beside the least node that has more of only that.
    /// `None` for the least itself.
    pub fn more_for_each(&self, reading: &IdleReading) -> Option<f64> {
        let (least, count) = if reading.perimeters > 1 {
            let least = self.idle.iter().rfind(|other| other.perimeters == 1)?;
            (least, reading.perimeters - least.perimeters)
        } else if reading.sessions > 0 {
            let without = |other: &&IdleReading| other.sessions == 0 && other.peers == reading.peers;
            (self.idle.iter().find(without)?, reading.sessions)
        } else {
            let least = self.idle.first()?;
            (least, reading.peers.checked_sub(least.peers)?)
        };
        // One alone is lost in what else moves.
        let more = reading.resident_kib as f64 - least.resident_kib as f64;
        (count > 1).then(|| more / f64::from(count))
    }
}

/// Takes all readings; `say` is told how it goes.
///
/// # Errors
/// When a node does not come up, or does not know who it should.
pub fn readings(peers: &[u32], perimeters: &[u32], say: impl Fn(&str)) -> Result<Scale> {
    let mut scale = Scale::default();
    peers_of_one(peers, &mut scale, &say)?;
    for &perimeters in perimeters {
        say(&format!("a node in {perimeters} perimeters"));
        scale.idle.push(in_perimeters(perimeters)?);
    }
    Ok(scale)
}

fn peers_of_one(sizes: &[u32], scale: &mut Scale, say: &impl Fn(&str)) -> Result<()> {
    let mut mesh = Mesh::start_in(Lab::new("bench-crowd")?, LOG)?;
    let (hub_host, outside) = (mesh.bare_host("hub")?, mesh.bare_host("crowd")?);
    hub_host.route("10.78.0.0/24", &outside.address().to_string())?;
    let mut hub = hub(&mesh, &hub_host)?;
    let mut crowd = Crowd::on(&outside, PERIMETER)?;
    for &size in sizes {
        say(&format!("a node with {size} peers"));
        // Nobody is told of devices that may talk to nobody: they are added much faster.
        mesh.apply(&policy(PERIMETER, &[]))?;
        crowd.grow(&mesh, size)?;
        mesh.apply(&policy(PERIMETER, &RULES))?;
        wait_peers(&hub, size)?;
        hub.stop()?;
        hub.start()?;
        wait_peers(&hub, size)?;
        scale.idle.push(idle(&hub, (1, size, 0))?);
        let _sessions = crowd.connect(&hub.public_key(PERIMETER)?, hub.endpoint()?)?;
        scale.idle.push(idle(&hub, (1, size, size))?);
    }
    say("asking the node that has the most peers");
    let probe = mesh.node("probe", &["role=probe"])?;
    mesh.wait_enforced()?;
    scale.status = Some(status::reading(&hub, probe.overlay(PERIMETER)?.v4)?);
    Ok(())
}

fn in_perimeters(count: u32) -> Result<IdleReading> {
    let mut mesh = Mesh::start_in(Lab::new("bench-segments")?, LOG)?;
    let hub_host = mesh.bare_host("hub")?;
    let hub = hub(&mesh, &hub_host)?;
    let _other = mesh.node("probe", &["role=probe"])?;
    let names: Vec<String> = (1..=count).map(|number| format!("p{number}")).collect();
    for name in &names {
        mesh.apply(&policy(name, &RULES))?;
    }
    mesh.wait_enforced()?;
    for name in &names {
        hub.wait_peer(name, "probe")?;
    }
    let mut hub = hub;
    hub.stop()?;
    hub.start()?;
    for name in &names {
        hub.wait_peer(name, "probe")?;
    }
    idle(&hub, (count, count, 0))
}

fn hub(mesh: &Mesh, host: &Host) -> Result<Node> {
    mesh.node_on(host, "hub", &["role=hub"], NodeOptions::default())
}

fn idle(node: &Node, (perimeters, peers, sessions): (u32, u32, u32)) -> Result<IdleReading> {
    thread::sleep(SETTLING);
    let pid = node.running().pid();
    let before = Process::of(pid)?;
    thread::sleep(WATCHED);
    let after = Process::of(pid)?;
    let a_second = |count: u64| round(count as f64 / WATCHED.as_secs_f64());
    Ok(IdleReading {
        perimeters,
        peers,
        sessions,
        resident_kib: after.resident_kib,
        peak_kib: after.peak_kib,
        wakeups: a_second(after.switches - before.switches),
        packet_wakeups: a_second(after.packet_switches - before.packet_switches),
        cpu_ms: a_second(after.cpu_ms - before.cpu_ms),
    })
}

/// Until the node lists them all.
fn wait_peers(node: &Node, count: u32) -> Result<()> {
    let mut listed = 0;
    wait_until(LISTING, "every peer to be on the allowlist", || {
        let segment = node.segment(PERIMETER).ok();
        listed = segment
            .and_then(|segment| Some(segment["peers"].as_array()?.len()))
            .unwrap_or(0);
        listed == count as usize
    })
    .with_context(|| format!("{listed} of {count} are; its log:\n{}", node.log()))?;
    Ok(())
}

fn policy(name: &str, rules: &[Allow]) -> String {
    let groups = [
        ("hub", "role=hub"),
        ("device", "role=device"),
        ("probe", "role=probe"),
    ];
    perimeter(name, "1h", &groups, rules)
}

const fn any(from: &'static str, to: &'static str) -> Allow {
    Allow {
        from,
        to,
        port: "any",
    }
}

/// Two digits behind the point, in a file that people can read.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Devices talk to the hub alone, so it alone has to know very many peers.
const RULES: [Allow; 3] = [any("device", "hub"), any("hub", "device"), any("hub", "probe")];
const PERIMETER: &str = "crowd";
const LOG: &str = "warn";
/// What starting leaves to do is done by then.
const SETTLING: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(20);
const LISTING: Duration = Duration::from_mins(1);
