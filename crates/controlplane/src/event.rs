//! What became of a command: facts, each with what was there before.
//!
//! **Invariant:** an event holds every decision that was made, drawn ids and addresses included. Applying it decides
//! nothing, so a log gives the same state in every later version.

use std::net::IpAddr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use ringfence_model::{Labels, Name, NodeId, OverlayAddresses, PublicKey, RuleId, TokenId};
use serde::{Deserialize, Serialize};

use crate::{
    AccessEvent, AccountEvent, ApiTokenEvent, Certificate, Device, DirectoryEvent, DrillEvent, LapseEvent,
    LockEvent, Node, PeopleEvent, PolicyFile, PostureEvent, Provider, ReceiptEvent, Token, WorkloadEvent,
};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first of every log.
    MeshFounded {
        /// The mesh.
        mesh: Name,
        /// Its ULA /48, drawn at random (RFC 4193).
        prefix: Ipv6Network,
    },
    /// Everything said from here on is newer than what any backup's future said.
    TermStarted {
        /// The term before.
        before: u64,
        /// The new one.
        after: u64,
    },
    /// A perimeter that was not there before.
    PerimeterCreated {
        /// Which.
        perimeter: Name,
        /// Its /64.
        v6: Ipv6Network,
        /// Its first IPv4 block.
        v4: Ipv4Network,
        /// Its policy.
        after: PolicyFile,
    },
    /// A perimeter's policy was replaced.
    PerimeterChanged {
        /// Which.
        perimeter: Name,
        /// The policy before.
        before: PolicyFile,
        /// The policy now.
        after: PolicyFile,
    },
    /// A perimeter is gone, with all memberships, keys and addresses in it.
    PerimeterRemoved {
        /// Which.
        perimeter: Name,
        /// The policy it had.
        before: PolicyFile,
    },
    /// A perimeter's IPv4 blocks were full: it got another.
    BlockAdded {
        /// Which perimeter.
        perimeter: Name,
        /// The block.
        v4: Ipv4Network,
    },
    /// Rules reached their expiry.
    RulesExpired {
        /// Of which perimeter.
        perimeter: Name,
        /// Which.
        rules: Vec<RuleId>,
    },
    /// The clock alone changed for someone what rules open: an hour, a second factor's age, the end of a session.
    ConditionsChanged {
        /// In which perimeter.
        perimeter: Name,
        /// Which rules.
        rules: Vec<RuleId>,
    },
    /// A node or device came into a perimeter.
    MemberJoined {
        /// Which perimeter.
        perimeter: Name,
        /// Who.
        member: NodeId,
        /// What it is called.
        name: Name,
        /// Its addresses there, its own for life.
        addresses: OverlayAddresses,
    },
    /// A node or device left a perimeter: its key there is forgotten.
    MemberLeft {
        /// Which perimeter.
        perimeter: Name,
        /// Who.
        member: NodeId,
        /// What it is called.
        name: Name,
        /// The key it had there.
        key: Option<PublicKey>,
    },
    /// A token was made.
    TokenCreated {
        /// It, without its secret.
        token: Token,
    },
    /// A token admitted a node.
    TokenUsed {
        /// Which.
        token: TokenId,
        /// Uses left before.
        before: u32,
        /// Uses left now.
        after: u32,
    },
    /// A token was revoked.
    TokenRevoked {
        /// Which.
        token: TokenId,
        /// Uses left before.
        before: u32,
    },
    /// A token's time ran out.
    TokenExpired {
        /// Which.
        token: TokenId,
        /// Uses left before.
        before: u32,
    },
    /// The record of a dead token made room for new ones.
    TokenForgotten {
        /// Which.
        token: TokenId,
    },
    /// A node was admitted.
    NodeEnrolled {
        /// It.
        node: Node,
    },
    /// A node got another name.
    NodeRenamed {
        /// Which.
        node: NodeId,
        /// Its name before.
        before: Name,
        /// Its name now.
        after: Name,
    },
    /// A node's labels changed.
    NodeLabelled {
        /// Which.
        node: NodeId,
        /// Its labels before.
        before: Labels,
        /// Its labels now.
        after: Labels,
    },
    /// A node is gone.
    NodeRemoved {
        /// What it was.
        before: Node,
    },
    /// A node got a certificate.
    CertificateIssued {
        /// Whose.
        node: NodeId,
        /// The one it replaces.
        before: Option<Certificate>,
        /// The new one.
        after: Certificate,
    },
    /// A node's key for one segment.
    KeyRegistered {
        /// Which node.
        node: NodeId,
        /// In which perimeter.
        perimeter: Name,
        /// The key before.
        before: Option<PublicKey>,
        /// The key now.
        after: PublicKey,
    },
    /// A node's control connection comes from elsewhere.
    SourceSeen {
        /// Which node.
        node: NodeId,
        /// From where it came before, if that was known.
        before: Option<IpAddr>,
        /// From where it comes now, if that is known.
        after: Option<IpAddr>,
    },
    /// A device was admitted.
    DeviceAdded {
        /// It.
        device: Device,
    },
    /// A device was removed.
    DeviceRemoved {
        /// What it was.
        before: Device,
    },
    /// A device's time ran out.
    DeviceExpired {
        /// What it was.
        before: Device,
    },
    /// An identity provider's word counts from now on.
    ProviderAdded {
        /// It.
        provider: Provider,
    },
    /// It does no longer.
    ProviderRemoved {
        /// What it was.
        before: Provider,
    },
    /// An attempt was refused.
    Refused {
        /// What was asked.
        method: String,
        /// Whom or what it concerned.
        subject: String,
        /// Why it was refused.
        reason: String,
    },
    /// What became of people. Written as that event alone.
    #[serde(untagged)]
    People(Box<PeopleEvent>),
    /// What became of directories. Written as that event alone.
    #[serde(untagged)]
    Directory(Box<DirectoryEvent>),
    /// What became of local accounts. Written as that event alone.
    #[serde(untagged)]
    Accounts(Box<AccountEvent>),
    /// What became of requests for access. Written as that event alone.
    #[serde(untagged)]
    Access(Box<AccessEvent>),
    /// What became of API tokens. Written as that event alone.
    #[serde(untagged)]
    ApiTokens(Box<ApiTokenEvent>),
    /// What became of drills. Written as that event alone.
    #[serde(untagged)]
    Drill(DrillEvent),
    /// Who is silent for too long, or is not any more. Written as that event alone.
    #[serde(untagged)]
    Lapse(LapseEvent),
    /// What became of locks. Written as that event alone.
    #[serde(untagged)]
    Locks(LockEvent),
    /// How far revisions have got. Written as that event alone.
    #[serde(untagged)]
    Receipts(Box<ReceiptEvent>),
    /// What became of what is asked and known of machines. Written as that event alone.
    #[serde(untagged)]
    Posture(Box<PostureEvent>),
    /// What became of workloads. Written as that event alone.
    #[serde(untagged)]
    Workloads(Box<WorkloadEvent>),
}

impl From<AccessEvent> for Event {
    fn from(event: AccessEvent) -> Self {
        Self::Access(Box::new(event))
    }
}

impl From<DrillEvent> for Event {
    fn from(event: DrillEvent) -> Self {
        Self::Drill(event)
    }
}

impl From<LapseEvent> for Event {
    fn from(event: LapseEvent) -> Self {
        Self::Lapse(event)
    }
}

impl From<LockEvent> for Event {
    fn from(event: LockEvent) -> Self {
        Self::Locks(event)
    }
}

impl From<PostureEvent> for Event {
    fn from(event: PostureEvent) -> Self {
        Self::Posture(Box::new(event))
    }
}

impl From<DirectoryEvent> for Event {
    fn from(event: DirectoryEvent) -> Self {
        Self::Directory(Box::new(event))
    }
}

impl From<PeopleEvent> for Event {
    fn from(event: PeopleEvent) -> Self {
        Self::People(Box::new(event))
    }
}

impl Event {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MeshFounded { .. } => "mesh-founded",
            Self::TermStarted { .. } => "term-started",
            Self::PerimeterCreated { .. } => "perimeter-created",
            Self::PerimeterChanged { .. } => "perimeter-changed",
            Self::PerimeterRemoved { .. } => "perimeter-removed",
            Self::BlockAdded { .. } => "block-added",
            Self::RulesExpired { .. } => "rules-expired",
            Self::ConditionsChanged { .. } => "conditions-changed",
            Self::MemberJoined { .. } => "member-joined",
            Self::MemberLeft { .. } => "member-left",
            Self::TokenCreated { .. } => "token-created",
            Self::TokenUsed { .. } => "token-used",
            Self::TokenRevoked { .. } => "token-revoked",
            Self::TokenExpired { .. } => "token-expired",
            Self::TokenForgotten { .. } => "token-forgotten",
            Self::NodeEnrolled { .. } => "node-enrolled",
            Self::NodeRenamed { .. } => "node-renamed",
            Self::NodeLabelled { .. } => "node-labelled",
            Self::NodeRemoved { .. } => "node-removed",
            Self::CertificateIssued { .. } => "certificate-issued",
            Self::KeyRegistered { .. } => "key-registered",
            Self::SourceSeen { .. } => "source-seen",
            Self::DeviceAdded { .. } => "device-added",
            Self::DeviceRemoved { .. } => "device-removed",
            Self::DeviceExpired { .. } => "device-expired",
            Self::ProviderAdded { .. } => "provider-added",
            Self::ProviderRemoved { .. } => "provider-removed",
            Self::Refused { .. } => "refused",
            Self::People(event) => event.kind(),
            Self::Directory(event) => event.kind(),
            Self::Accounts(event) => event.kind(),
            Self::Access(event) => event.kind(),
            Self::ApiTokens(event) => event.kind(),
            Self::Drill(event) => event.kind(),
            Self::Lapse(event) => event.kind(),
            Self::Locks(event) => event.kind(),
            Self::Receipts(event) => event.kind(),
            Self::Posture(event) => event.kind(),
            Self::Workloads(event) => event.kind(),
        }
    }
}
