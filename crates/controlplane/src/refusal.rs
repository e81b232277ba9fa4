//! Why a command is refused.

mod meaning;

use ringfence_control::NETMAP_WEIGHT_MAX;
use ringfence_model::{
    AccessId, LockId, Name, NodeId, Revision, SEGMENTS_PER_NODE_MAX, SessionId, TokenId, UnixMillis,
};
use ringfence_policy::Diagnostic;

use crate::{AccountRefusal, ApiTokenRefusal, DirectoryRefusal, DrillRefusal, WorkloadRefusal, limit};

/// Why a command is refused. Nothing of it has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Everything is as asked already: nothing to record.
    #[error("nothing to change")]
    Unchanged,
    /// The actor's kind may not ask for this, or a node asks for another.
    #[error("{actor} may not ask for {method}")]
    NotPermitted {
        /// Who asked.
        actor: String,
        /// For what.
        method: &'static str,
    },
    /// Policy files with errors, or failing expectations.
    #[error("{}", first_of(.0))]
    Policy(Vec<Diagnostic>),
    /// A posture file without checks that rules ask for: the first of those rules.
    #[error("{}", first_of(.0))]
    ChecksInUse(Vec<Diagnostic>),
    /// No file at all.
    #[error("there is no policy file to apply")]
    NoFiles,
    /// A policy changed since the files were written.
    #[error(
        "the policy was changed at revision {current}, after {base}, which this change was made against: look at it again"
    )]
    Stale {
        /// What the change was made against.
        base: Revision,
        /// When policy last changed.
        current: Revision,
    },
    /// A base revision that has not been.
    #[error("revision {base} has not been yet: the newest is {current}")]
    FutureBase {
        /// What the change claims to be made against.
        base: Revision,
        /// The newest there is.
        current: Revision,
    },
    /// No such perimeter.
    #[error("there is no perimeter {0}")]
    NoPerimeter(Name),
    /// No such node.
    #[error("there is no node {0}")]
    NoNode(NodeId),
    /// No such device.
    #[error("there is no device {0}")]
    NoDevice(Name),
    /// No such identity provider.
    #[error("there is no identity provider {0}")]
    NoProvider(Name),
    /// An identity provider that is there already.
    #[error("there is an identity provider {0} already: remove it first, or choose another name")]
    ProviderTaken(Name),
    /// An identity provider that cannot be configured so.
    #[error("{0}")]
    Provider(String),
    /// A name that someone else has.
    #[error("the name {name} is taken by {holder}: choose another")]
    NameTaken {
        /// The name.
        name: Name,
        /// Who has it.
        holder: NodeId,
    },
    /// A label that cannot be.
    #[error("{0}")]
    Label(#[from] ringfence_model::LabelError),
    /// Nothing to revoke under this id.
    #[error("there is no join token {0}: `ringfence token ls` lists them")]
    NothingToRevoke(TokenId),
    /// A token that never was, or is long forgotten.
    #[error("there is no join token {0}: ask for a new one")]
    NoToken(TokenId),
    /// A token with the wrong secret.
    #[error("the secret of join token {token} is wrong: it was mistyped or forged")]
    TokenForged {
        /// Which.
        token: TokenId,
    },
    /// A token without uses left.
    #[error("join token {token} is used up: ask for a new one")]
    TokenUsed {
        /// Which.
        token: TokenId,
    },
    /// A token past its time.
    #[error("join token {token} has expired: ask for a new one")]
    TokenExpired {
        /// Which.
        token: TokenId,
        /// When.
        expired_at: UnixMillis,
    },
    /// A token that an administrator ended.
    #[error("join token {token} was revoked: ask for a new one")]
    TokenRevoked {
        /// Which.
        token: TokenId,
    },
    /// A use count of none or too many.
    #[error("a join token has 1 to {max} uses, not {0}", max = limit::TOKEN_USES_MAX)]
    TokenUses(u32),
    /// A life of no time or too long.
    #[error("a join token lives for 1 second to 365 days")]
    TokenTtl,
    /// An identity key that another node has.
    #[error("this identity key belongs to node {0} already: enrol with a new state directory")]
    IdentityTaken(NodeId),
    /// A key for a perimeter the node is not in.
    #[error("node {node} is not a member of perimeter {perimeter}")]
    NotMember {
        /// Which node.
        node: NodeId,
        /// Which perimeter.
        perimeter: Name,
    },
    /// A WireGuard key of low order (RFC 7748 section 6.1).
    #[error("this public key is a point of low order, which no client makes: generate a new one")]
    LowOrderKey,
    /// A WireGuard key that is in use.
    #[error(
        "this public key is in use in this mesh already: every segment and device needs a key of its own"
    )]
    KeyTaken,
    /// A device that no member group selects.
    #[error(
        "the labels {labels:?} match no member group of perimeter {perimeter}: the device could reach nobody"
    )]
    NoGroup {
        /// Which perimeter.
        perimeter: Name,
        /// The labels.
        labels: String,
    },
    /// An expiry date in the past.
    #[error("the expiry date has passed already")]
    ExpiryPast,
    /// No such session.
    #[error("there is no session {0}: `ringfence session ls` lists them")]
    NoSession(SessionId),
    /// No such person.
    #[error("nobody is known as {0}: `ringfence user ls` lists who is")]
    NoUser(String),
    /// A person who may not log in.
    #[error("{0} was deactivated and may not log in: ask an administrator")]
    UserDeactivated(String),
    /// What only directories refuse.
    #[error(transparent)]
    Directory(#[from] DirectoryRefusal),
    /// What only local accounts refuse.
    #[error(transparent)]
    Account(#[from] AccountRefusal),
    /// A login that names nobody.
    #[error("the identity provider vouched for somebody without a name")]
    Nameless,
    /// A session of no time or too long.
    #[error("a session lasts for 1 minute to 30 days")]
    SessionLength,
    /// A node that asks for access for nobody.
    #[error("nobody is logged in at node {0}: log in first")]
    NobodyThere(NodeId),
    /// A group that the perimeter does not have.
    #[error("perimeter {perimeter} has no group {group}")]
    NoSuchGroup {
        /// Which perimeter.
        perimeter: Name,
        /// Which group.
        group: Name,
    },
    /// Access for no time or too long.
    #[error("access is granted for 1 minute to 24 hours")]
    AccessLength,
    /// A request without a reason.
    #[error("say why: whoever approves needs a reason")]
    NoReason,
    /// A reason that could be taken for what the controller says.
    #[error("a reason is one line of text")]
    OddReason,
    /// A request that does not say for what, where no rule does.
    #[error("no rule of the file opens anything towards group {0}: say which ports")]
    NoPorts(Name),
    /// No such request.
    #[error("there is no request for access {0}: `ringfence access ls` lists them")]
    NoAccess(AccessId),
    /// A request that does not wait for an answer any more.
    #[error("request {0} does not wait for an answer any more")]
    AccessAnswered(AccessId),
    /// An answer to one's own request.
    #[error("request {0} is your own: somebody else has to answer it")]
    OwnAccess(AccessId),
    /// Who broke the glass before and was not reviewed in time.
    #[error("access {0} was opened without approval and never reviewed: have it reviewed first")]
    ReviewOwed(AccessId),
    /// A person who was locked out. Why is for administrators.
    #[error("{0} is locked out and may not log in: ask an administrator")]
    UserLocked(String),
    /// A token that was locked.
    #[error("join token {token} is locked: ask an administrator")]
    TokenLocked {
        /// Which.
        token: TokenId,
    },
    /// No such lock.
    #[error("there is no lock {0}: `ringfence locks` lists them")]
    NoLock(LockId),
    /// A lock of no time or too long.
    #[error("a lock that ends by itself lasts for 1 second to 365 days")]
    LockTtl,
    /// A lock on one whom it keeps.
    #[error("a lock cannot keep the member that it is on: name who may still talk to it")]
    KeepsItself,
    /// A lock that keeps someone for nothing.
    #[error("a lock on a person, join token or workload issuer keeps nobody: it leaves nothing to talk with")]
    KeepsNobody,
    /// A node in too many perimeters.
    #[error(
        "{name} would be a member of {count} perimeters: a node can be in at most {SEGMENTS_PER_NODE_MAX}"
    )]
    TooManySegments {
        /// Which node.
        name: Name,
        /// How many.
        count: usize,
    },
    /// A node that would be told more than a message holds.
    #[error(
        "{node} would have {} KiB of peers and rules, where a node can have {}: most of what is new is of perimeter {perimeter} ({file}); narrow its rules or groups, or split it into several perimeters",
        bytes.div_ceil(1024), NETMAP_WEIGHT_MAX / 1024
    )]
    TooHeavy {
        /// Which node: the heaviest.
        node: Name,
        /// The perimeter that makes it heavier, the most if there are several.
        perimeter: Name,
        /// The policy file of that perimeter.
        file: String,
        /// What its netmap would weigh.
        bytes: usize,
    },
    /// Something about API tokens.
    #[error(transparent)]
    ApiToken(#[from] ApiTokenRefusal),
    /// A drill.
    #[error(transparent)]
    Drill(#[from] DrillRefusal),
    /// What only workloads are refused for.
    #[error(transparent)]
    Workload(#[from] WorkloadRefusal),
    /// A bound of [`crate::limit`] is reached.
    #[error("{what} would be too many: at most {max}")]
    Limit {
        /// What of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A node that brings about entries of the log too fast.
    #[error(
        "node {0} changes its keys, certificate or posture too often: {max} times at once, then once a minute; ask again in a minute",
        max = limit::OWN_ENTRIES_BURST
    )]
    TooOften(NodeId),
    /// No address is left to give.
    #[error("no {0} is left in this mesh")]
    AddressesExhausted(&'static str),
    /// A given fact of no life or too long a one.
    #[error("a fact lives for 1 second to 31 days")]
    FactTtl,
    /// A given fact that is too long to keep.
    #[error("a fact's value is at most {max} bytes long", max = ringfence_policy::VALUE_BYTES_MAX)]
    FactValue,
    /// A serial number that is none.
    #[error("a certificate's serial number is 1 to {max} hex digits", max = limit::SERIAL_BYTES_MAX)]
    Serial,
}

/// What a refusal means to the one who asked: which status an API answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Nothing to do: a success to most.
    Unchanged,
    /// The request itself is wrong.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It does not fit what is there.
    Conflict,
    /// Whoever asks may not.
    Denied,
    /// It would exceed a bound.
    Limit,
}

impl Refusal {
    /// The command that writes it down: propose it for the same actor. `subject` says whom or what it concerned.
    pub fn record(&self, method: &str, subject: &str) -> crate::Command {
        crate::Command::RecordRefusal {
            method: method.to_owned(),
            subject: subject.to_owned(),
            reason: self.to_string(),
        }
    }

    /// Whether it belongs in the audit trail: someone tried what they may not. See [`Self::record`].
    pub fn is_auditable(&self) -> bool {
        self.kind() == RefusalKind::Denied
            || matches!(self, Self::KeyTaken | Self::LowOrderKey | Self::NotMember { .. })
    }
}

fn first_of(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "the policy is refused".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first}\n(and {} more)", rest.len()),
    }
}
