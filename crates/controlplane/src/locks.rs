//! Locks: what an administrator has shut, for a time or until they open it again. A lock on a node is its quarantine.
//!
//! **Invariant:** a lock only takes away. Of several on one thing each counts: with whom a member still talks is what
//! every one of them keeps.

mod command;
mod event;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ringfence_model::{Labels, LockId, Name, NodeId, Selector, TokenId, UnixMillis};
use ringfence_policy::{Isolation, Member};
use serde::{Deserialize, Serialize};

pub use self::command::LockCommand;
pub use self::event::LockEvent;
use crate::state::State;
use crate::{User, UserId, VerifiedLogin};

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Its id.
    pub id: LockId,
    /// What is locked.
    pub target: LockTarget,
    /// With whom what is locked may still talk, as policy allows.
    pub keep: BTreeSet<NodeId>,
    /// The people that a target named when it was locked: another name or address does not let them out of it.
    pub users: BTreeSet<UserId>,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub set_at: UnixMillis,
    /// By whom.
    pub set_by: String,
    /// When it ends by itself.
    pub until: Option<UnixMillis>,
}

/// What a lock is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LockTarget {
    /// A node or device: no rule joins it to anyone.
    Node {
        /// Which.
        node: NodeId,
    },
    /// A person: their sessions end, and none starts.
    User {
        /// Their id, address or name.
        user: String,
    },
    /// A perimeter, also one of this name that comes later: none of its rules opens anything.
    Perimeter {
        /// Its name.
        perimeter: Name,
    },
    /// Every node and device with these labels, also those that get them later.
    Label {
        /// The labels.
        selector: Selector,
    },
    /// A join token: it admits nobody.
    Token {
        /// Which.
        token: TokenId,
    },
    /// A workload issuer, also one of this name that comes later: it lets nobody in.
    Workload {
        /// Its name.
        issuer: Name,
    },
}

impl fmt::Display for LockTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { node } => write!(f, "node:{node}"),
            Self::User { user } => write!(f, "user:{user}"),
            Self::Perimeter { perimeter } => write!(f, "perimeter:{perimeter}"),
            Self::Label { selector } => write!(f, "label:{selector}"),
            Self::Token { token } => write!(f, "token:{token}"),
            Self::Workload { issuer } => write!(f, "workload:{issuer}"),
        }
    }
}

impl Lock {
    fn is_on_labels(&self, labels: &Labels) -> bool {
        matches!(&self.target, LockTarget::Label { selector } if selector.matches(labels))
    }

    fn is_on_user(&self, user: &UserId, name: &str, email: Option<&str>) -> bool {
        let LockTarget::User { user: text } = &self.target else {
            return false;
        };
        self.users.contains(user) || is_called(text, user, name, email)
    }
}

/// Whether a text means this person: by id, by name, or by an address, in which case does not count (RFC 5321 lets it
/// count in the local part; providers that do are not known, and a lock errs on the side of shutting).
fn is_called(text: &str, id: &UserId, name: &str, email: Option<&str>) -> bool {
    let alike = |other: &str| text.eq_ignore_ascii_case(other);
    text == id.to_string() || alike(name) || email.is_some_and(alike)
}

impl User {
    /// Whether a text means this person: their id, address or name.
    pub fn is_called(&self, text: &str) -> bool {
        is_called(text, &self.id, &self.name, self.email.as_deref())
    }
}

impl State {
    /// The lock on a join token.
    pub(crate) fn token_lock(&self, id: TokenId) -> Option<&Lock> {
        self.find_lock(|lock| lock.target == LockTarget::Token { token: id })
    }

    /// The lock on a workload issuer.
    pub(crate) fn workload_lock(&self, name: &Name) -> Option<&Lock> {
        self.find_lock(|lock| matches!(&lock.target, LockTarget::Workload { issuer } if issuer == name))
    }

    /// The lock on whoever this login vouches for.
    pub(crate) fn login_lock(&self, login: &VerifiedLogin) -> Option<&Lock> {
        let (user, email) = (&login.user, login.email.as_deref());
        self.find_lock(|lock| lock.is_on_user(user, &login.name, email))
    }

    /// The lock on a person, as they are known.
    pub(crate) fn user_lock(&self, user: &User) -> Option<&Lock> {
        self.find_lock(|lock| lock.is_on_user(&user.id, &user.name, user.email.as_deref()))
    }

    /// The lock on whoever has an address, whether they are known or not.
    pub(crate) fn address_lock(&self, address: &str) -> Option<&Lock> {
        self.find_lock(
            |lock| matches!(&lock.target, LockTarget::User { user } if user.eq_ignore_ascii_case(address)),
        )
    }

    fn find_lock(&self, is_meant: impl Fn(&Lock) -> bool) -> Option<&Lock> {
        let mut locks = self.locks.values();
        locks.find(|lock| is_meant(lock)).map(AsRef::as_ref)
    }

    /// The locks on a node or device, wherever it is a member.
    pub(crate) fn locks_on<'a>(&'a self, id: NodeId, labels: &'a Labels) -> impl Iterator<Item = &'a Lock> {
        let locks = self.locks.values().map(AsRef::as_ref);
        locks.filter(move |lock| {
            lock.target == LockTarget::Node { node: id }
                || lock.is_on_labels(labels) && !lock.keep.contains(&id)
        })
    }

    /// The lock on a perimeter.
    pub(crate) fn perimeter_locks<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Lock> {
        let locks = self.locks.values().map(AsRef::as_ref);
        locks.filter(
            move |lock| matches!(&lock.target, LockTarget::Perimeter { perimeter } if perimeter == name),
        )
    }

    /// Notes on the members of a perimeter which of them are locked there, or have lapsed.
    pub(crate) fn isolate(&self, perimeter: &Name, members: &mut [Member]) {
        if let Some(perimeter) = self.perimeters.get(perimeter) {
            for member in members.iter_mut() {
                let seat = perimeter.seats.get(&member.id);
                member.facts.is_lapsed = seat.is_some_and(|seat| seat.is_lapsed);
            }
        }
        if self.locks.is_empty() {
            return;
        }
        let on_perimeter: Vec<&Lock> = self.perimeter_locks(perimeter).collect();
        // Locks on nodes are looked up, so that many of them cost no more than their number for each member.
        let mut on_nodes: BTreeMap<NodeId, Vec<&Lock>> = BTreeMap::new();
        let mut on_labels: Vec<&Lock> = Vec::new();
        for lock in self.locks.values().map(AsRef::as_ref) {
            match &lock.target {
                LockTarget::Node { node } => on_nodes.entry(*node).or_default().push(lock),
                LockTarget::Label { .. } => on_labels.push(lock),
                LockTarget::User { .. }
                | LockTarget::Perimeter { .. }
                | LockTarget::Token { .. }
                | LockTarget::Workload { .. } => {}
            }
        }
        for member in members {
            let by_node = on_nodes.get(&member.id).into_iter().flatten().copied();
            let others = on_labels.iter().filter(|lock| lock.is_on_labels(&member.labels));
            let others = others.chain(&on_perimeter).copied();
            let others = others.filter(|lock| !lock.keep.contains(&member.id));
            let keeps = by_node.chain(others).map(|lock| &lock.keep);
            let keep = keeps
                .cloned()
                .reduce(|kept, keep| kept.intersection(&keep).copied().collect());
            member.facts.isolation = keep.map(|keep| Isolation { keep });
        }
    }
}
