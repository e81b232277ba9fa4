//! What may be asked of a controller.

use std::net::IpAddr;
use std::time::Duration;

use ringfence_model::{Labels, Name, NodeId, PublicKey, Revision, TokenId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{
    AccessCommand, AccountCommand, ApiTokenCommand, DirectoryCommand, DrillCommand, Identity, LockCommand,
    PeopleCommand, PostureCommand, ProviderCommand, TokenHash, WorkloadCommand,
};

/// What may be asked of a controller. [`crate::Controller::propose`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates or replaces perimeters by their policy files.
    ApplyPerimeters {
        /// One file a perimeter.
        files: Vec<PolicyFile>,
        /// Whether perimeters in none of the files are removed.
        prune: bool,
        /// The state the files were written against: refused if a policy changed since.
        base: Option<Revision>,
    },
    /// Removes a perimeter: its segments close on every node.
    RemovePerimeter {
        /// Which.
        name: Name,
    },
    /// Admits nodes to come.
    CreateToken {
        /// What its nodes are labelled.
        labels: Labels,
        /// How long it may be used.
        ttl: Duration,
        /// How often it may be used.
        uses: u32,
        /// The hash of its secret, which the core never sees.
        secret_hash: TokenHash,
    },
    /// Ends a token.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
    /// Admits a node by a token, which is consumed in the same change.
    Enroll {
        /// The token presented.
        token: TokenId,
        /// The hash of the secret presented.
        secret_hash: TokenHash,
        /// What the node wants to be called.
        name: Name,
        /// The public key of its certificate request, whose signature the shell has checked.
        identity: Identity,
    },
    /// Changes a node's name or labels, and with the labels its memberships.
    UpdateNode {
        /// Which.
        node: NodeId,
        /// Its new name, if it gets one.
        name: Option<Name>,
        /// Labels to set or replace.
        set: Labels,
        /// Keys of labels to remove.
        remove: Vec<String>,
    },
    /// Ends a node: its identity, keys, memberships and addresses.
    RemoveNode {
        /// Which.
        node: NodeId,
    },
    /// Takes the WireGuard key a node made for one of its segments.
    RegisterKey {
        /// Which node.
        node: NodeId,
        /// In which perimeter.
        perimeter: Name,
        /// The key. The shell has checked the identity's signature over it.
        public_key: PublicKey,
    },
    /// Admits a device that runs a stock WireGuard client.
    AddDevice {
        /// Its name, unique among nodes and devices.
        name: Name,
        /// The one perimeter it is in.
        perimeter: Name,
        /// Its key.
        public_key: PublicKey,
        /// What the policy knows it by.
        labels: Labels,
        /// When its access ends.
        expires: Option<UnixMillis>,
    },
    /// Ends a device.
    RemoveDevice {
        /// Which.
        name: Name,
    },
    /// Access on request.
    Access(AccessCommand),
    /// API tokens.
    ApiTokens(ApiTokenCommand),
    /// Drills.
    Drill(DrillCommand),
    /// Locks, of which a node's is its quarantine.
    Locks(LockCommand),
    /// People and their sessions.
    People(PeopleCommand),
    /// Notes where a node's control connection comes from. To forget it works on a full disk, and at any pace.
    NoteSource {
        /// Which node.
        node: NodeId,
        /// From where; `None` if that cannot be told.
        source: Option<IpAddr>,
    },
    /// What is asked and known of machines.
    Posture(PostureCommand),
    /// Identity providers.
    Provider(ProviderCommand),
    /// What identity providers say of their people before these log in.
    Directory(DirectoryCommand),
    /// Whose word lets workloads in, and who comes by it.
    Workloads(WorkloadCommand),
    /// Something about local accounts.
    Accounts(AccountCommand),
    /// Notes a certificate that the CA is about to hand to a node.
    RecordCertificate {
        /// Whose.
        node: NodeId,
        /// Its serial number, in hex.
        serial: String,
        /// When it ends.
        not_after: UnixMillis,
    },
    /// Notes an attempt that was refused, such as a forged token.
    RecordRefusal {
        /// What was asked, as in `node.enroll`.
        method: String,
        /// Whom or what it concerned.
        subject: String,
        /// Why it was refused.
        reason: String,
    },
    /// Records the receipts that are due: see [`crate::Controller::poll_receipts`].
    RecordReceipts,
    /// Starts a new term: after a restore from a backup, so that nodes do not take the controller's word for older
    /// than what they have (DESIGN.md, decision 4).
    StartTerm,
    /// Ends what is due: tokens, API tokens, devices, sessions, locks, access on request, drills, rules. See
    /// [`crate::Controller::poll_timeout`].
    Tick,
}

/// A policy file as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// The file's name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
}

impl Command {
    /// Whether it takes access away, whatever the state: such a command works on a full disk too (red line 2).
    pub fn is_removal(&self) -> bool {
        match self {
            Self::RemovePerimeter { .. }
            | Self::RevokeToken { .. }
            | Self::RemoveNode { .. }
            | Self::RemoveDevice { .. }
            | Self::Tick => true,
            Self::Provider(command) => command.is_removal(),
            Self::Directory(command) => command.is_removal(),
            Self::Workloads(command) => command.is_removal(),
            Self::Accounts(command) => command.is_removal(),
            Self::Access(command) => command.is_removal(),
            Self::ApiTokens(command) => command.is_removal(),
            Self::Drill(command) => command.is_removal(),
            Self::Locks(command) => command.is_removal(),
            Self::People(command) => command.is_removal(),
            Self::NoteSource { source, .. } => source.is_none(),
            Self::Posture(command) => command.is_removal(),
            Self::ApplyPerimeters { .. }
            | Self::CreateToken { .. }
            | Self::Enroll { .. }
            | Self::UpdateNode { .. }
            | Self::RegisterKey { .. }
            | Self::AddDevice { .. }
            | Self::RecordCertificate { .. }
            | Self::RecordRefusal { .. }
            | Self::RecordReceipts
            | Self::StartTerm => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub fn method(&self) -> &'static str {
        match self {
            Self::ApplyPerimeters { .. } => "perimeter.apply",
            Self::RemovePerimeter { .. } => "perimeter.remove",
            Self::CreateToken { .. } => "token.create",
            Self::RevokeToken { .. } => "token.revoke",
            Self::Enroll { .. } => "node.enroll",
            Self::UpdateNode { .. } => "node.update",
            Self::RemoveNode { .. } => "node.remove",
            Self::RegisterKey { .. } => "key.register",
            Self::AddDevice { .. } => "device.add",
            Self::RemoveDevice { .. } => "device.remove",
            Self::Access(command) => command.method(),
            Self::ApiTokens(command) => command.method(),
            Self::Drill(command) => command.method(),
            Self::Locks(command) => command.method(),
            Self::People(command) => command.method(),
            Self::NoteSource { .. } => "node.source",
            Self::Posture(command) => command.method(),
            Self::Provider(command) => command.method(),
            Self::Directory(command) => command.method(),
            Self::Workloads(command) => command.method(),
            Self::Accounts(command) => command.method(),
            Self::RecordCertificate { .. } => "certificate.record",
            Self::RecordRefusal { .. } => "refusal.record",
            Self::RecordReceipts => "receipt.record",
            Self::StartTerm => "term.start",
            Self::Tick => "tick",
        }
    }
}
