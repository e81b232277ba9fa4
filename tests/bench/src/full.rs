//! Throughput of nodes with as many rules and live flows as the goals speak of, against nodes with one of each.
//!
//! Two pairs of nodes are up at once and measured in turns. The flows of the full pair are datagrams to ports that
//! nobody listens on: the receiver's kernel counts them, which tells that each was let through and lives at both nodes.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfence_lab::wait_until;
use serde::{Deserialize, Serialize};

use crate::contender::{Contender, bring_up_under};
use crate::measure::{Seconds, iperf, udp};
use crate::run::Run;
use crate::summary::Spread;

/// What one pair carried in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullReading {
    /// Rules in force; the last of them is the one that what is measured needs.
    pub rules: usize,
    /// Live flows.
    pub flows: usize,
    /// One TCP stream, left to right, in 10^9 bits a second.
    pub gigabits: f64,
    /// Datagrams of 64 bytes a second.
    pub datagrams: f64,
}

/// A pair of nodes, and the sockets that keep its flows.
struct Pair {
    contender: Contender,
    rules: usize,
    sockets: Vec<UdpSocket>,
}

/// Measures both in turns.
///
/// # Errors
/// When one of them does not come up, or carries nothing.
pub fn readings(rounds: u32, seconds: Seconds) -> Result<Vec<FullReading>> {
    let pairs = [
        Pair::bring_up("bench-one", 1, 0)?,
        Pair::bring_up("bench-full", RULES, SOCKETS)?,
    ];
    let mut readings = Vec::new();
    for _ in 0..rounds {
        for pair in &pairs {
            readings.push(pair.measure(seconds)?);
        }
    }
    Ok(readings)
}

impl Pair {
    fn bring_up(lab: &str, rules: usize, sockets: usize) -> Result<Self> {
        let contender = bring_up_under(lab, &policy(rules))?;
        contender.wait_ping()?;
        let own = SocketAddr::new(contender.left.address, 0);
        let sockets = (0..sockets).map(|_| contender.left.host.udp_bind(own));
        Ok(Self {
            rules,
            sockets: sockets.collect::<Result<_, _>>()?,
            contender,
        })
    }

    fn measure(&self, seconds: Seconds) -> Result<FullReading> {
        self.refresh()?;
        let gigabits = iperf::run(&self.contender, 1, iperf::Way::Forward, seconds.tcp())?;
        self.refresh()?;
        let datagrams = udp::flood(&self.contender, 64, seconds.other())?;
        Ok(FullReading {
            rules: self.rules,
            flows: (self.sockets.len() * PORTS).max(1),
            gigabits: (gigabits * 1e4).round() / 1e4,
            datagrams: datagrams.round(),
        })
    }

    /// A datagram on every flow, which opens it or keeps it for half a minute more.
    fn refresh(&self) -> Result<()> {
        let before = self.unheard()?;
        // Twice, for what a queue loses.
        for socket in self.sockets.iter().chain(&self.sockets) {
            let ports: Vec<u16> = (FIRST_PORT..).take(PORTS).collect();
            for burst in ports.chunks(BURST) {
                for &port in burst {
                    // The receiver's kernel may have said that nobody listens: that is no failure.
                    let _ = socket.send_to(b"?", SocketAddr::new(self.contender.right.address, port));
                }
                thread::sleep(PACE);
            }
        }
        let sent = (2 * self.sockets.len() * PORTS) as u64;
        let arrived = || self.unheard().unwrap_or(before) - before;
        wait_until(ARRIVAL_WAIT, "a datagram on every flow", || {
            // One or two in a hundred are lost at this pace: hardly any flow loses both of its own.
            arrived() >= sent / 100 * 97
        })
        .with_context(|| format!("{} of {sent} datagrams arrived", arrived()))?;
        Ok(())
    }

    /// Datagrams that came to the right where nobody listens.
    fn unheard(&self) -> Result<u64> {
        let text = self
            .contender
            .right
            .host
            .command("cat")
            .arg("/proc/net/snmp")
            .text()?;
        let mut lines = text.lines().filter(|line| line.starts_with("Udp: "));
        let (names, values) = lines.next().zip(lines.next()).context("the kernel counts UDP")?;
        let named = names
            .split(' ')
            .zip(values.split(' '))
            .find(|(name, _)| *name == "NoPorts");
        let (_, value) = named.context("and what nobody listens for")?;
        ensure!(!value.is_empty(), "as a number");
        Ok(value.parse()?)
    }
}

impl Run {
    /// What the readings of the nodes with so many rules say together: of TCP and of datagrams.
    pub fn full_spread(&self, of: impl Fn(&FullReading) -> f64, full: bool) -> Option<Spread> {
        let same = self.full.iter().filter(|reading| (reading.rules > 1) == full);
        Spread::of(&same.map(of).collect::<Vec<f64>>())
    }
}

/// Rules for one port each, and last the one for everything.
fn policy(rules: usize) -> String {
    let mut text = String::from(
        "[perimeter]\nname = \"bench\"\nlease = \"1h\"\n[members]\nleft = { nodes = \"role=left\" }\n\
         right = { nodes = \"role=right\" }\n",
    );
    let ports = (FIRST_PORT..).take(rules - 1).map(|port| format!("udp/{port}"));
    for service in ports.chain(["any".to_owned()]) {
        text += "[[allow]]\nfrom = \"left\"\nto = \"right\"\nports = [\"";
        text += &service;
        text += "\"]\n";
    }
    text
}

const RULES: usize = 10_000;
const SOCKETS: usize = 100;
/// Each socket sends to so many, each of which a rule of its own opens.
const PORTS: usize = 1_000;
const FIRST_PORT: u16 = 10_000;
/// Sent at once: the kernel's queue before a TUN device holds 500 packets.
const BURST: usize = 100;
/// Between two bursts, so that no queue overflows.
const PACE: Duration = Duration::from_millis(1);
const ARRIVAL_WAIT: Duration = Duration::from_secs(5);
