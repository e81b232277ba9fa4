//! Measuring from inside: the controller asks nodes to try flows, and asks the targets what they saw.

use std::net::{IpAddr, SocketAddr};

use ringfence_model::{Name, PublicKey};
use serde::{Deserialize, Serialize};

/// Asks a node to try each of `probes` at once and to answer with a [`ProbeReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// Names this order in the answer.
    pub id: u64,
    /// The segment to try from; `None` for an outsider, who has no part in it.
    pub perimeter: Option<Name>,
    /// What to try; at most [`Self::PROBES_MAX`].
    pub probes: Vec<Probe>,
    /// How long to wait for each, in milliseconds; at most [`Self::WAIT_MS_MAX`].
    pub wait_ms: u64,
}

impl ProbeOrder {
    /// The most probes one order may hold; a node refuses a longer one.
    pub const PROBES_MAX: usize = 1024;
    /// The longest a node waits for one probe.
    pub const WAIT_MS_MAX: u64 = 10_000;
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// Open a TCP connection and close it.
    TcpConnect {
        /// The overlay address and port.
        dst: SocketAddr,
    },
    /// Send one UDP datagram. Silence proves nothing, so the target is asked what it saw.
    UdpSend {
        /// The overlay address and port.
        dst: SocketAddr,
    },
    /// Send one ICMP echo request.
    Ping {
        /// The overlay address.
        dst: IpAddr,
    },
    /// Send a WireGuard initiation from a key that nobody knows: a sound mesh stays silent.
    Handshake {
        /// The key of the segment to try.
        public_key: PublicKey,
        /// The underlay addresses to try it at.
        endpoints: Vec<SocketAddr>,
    },
}

/// What became of an order, one outcome for each probe in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The order's id.
    pub id: u64,
    /// In the order of the probes.
    pub results: Vec<ProbeOutcome>,
}

/// What became of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// What was observed.
    pub verdict: ProbeVerdict,
    /// The local address and port it was sent from (the port is the echo identifier for `Ping`), to ask the target by.
    pub src: Option<SocketAddr>,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// For people: the error as the system gave it.
    #[serde(default)]
    pub detail: String,
}

/// What was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVerdict {
    /// It was answered: connected, echoed, or the handshake was responded to.
    Answered,
    /// The target machine refused: TCP reset or ICMP port unreachable. The packet may have got through to it.
    Refused,
    /// It was refused by policy: ICMP administratively prohibited, or no permission to send.
    Prohibited,
    /// Nothing came back in time.
    Silent,
    /// It could not be tried.
    Failed,
}

/// Asks a node whether its segment has seen these flows as allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenQuestion {
    /// Names this question in the answer.
    pub id: u64,
    /// The segment asked.
    pub perimeter: Name,
    /// At most [`ProbeOrder::PROBES_MAX`].
    pub flows: Vec<SeenFlow>,
}

/// A flow as its initiator sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenFlow {
    /// The IANA protocol number.
    pub protocol: u8,
    /// The initiator; for ICMP echo the port is the identifier.
    pub src: SocketAddr,
    /// The target; for ICMP echo the port is zero.
    pub dst: SocketAddr,
}

/// Answers a [`SeenQuestion`], one for each flow in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAnswer {
    /// The question's id.
    pub id: u64,
    /// Whether the flow is in the flow table.
    pub seen: Vec<bool>,
}
