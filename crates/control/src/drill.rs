//! Measuring a revocation: two nodes keep a flow of their own going, and the one that opened it tells when it died.

use std::net::SocketAddr;

use ringfence_model::Name;
use serde::{Deserialize, Serialize};

/// Asks a node to take its part in a drill; it answers with a [`DrillReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillOrder {
    /// Names this order in the answer.
    pub id: u64,
    /// The segment that the flow is in.
    pub perimeter: Name,
    /// What to do.
    pub part: DrillPart,
    /// For how long at most, in milliseconds; at most [`Self::WAIT_MS_MAX`].
    pub wait_ms: u64,
}

/// The two ends of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillPart {
    /// Send every datagram that comes to this UDP port of the segment back, and report as soon as the port is held.
    Answer {
        /// The port, of the segment's IPv4 address.
        port: u16,
    },
    /// Send datagrams until answers, once there were some, stay away for [`DrillOrder::QUIET_MS`]; then report.
    Send {
        /// The overlay address and port.
        dst: SocketAddr,
    },
}

impl DrillOrder {
    /// The longest a part lasts.
    pub const WAIT_MS_MAX: u64 = 30_000;
    /// How long no answer comes before the flow counts as dead. A flow whose path loses less than this in one go lives.
    pub const QUIET_MS: u64 = 400;
    /// How long after each other datagrams leave, which is how finely the end of the flow is told.
    pub const SEND_EVERY_MS: u64 = 1;
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// The order's id.
    pub id: u64,
    /// Datagrams that came back; none for who answers.
    pub answered: u64,
    /// How long before this report the last one did, in microseconds: no two clocks need to agree.
    pub quiet_us: u64,
    /// Why it could not be done, for people; empty if it was.
    #[serde(default)]
    pub failure: String,
}

impl DrillReport {
    /// What is said for a node that knows no drills.
    pub fn too_old(id: u64) -> Self {
        Self {
            id,
            answered: 0,
            quiet_us: 0,
            failure: "the node is too old for drills: have it updated".to_owned(),
        }
    }
}

/// The first [`crate::CAPABILITY`] with drills.
pub const DRILL_SINCE: u32 = 5;
