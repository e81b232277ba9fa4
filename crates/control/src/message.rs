//! What node and controller say to each other, in both directions.
//!
//! The kind is a number outside the body, because serde cannot skip an enum variant it does not know. Bodies are CBOR
//! maps: a reader ignores fields it does not know and gives those it misses their default. A field added later
//! therefore carries `#[serde(default)]`; a kind is never given a second meaning.
//!
//! **Invariant:** no frame makes [`Message::decode`] panic, and a body is taken whole or not at all.

use ringfence_model::{Candidate, Name, NodeId, PublicKey, Revision, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::access::{AccessAnswer, AskAccess};
use crate::account::{LocalLogin, LocalLoginDone};
use crate::drill::{DrillOrder, DrillReport};
use crate::frame::encode_frame_within;
use crate::login::{AskSession, EndLogin, LoginCode, LoginDone, LoginStart, LoginStarted, SessionAnswer};
use crate::probe::{ProbeOrder, ProbeReport, SeenAnswer, SeenQuestion};
use crate::tpm::{TpmChallenge, TpmOffer, TpmProof};
use crate::why::{AskWhy, WhyAnswer};
use crate::{
    Delta, FRAME_BYTES_MAX, FlowRecords, FlowRecordsTaken, Frame, FrameError, NETMAP_BYTES_MAX, Netmap,
    PostureOrder, PostureReport,
};

/// Everything one end may say, as frames.
pub trait Message: Sized {
    /// The longest body; both ends hold to it.
    const BODY_BYTES_MAX: usize;

    /// The whole frame, ready to send.
    ///
    /// # Errors
    /// [`MessageError::Frame`] if it is too long.
    fn encode(&self) -> Result<Vec<u8>, MessageError>;

    /// Reads a frame; `None` if its kind is unknown, which is skipped.
    ///
    /// # Errors
    /// [`MessageError::Body`] if the body is not of that kind.
    fn decode(frame: &Frame) -> Result<Option<Self>, MessageError>;
}

/// Why a message cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The body is not CBOR, or not of this kind.
    #[error("the {kind} message is malformed: {why}")]
    Body {
        /// The kind, in words.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Writes an enum of messages with its kinds: number, variant, type of the body.
macro_rules! messages {
    ($(#[$doc:meta])* $name:ident, $limit:expr, { $($(#[$variant_doc:meta])* $kind:literal => $variant:ident($body:ty),)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant($body),)*
        }

        impl $name {
            /// The kind in words, for logs.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($variant),)*
                }
            }
        }

        impl Message for $name {
            const BODY_BYTES_MAX: usize = $limit;

            fn encode(&self) -> Result<Vec<u8>, MessageError> {
                match self {
                    $(Self::$variant(body) => encode_body(Self::BODY_BYTES_MAX, $kind, self.kind(), body),)*
                }
            }

            fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
                Ok(match frame.kind {
                    $($kind => Some(Self::$variant(decode_body(stringify!($variant), &frame.body)?)),)*
                    _ => None,
                })
            }
        }
    };
}

messages! {
    /// What a node says.
    ToController, FRAME_BYTES_MAX, {
        /// Opens the conversation.
        1 => Hello(Hello),
        /// Gives the key of a segment.
        2 => RegisterKey(RegisterKey),
        /// Where this node may be reached; replaces what it said before.
        3 => Candidates(Vec<Candidate>),
        /// A revision is in force.
        4 => Enforced(Enforced),
        /// A netmap was not taken; the one in force stays. Asks for the full one.
        5 => NetmapRefused(NetmapRefused),
        /// Asks for a new certificate.
        6 => Renew(Renew),
        /// Answers [`ToNode::Probe`].
        7 => ProbeResult(ProbeReport),
        /// Answers [`ToNode::AskSeen`].
        8 => Seen(SeenAnswer),
        /// Answers [`ToNode::Ping`].
        9 => Pong(Ping),
        /// Conversations that ended; sent again until [`ToNode::FlowRecordsTaken`] answers.
        10 => FlowRecords(FlowRecords),
        /// What it found about its machine; answers [`ToNode::PostureOrder`].
        11 => Posture(PostureReport),
        /// Begins a person's login.
        12 => LoginStart(LoginStart),
        /// What their browser brought back.
        13 => LoginCode(LoginCode),
        /// Gives a login up.
        14 => EndLogin(EndLogin),
        /// Asks who is logged in, or logs them out.
        15 => AskSession(AskSession),
        /// Asks why something can be reached from the node, or not.
        16 => AskWhy(AskWhy),
        /// Asks for access on request, for the person at the node.
        17 => AskAccess(AskAccess),
        /// Shows the TPM of its machine.
        18 => TpmOffer(TpmOffer),
        /// Answers [`ToNode::Drill`].
        19 => DrillResult(DrillReport),
        /// What a person says about their local account.
        20 => LocalLogin(LocalLogin),
        /// Answers [`ToNode::TpmChallenge`].
        22 => TpmProof(TpmProof),
    }
}

messages! {
    /// What a controller says.
    ToNode, NETMAP_BYTES_MAX, {
        /// Answers [`ToController::Hello`].
        101 => Welcome(Welcome),
        /// Everything this node may know. What it omits is gone.
        102 => Full(Netmap),
        /// What changed.
        103 => Delta(Delta),
        /// Where a peer may be reached; replaces what was said before. Outside netmap and revision, for it moves often.
        104 => PeerCandidates(PeerCandidates),
        /// Word from the controller: extends the lease of every segment to its full length.
        105 => Lease(Lease),
        /// Answers [`ToController::Renew`].
        106 => Renewed(Renewed),
        /// Asks for attempts.
        107 => Probe(ProbeOrder),
        /// Asks what a segment has seen.
        108 => AskSeen(SeenQuestion),
        /// Something this node asked for is refused.
        109 => Refused(Refused),
        /// This node is no longer part of the mesh.
        110 => Goodbye(Goodbye),
        /// Asks for a sign of life.
        111 => Ping(Ping),
        /// Answers [`ToController::FlowRecords`].
        112 => FlowRecordsTaken(FlowRecordsTaken),
        /// What to look up about the machine; replaces what was said before.
        113 => PostureOrder(PostureOrder),
        /// Answers [`ToController::LoginStart`].
        114 => LoginStarted(LoginStarted),
        /// How a login ended.
        115 => LoginDone(LoginDone),
        /// Answers [`ToController::AskSession`].
        116 => SessionAnswer(SessionAnswer),
        /// Answers [`ToController::AskWhy`].
        118 => WhyAnswer(WhyAnswer),
        /// Answers [`ToController::AskAccess`].
        119 => AccessAnswer(AccessAnswer),
        /// Has the TPM prove that it is there; the first answers [`ToController::TpmOffer`].
        120 => TpmChallenge(TpmChallenge),
        /// Asks for a part in a drill.
        121 => Drill(DrillOrder),
        /// Answers [`ToController::LocalLogin`].
        122 => LocalLoginDone(LocalLoginDone),
    }
}

/// Opens a node's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it can do: see [`CAPABILITY`].
    pub capability: u32,
    /// The program's version, for people.
    pub version: String,
    /// The revision in force, if there is one.
    pub revision: Option<Revision>,
    /// The content hash of that netmap: when it is what the controller would send, a delta does.
    pub netmap_hash: Option<[u8; 32]>,
    /// The UDP port of its tunnels, to make a candidate with the address its connection comes from.
    pub listen_port: u16,
    /// Another number than before: the node has lost its sessions with its peers. Zero says nothing.
    #[serde(default)]
    pub epoch: u64,
    /// The UDP ports of its further lanes, in order, at most [`LANES_MAX`] with the first, which is
    /// [`Self::listen_port`]. Lane and lane of two nodes have sessions of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lane_ports: Vec<u16>,
}

/// Gives the public key of a segment, proved to come from the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterKey {
    /// Of which perimeter.
    pub perimeter: Name,
    /// The key.
    pub public_key: PublicKey,
    /// By the node's identity key, over [`registration_bytes`].
    pub signature: Vec<u8>,
}

/// Acknowledges a revision: from now on no packet is judged by an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// Which.
    pub revision: Revision,
    /// From its arrival until it was in force, in microseconds.
    pub took_us: u64,
}

/// Refuses a netmap or delta, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetmapRefused {
    /// The one refused.
    pub revision: Revision,
    /// For people.
    pub why: String,
}

/// Asks for a new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// PKCS#10. Only its key counts; the identity is that of the connection.
    pub csr_der: Vec<u8>,
}

impl Renew {
    /// Whether it is time to ask: two thirds of the certificate's life are over.
    pub fn is_due(not_before: UnixMillis, not_after: UnixMillis, wall: UnixMillis) -> bool {
        let life = not_after.0.saturating_sub(not_before.0);
        wall.0 >= not_before.0.saturating_add(life / 3 * 2)
    }
}

/// Opens the controller's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// What both ends can do.
    pub capability: u32,
    /// The mesh.
    pub mesh: Name,
    /// The controller's clock.
    pub wall: UnixMillis,
}

/// Where a peer may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCandidates {
    /// Which peer.
    pub peer: NodeId,
    /// Best first; empty if it is gone.
    pub candidates: Vec<Candidate>,
    /// Its [`Hello::epoch`].
    #[serde(default)]
    pub epoch: u64,
    /// Its [`Hello::lane_ports`], at the same addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lane_ports: Vec<u16>,
}

/// The most lanes of one node.
pub const LANES_MAX: usize = 16;

/// Extends leases, if the node stands where the controller believes it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The newest revision the controller has sent this node.
    pub revision: Revision,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// Leaf first.
    pub certificate_chain_pem: String,
}

/// A refusal that leaves the conversation open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For people.
    pub reason: String,
}

/// The last word to a node that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// For people.
    pub reason: String,
}

/// Asks for a sign of life, and is echoed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Comes back as it went.
    pub id: u64,
}

/// What a node signs to register a key.
///
/// Names the purpose first and the mesh, node and perimeter with it, so that a signature made for one cannot be used
/// for another. A zero byte ends each name, which cannot hold one.
pub fn registration_bytes(mesh: &Name, node: NodeId, perimeter: &Name, public_key: &PublicKey) -> Vec<u8> {
    let mut bytes = b"ringfence register-key v1\0".to_vec();
    for part in [mesh.as_str(), &node.to_string(), perimeter.as_str()] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(public_key.as_bytes());
    bytes
}

fn encode_body<T: Serialize>(
    limit: usize,
    number: u16,
    kind: &'static str,
    body: &T,
) -> Result<Vec<u8>, MessageError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(body, &mut bytes).map_err(|error| MessageError::Body {
        kind,
        why: error.to_string(),
    })?;
    Ok(encode_frame_within(limit, number, &bytes)?)
}

fn decode_body<T: DeserializeOwned>(kind: &'static str, mut body: &[u8]) -> Result<T, MessageError> {
    let malformed = |why: String| MessageError::Body { kind, why };
    let value = ciborium::from_reader(&mut body).map_err(|error| malformed(error.to_string()))?;
    if !body.is_empty() {
        return Err(malformed(format!("{} bytes follow its end", body.len())));
    }
    Ok(value)
}

/// What this build can do. Goes up when a new kind or field needs the other end to understand it; each end uses what
/// both can.
///
/// 1: the first. 2: flow records. 3: logins and posture. 4: access on request and why. 5: local accounts,
/// attestation by a TPM and drills.
pub const CAPABILITY: u32 = 5;

#[cfg(test)]
mod tests;
