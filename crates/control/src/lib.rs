//! The control protocol: messages, framing, netmap and delta, sessions of both ends, and the shapes of the REST API
//! and of a node's local socket and files.
//!
//! **Invariant:** what arrives is refused whole or taken whole; no byte string makes a decoder panic.
#![deny(missing_docs)]

mod access;
mod account;
pub mod api;
mod delta;
mod drill;
mod flow_journal;
mod flow_report;
mod flow_spool;
mod frame;
pub mod local;
mod login;
mod message;
mod netmap;
mod posture;
mod probe;
mod rule_list;
pub mod saved;
mod session;
pub mod text;
mod tpm;
mod why;

pub use access::{ACCESS_SINCE, AccessAnswer, AccessErrand, AccessWish, AskAccess};
pub use account::{LOCAL_LOGINS_SINCE, LocalGain, LocalLogin, LocalLoginDone, LocalProof, LocalSecret};
pub use delta::{Delta, DeltaError, PeersEdit, PublicKeyEdit, RuleKey, RulesEdit, SegmentDelta};
pub use drill::{DRILL_SINCE, DrillOrder, DrillPart, DrillReport};
pub use flow_journal::FlowEntry;
pub use flow_report::{FLOW_RECORDS_SINCE, FlowEnd, FlowRecords, FlowRecordsTaken, FlowReport, FlowTraffic};
pub use flow_spool::{FLOW_ANSWER_WAIT, FLOW_SPOOL_MAX, FlowSpool, Spooled};
pub use frame::{
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Frame, FrameDecoder, FrameError, NETMAP_BYTES_MAX, encode_frame,
    encode_frame_within, parse_header,
};
pub use login::{
    AskSession, AuthorizationCode, EndLogin, FACTOR_ASKS_MAX, FactorAsk, LOGINS_SINCE, LoginCode, LoginDone,
    LoginMethod, LoginNews, LoginStart, LoginStarted, SessionAnswer, SessionFacts,
};
pub use message::{
    CAPABILITY, Enforced, Goodbye, Hello, LANES_MAX, Lease, Message, MessageError, NetmapRefused,
    PeerCandidates, Ping, Refused, RegisterKey, Renew, Renewed, ToController, ToNode, Welcome,
    registration_bytes,
};
pub use netmap::{
    NETMAP_HEAD_BYTES_MAX, NETMAP_WEIGHT_MAX, Netmap, NetmapFault, PeerKind, PeerMap, SegmentCount,
    SegmentMap, TooLarge, written_bytes,
};
pub use posture::{
    FactName, NativeFact, POSTURE_SINCE, PostureOrder, PostureReport, ReportedFact, ReportedValue,
    VALUE_BYTES_MAX,
};
pub use probe::{
    Probe, ProbeOrder, ProbeOutcome, ProbeReport, ProbeVerdict, SeenAnswer, SeenFlow, SeenQuestion,
};
pub use rule_list::RuleList;
pub use session::{ControllerSession, GreetError, HelloFacts, NodeAction, NodeSession, SessionError};
pub use tpm::{TPM_SINCE, TpmChallenge, TpmOffer, TpmProof, tpm_binding};
pub use why::{AskWhy, PerimeterOwners, WHY_SINCE, WhyAnswer, WhyQuestion, WhyReport};
