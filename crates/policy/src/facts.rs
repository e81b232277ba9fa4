//! What is verified about a member beyond its labels: the person at it, the posture of its device, where it is.
//!
//! **Invariant:** a fact that is not there holds for nothing. Each is as of the moment the policy is compiled; of those
//! that end by the clock alone, the end is a fact too, so that it comes without anyone being asked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringfence_model::{Name, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

/// What is verified about a node or device. Nothing of it comes from the node's word for itself but the posture, which
/// was judged by the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Facts {
    /// The person at it, for as long as their session lasts.
    pub user: Option<UserFacts>,
    /// The posture checks that it passes, on facts that are fresh enough.
    pub posture: BTreeSet<Name>,
    /// Where its control connection comes from.
    pub source: Option<IpAddr>,
    /// That an administrator locked it, if one did.
    pub isolation: Option<Isolation>,
    /// That nothing was heard of it for longer than the lease: no rule joins it to anyone.
    pub is_lapsed: bool,
}

/// A member that is locked: it stays one, with its key and addresses, and no rule joins it to anyone but those kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Isolation {
    /// With whom the rules go on that join it to them.
    pub keep: BTreeSet<NodeId>,
}

/// Who logged in at a node, as an identity provider or a local account vouches for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserFacts {
    /// What people call them: the address, else the login name.
    pub name: String,
    /// The verified address.
    pub email: Option<String>,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// When they last proved a second factor.
    pub mfa_at: Option<UnixMillis>,
    /// When their session ends.
    pub until: UnixMillis,
}
