//! A controller as a value: commands become changes, changes become state, state becomes netmaps.
//!
//! ```text
//!            propose                    apply                    netmap
//! command ───────────▶ change (stored) ───────▶ state ─ views ──────────▶ what each node may know
//!            refusal ◀┘  event, event, …        └ compiled where touched
//! ```
//!
//! **Invariant:** nothing here does I/O, reads a clock or draws randomness: `wall` and `entropy` come in, and the same
//! log gives the same controller.
#![deny(missing_docs)]

mod access;
mod account;
mod actor;
mod address;
mod api_token;
mod apply;
mod change;
mod command;
mod compile;
mod controller;
mod directory;
mod draft;
mod drill;
mod event;
mod lapse;
pub mod limit;
mod locks;
mod login;
mod member;
mod membership;
mod netmap;
mod pace;
mod people;
mod perimeter;
mod posture;
mod presence;
mod propose;
mod provider;
mod query;
mod receipt;
mod refusal;
mod request;
mod snapshot;
mod state;
mod tables;
mod token;
mod weight;
mod workload;

#[cfg(test)]
mod tests;

pub use access::AccessDenied;
pub use account::{Account, AccountCommand, AccountEvent, AccountRefusal};
pub use actor::{ACTOR_TEXT_BYTES_MAX, Actor, ActorKind};
pub use api_token::{ApiToken, ApiTokenCommand, ApiTokenEvent, ApiTokenRefusal, Role};
pub use apply::ApplyError;
pub use change::{CHANGE_FORMAT, ChainError, ChainHash, ChainHead, Change, verify_chain};
pub use command::{Command, PolicyFile};
pub use controller::{Controller, Push, PushKind};
pub use directory::{
    Directory, DirectoryCommand, DirectoryEmail, DirectoryEvent, DirectoryGroup, DirectoryPerson,
    DirectoryRefusal, DirectoryToken, GroupProfile, PersonProfile,
};
pub use drill::{Drill, DrillCommand, DrillEvent, DrillRefusal};
pub use event::Event;
pub use lapse::LapseEvent;
pub use locks::{Lock, LockCommand, LockEvent, LockTarget};
pub use login::{CLOCK_SKEW_MAX, LoginClaims, LoginGoal, LoginRefusal};
pub use member::{
    Admission, Certificate, Device, IDENTITY_BYTES_MAX, Identity, IdentityError, Node, WorkloadIdentity,
};
pub use people::{
    PeopleCommand, PeopleEvent, Session, SessionEnd, SessionsOf, User, UserId, UserIdError, UserStanding,
    VerifiedLogin,
};
pub use posture::{
    Attestation, Attested, ChallengeEntropy, FACT_TTL_MAX, FACTS_GIVEN_MAX, GivenFact, PostureCommand,
    PostureEvent, ProvedTpm, TpmMaker, TpmName, TpmRecord,
};
pub use presence::{CANDIDATES_MAX, Connection, Enforcement, NodePresence};
pub use provider::{Provider, ProviderCommand, SecondFactor};
pub use query::{
    AccessFilter, ApplyOptions, ApplyPlan, AskError, DeviceConfig, DevicePeer, FindUserError, FlowChanges,
    LockTargetError, Seen, audit_entry,
};
pub use receipt::{
    NODES_TOLD_MAX, RECORDED_NODES_MAX, REVISIONS_TIMED_MAX, Receipt, ReceiptEvent, RecordedReceipt, Slowest,
    Timing,
};
pub use refusal::{Refusal, RefusalKind};
pub use request::{
    AccessCommand, AccessEnd, AccessEvent, AccessRequest, AccessStanding, Approval, Asker, AskingPerson,
    Urgency,
};
pub use snapshot::{LoadError, Replay, SNAPSHOT_FORMAT, Snapshot};
pub use state::Mesh;
pub use token::{Token, TokenHash, TokenState};
pub use workload::{JwtHash, VerifiedWorkload, WorkloadCommand, WorkloadEvent, WorkloadRefusal};
