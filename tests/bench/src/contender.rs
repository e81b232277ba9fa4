//! Who takes part: tunnels of different programs, each between two hosts of a lab of its own.
//!
//! Every contender gets the same network: two namespaces on one bridge, by veth, with an MTU of 1500.

mod cable;
mod nebula;
mod ringfence;
mod veth;
mod wireguard;

use std::any::Any;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ringfence_lab::{Host, Lab, Network, Program, Reach, wait_until};
use serde::{Deserialize, Serialize};

pub(crate) use cable::Cabled;

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Two nodes under their controller, with policy, flows and counters.
    Ringfence,
    /// The same with a node that was built without its cipher, to see what I/O alone can do.
    RingfenceNull,
    /// WireGuard's own program in Go.
    WireguardGo,
    /// Cloudflare's program.
    Boringtun,
    /// Mullvad's program.
    Gotatun,
    /// Nebula with ChaCha20-Poly1305.
    NebulaChacha,
    /// Nebula with AES-256-GCM, its default.
    NebulaAes,
    /// No tunnel: the network that all the others run over.
    Veth,
    /// The same with the kernel's segmentation and coalescing switched off.
    VethPlain,
}

/// A tunnel that is up.
pub struct Contender {
    /// What it is.
    pub kind: Kind,
    /// The version it gives.
    pub version: String,
    /// The largest packet that it takes.
    pub mtu_bytes: u16,
    pub(crate) left: End,
    pub(crate) right: End,
    /// What has to live as long as the tunnel. Programs end before the lab does.
    _keep: Box<dyn Any + Send + Sync>,
}

/// One end of a tunnel.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) host: Host,
    /// Its address inside the tunnel.
    pub(crate) address: IpAddr,
    /// The program that carries packets, if there is one.
    pub(crate) pid: Option<u32>,
}

impl Kind {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 9] = [
        Self::Ringfence,
        Self::RingfenceNull,
        Self::WireguardGo,
        Self::Boringtun,
        Self::Gotatun,
        Self::NebulaChacha,
        Self::NebulaAes,
        Self::Veth,
        Self::VethPlain,
    ];

    /// Its name on the command line and in the lab.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringfence => "ringfence",
            Self::RingfenceNull => "ringfence-null",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::NebulaChacha => "nebula-chacha",
            Self::NebulaAes => "nebula-aes",
            Self::Veth => "veth",
            Self::VethPlain => "veth-plain",
        }
    }

    /// Its name on the page.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ringfence => "ringfence",
            Self::RingfenceNull => "ringfence, no cipher",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
            Self::Gotatun => "gotatun-cli",
            Self::NebulaChacha => "nebula, ChaCha20",
            Self::NebulaAes => "nebula, AES-256",
            Self::Veth => "plain veth",
            Self::VethPlain => "veth, no offload",
        }
    }

    /// How it seals.
    pub fn cipher(self) -> &'static str {
        match self {
            Self::Ringfence | Self::WireguardGo | Self::Boringtun | Self::Gotatun | Self::NebulaChacha => {
                "ChaCha20-Poly1305"
            }
            Self::NebulaAes => "AES-256-GCM",
            Self::RingfenceNull | Self::Veth | Self::VethPlain => "none",
        }
    }

    /// Whether it is another program that speaks WireGuard.
    pub fn is_wireguard_peer(self) -> bool {
        matches!(self, Self::WireguardGo | Self::Boringtun | Self::Gotatun)
    }

    /// Whether it is another program that tunnels, and not a ceiling or ourselves.
    pub fn is_peer(self) -> bool {
        self.is_wireguard_peer() || matches!(self, Self::NebulaChacha | Self::NebulaAes)
    }
}

/// Brings a tunnel up and waits until a ping gets through.
///
/// # Errors
/// When its program is not installed or it does not come up; the error says which.
pub fn bring_up(kind: Kind, null_node: Option<&Path>) -> Result<Contender> {
    let contender = match kind {
        Kind::Ringfence => ringfence::bring_up(kind, None),
        Kind::RingfenceNull => {
            let node = null_node.context("needs a node built without its cipher: --null-node PATH")?;
            ringfence::bring_up(kind, Some(node))
        }
        Kind::WireguardGo | Kind::Boringtun | Kind::Gotatun => wireguard::bring_up(kind),
        Kind::NebulaChacha | Kind::NebulaAes => nebula::bring_up(kind),
        Kind::Veth | Kind::VethPlain => veth::bring_up(kind),
    }?;
    contender.wait_ping()?;
    Ok(contender)
}

/// Two nodes of our own in a lab named `lab`, under `policy`.
///
/// # Errors
/// When they do not come up.
pub(crate) fn bring_up_under(lab: &str, policy: &str) -> Result<Contender> {
    ringfence::bring_up_under(lab, policy)
}

impl Contender {
    /// Waits until a ping gets through.
    ///
    /// # Errors
    /// When none does.
    pub(crate) fn wait_ping(&self) -> Result<()> {
        let there = self.right.address;
        wait_until(UP_WAIT, "a ping through the tunnel", || {
            self.left.host.try_ping(there, Duration::from_secs(1)) == Reach::Open
        })?;
        Ok(())
    }
}

/// Two hosts on one network, at `10.80.0.1` and `10.80.0.2`.
struct Stage {
    lab: Lab,
    left: Host,
    right: Host,
    _network: Network,
}

impl Stage {
    fn new(kind: Kind) -> Result<Self> {
        let lab = Lab::new(kind.name())?;
        let network = lab.network("lan")?;
        let (left, right) = (lab.host("left")?, lab.host("right")?);
        left.join(&network, &[&format!("{OUTER_LEFT}/24")])?;
        right.join(&network, &[&format!("{OUTER_RIGHT}/24")])?;
        Ok(Self {
            lab,
            left,
            right,
            _network: network,
        })
    }

    /// Both ends, the left one first, with the outer address of the other.
    fn ends(&self) -> [(&Host, &'static str); 2] {
        [(&self.left, OUTER_RIGHT), (&self.right, OUTER_LEFT)]
    }
}

/// `ip` on a host.
fn ip(host: &Host, line: &str) -> Result<()> {
    let command: Program = host.command("ip").args(line.split(' '));
    command.text()?;
    Ok(())
}

/// As it is run in earnest: warnings are logged, and nothing for each packet or flow.
const LOG: &str = "warn";
const OUTER_LEFT: &str = "10.80.0.1";
const OUTER_RIGHT: &str = "10.80.0.2";
const INNER: [&str; 2] = ["10.90.0.1", "10.90.0.2"];
/// What the usual WireGuard tools choose over an Ethernet of 1500: room for IPv6 outside.
const TUNNEL_MTU_BYTES: u16 = 1420;
const UP_WAIT: Duration = Duration::from_secs(20);
