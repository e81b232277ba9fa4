//! A node's local socket: one JSON request a line, one JSON answer a line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ringfence_model::{Name, NodeId, PublicKey, Revision};
use serde::{Deserialize, Serialize};

use crate::api::AccessView;
use crate::{
    AccessErrand, AuthorizationCode, LocalGain, LocalProof, LoginMethod, PeerKind, SessionFacts, WhyQuestion,
    WhyReport,
};

/// What may be asked: `{"request":"status"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum LocalRequest {
    /// The state of the node: answered by [`LocalResponse::Status`].
    Status,
    /// Reach a peer through the tunnel: answered by [`LocalResponse::Ping`] once all are answered or lost.
    Ping {
        /// The peer's name, or its id.
        peer: String,
        /// In which perimeter; the first that has the peer if absent.
        #[serde(default)]
        perimeter: Option<Name>,
        /// How many; 1 to [`PINGS_MAX`].
        #[serde(default = "one")]
        count: u32,
        /// How long to wait for each, in milliseconds.
        #[serde(default = "ping_wait_ms")]
        wait_ms: u64,
    },
    /// Begin a person's login: answered by [`LocalResponse::LoginStarted`].
    Login {
        /// At which provider; the only one if absent.
        #[serde(default)]
        provider: Option<Name>,
        /// How the person gets there.
        method: LoginMethod,
        /// Whether a second factor has to be proved anew.
        #[serde(default)]
        step_up: bool,
    },
    /// What their browser brought back: answered by [`LocalResponse::Session`]. For the user who began the login alone.
    LoginCode {
        /// Of which login.
        login: u64,
        /// The code.
        code: AuthorizationCode,
        /// The state it came with.
        state: String,
        /// The issuer it came from, if it said.
        #[serde(default)]
        issuer: Option<String>,
    },
    /// Wait for a login with [`LoginMethod::Device`] to end: answered by [`LocalResponse::Session`].
    LoginWait {
        /// Which.
        login: u64,
    },
    /// Give a login up: answered by [`LocalResponse::Session`] without one.
    LoginEnd {
        /// Which.
        login: u64,
    },
    /// What a person says about their local account: answered by [`LocalResponse::LocalLogin`].
    LocalLogin {
        /// What they log in as; with a code alone, whoever is logged in here if absent.
        #[serde(default)]
        name: Option<Name>,
        /// What they say.
        proof: LocalProof,
    },
    /// Who is logged in here: answered by [`LocalResponse::Session`].
    WhoAmI,
    /// End the session: answered by [`LocalResponse::Session`] with the one that ended.
    Logout,
    /// Access on request for who is logged in here: answered by [`LocalResponse::Access`].
    Access {
        /// What is to be done.
        errand: AccessErrand,
    },
    /// Why something can be reached from here, or not: answered by [`LocalResponse::Why`].
    Why {
        /// What.
        question: WhyQuestion,
    },
    /// The program's version: answered by [`LocalResponse::Version`].
    Version,
}

/// What is answered: `{"response":"version","version":"0.1.0"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum LocalResponse {
    /// To [`LocalRequest::Status`].
    Status(StatusReport),
    /// To [`LocalRequest::Ping`].
    Ping(PingReport),
    /// To [`LocalRequest::Login`].
    LoginStarted {
        /// Names the login in what follows.
        login: u64,
        /// Where the person goes.
        url: String,
        /// What to enter there, with [`LoginMethod::Device`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_code: Option<String>,
        /// What the browser must bring back, with [`LoginMethod::Loopback`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// How long it may take, in seconds.
        expires_in_s: u64,
    },
    /// To [`LocalRequest::WhoAmI`] and what ends a login.
    Session {
        /// The session, if there is one.
        session: Option<SessionFacts>,
    },
    /// To [`LocalRequest::LocalLogin`].
    LocalLogin(LocalGain),
    /// To [`LocalRequest::Access`].
    Access {
        /// What is asked for and granted; of a request the new one alone.
        access: Vec<AccessView>,
    },
    /// To [`LocalRequest::Why`].
    Why {
        /// The answer.
        report: Box<WhyReport>,
    },
    /// To [`LocalRequest::Version`].
    Version {
        /// As in `ringfence-node --version`.
        version: String,
    },
    /// It could not be done.
    Error(LocalError),
}

/// Why a local request could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct LocalError {
    /// For programs.
    pub code: LocalErrorCode,
    /// For people.
    pub message: String,
}

/// The kinds of [`LocalError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalErrorCode {
    /// The line is not a request.
    BadRequest,
    /// The caller may not ask this.
    Denied,
    /// No such peer or perimeter here.
    NotFound,
    /// This node has no identity yet.
    NotEnrolled,
    /// It did not happen in time.
    Timeout,
    /// Something broke; the log says what.
    Internal,
}

/// The state of a node, as `ringfence status --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node's name.
    pub node: Name,
    /// Its id.
    pub id: NodeId,
    /// The mesh it belongs to.
    pub mesh: Name,
    /// The program's version.
    pub version: String,
    /// The UDP port of its tunnels.
    pub listen_port: u16,
    /// The control channel.
    pub controller: ControllerStatus,
    /// By perimeter, in order of name.
    pub segments: Vec<SegmentStatus>,
    /// Packets and datagrams refused since start, by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// Each lane, if the node has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<LaneStatus>,
}

/// One lane of a node: a thread with a socket and sessions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// The UDP port of its tunnels.
    pub port: u16,
    /// Bytes of datagrams received, in all sessions that last.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent.
    pub tx_bytes: u64,
}

/// The control channel of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// Whether it is up.
    pub connected: bool,
    /// Where the controller is, as configured or last reached.
    #[serde(default)]
    pub address: Option<String>,
    /// Why the last attempt failed, while not connected.
    #[serde(default)]
    pub error: Option<String>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// The perimeter it is of.
    pub perimeter: Name,
    /// Its TUN device.
    pub interface: String,
    /// Its key; absent until it has one.
    pub public_key: Option<PublicKey>,
    /// Its overlay addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The revision in force.
    #[serde(with = "crate::text")]
    pub revision: Revision,
    /// Seconds until it closes unless the controller speaks; 0 when closed.
    pub lease_seconds: u64,
    /// The peers allowed, in order of name; none while closed.
    pub peers: Vec<PeerStatus>,
}

/// One peer of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub node: Name,
    /// Its id.
    pub id: NodeId,
    /// What runs there.
    pub kind: PeerKind,
    /// Its key.
    pub public_key: PublicKey,
    /// Its overlay addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Where datagrams to it go now.
    pub endpoint: Option<SocketAddr>,
    /// When the latest handshake completed, in seconds since 1970, as `wg show` prints it.
    pub latest_handshake: Option<u64>,
    /// Bytes of datagrams received.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent.
    pub tx_bytes: u64,
}

/// What became of a [`LocalRequest::Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReport {
    /// The peer's name.
    pub peer: Name,
    /// The perimeter it was reached in.
    pub perimeter: Name,
    /// The overlay address that was asked.
    pub address: IpAddr,
    /// Where its datagrams go.
    pub endpoint: Option<SocketAddr>,
    /// Round-trip times in microseconds, in order; null where none came back in time.
    pub rtt_us: Vec<Option<u64>>,
}

fn one() -> u32 {
    1
}

fn ping_wait_ms() -> u64 {
    1000
}

/// The most pings one request may ask for.
pub const PINGS_MAX: u32 = 100;
/// The longest line of a request; a longer one ends the connection.
pub const REQUEST_BYTES_MAX: usize = 4096;
/// The longest line of an answer.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_has_the_published_shape() {
        let report = StatusReport {
            node: Name::parse("db-1").unwrap(),
            id: NodeId(1),
            mesh: Name::parse("acme").unwrap(),
            version: "0.1.0".into(),
            listen_port: 51820,
            controller: ControllerStatus {
                connected: true,
                ..ControllerStatus::default()
            },
            segments: vec![SegmentStatus {
                perimeter: Name::parse("payments-db").unwrap(),
                interface: "rf-payments-db".into(),
                public_key: None,
                addresses: vec!["100.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                revision: Revision { term: 1, n: 7 },
                lease_seconds: 590,
                peers: vec![PeerStatus {
                    node: Name::parse("api-1").unwrap(),
                    id: NodeId(2),
                    kind: PeerKind::Node,
                    public_key: PublicKey::from_bytes([9; 32]),
                    addresses: vec!["100.64.0.2".parse().unwrap()],
                    endpoint: Some("192.0.2.1:51820".parse().unwrap()),
                    latest_handshake: None,
                    rx_bytes: 1,
                    tx_bytes: 2,
                }],
            }],
            drops: BTreeMap::new(),
            lanes: Vec::new(),
        };

        let json = serde_json::to_value(&report).unwrap();

        assert_eq!(json["node"], "db-1");
        assert_eq!(json["controller"]["connected"], true);
        let segment = &json["segments"][0];
        for key in [
            "perimeter",
            "interface",
            "public_key",
            "addresses",
            "revision",
            "lease_seconds",
            "peers",
        ] {
            assert!(segment.get(key).is_some(), "{key} is missing");
        }
        assert_eq!(segment["revision"], "1.7");
        let peer = &segment["peers"][0];
        for key in [
            "node",
            "public_key",
            "addresses",
            "endpoint",
            "latest_handshake",
            "rx_bytes",
            "tx_bytes",
        ] {
            assert!(peer.get(key).is_some(), "{key} is missing");
        }
        assert_eq!(peer["endpoint"], "192.0.2.1:51820");
    }

    #[test]
    fn requests_are_short_lines() {
        let ping: LocalRequest = serde_json::from_str(r#"{"request":"ping","peer":"db-1"}"#).unwrap();

        assert!(matches!(
            ping,
            LocalRequest::Ping {
                count: 1,
                perimeter: None,
                ..
            }
        ));
        assert_eq!(
            serde_json::to_string(&LocalRequest::Status).unwrap(),
            r#"{"request":"status"}"#
        );
        assert!(serde_json::from_str::<LocalRequest>(r#"{"request":"reboot"}"#).is_err());
        let answer = LocalResponse::Version {
            version: "0.1.0".into(),
        };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"response":"version","version":"0.1.0"}"#
        );
    }
}
