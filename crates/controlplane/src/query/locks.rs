//! What is locked, and what a text to lock by means.

use std::collections::BTreeSet;

use ringfence_control::api;
use ringfence_model::{Labels, LockId, Name, NodeId};

use crate::{Controller, Lock, LockTarget};

/// A text names nothing that can be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockTargetError {
    /// No word of ours in front of it.
    #[error(
        "{0:?} is nothing to lock: write node:NAME, user:NAME, perimeter:NAME, label:KEY=VALUE, token:ID or workload:NAME"
    )]
    Shape(String),
    /// Nobody is called that.
    #[error("there is no node or device {0:?}")]
    Nobody(String),
    /// The name cannot be one.
    #[error("{0:?} cannot be the name of a perimeter: {1}")]
    Perimeter(String, ringfence_model::NameError),
    /// The name cannot be one.
    #[error("{0:?} cannot be the name of a workload issuer: {1}")]
    Issuer(String, ringfence_model::NameError),
    /// The labels are none.
    #[error(transparent)]
    Label(#[from] ringfence_model::LabelError),
    /// The id is none.
    #[error("{0:?} is no token's id: `ringfence token ls` lists them")]
    Token(String),
}

impl Controller {
    /// Every lock, in order of id.
    pub fn locks(&self) -> impl Iterator<Item = &Lock> {
        self.state().locks.values().map(AsRef::as_ref)
    }

    /// What a text means that says what to lock: `node:db-1`, `user:alice@example.com`, `perimeter:payments-db`,
    /// `label:role=db`, `token:00c0ffee00c0ffee`.
    ///
    /// # Errors
    /// [`LockTargetError`] says what is wrong with it.
    pub fn lock_target(&self, text: &str) -> Result<LockTarget, LockTargetError> {
        let short = || text.chars().take(ASKED_CHARS_MAX).collect::<String>();
        let (kind, what) = text
            .split_once(':')
            .ok_or_else(|| LockTargetError::Shape(short()))?;
        Ok(match kind {
            "node" => LockTarget::Node {
                node: self.find(what).ok_or_else(|| LockTargetError::Nobody(short()))?,
            },
            "user" => LockTarget::User {
                user: what.to_owned(),
            },
            "perimeter" => LockTarget::Perimeter {
                perimeter: Name::parse(what).map_err(|error| LockTargetError::Perimeter(short(), error))?,
            },
            "label" => LockTarget::Label {
                selector: what.parse()?,
            },
            "token" => LockTarget::Token {
                token: what.parse().map_err(|_| LockTargetError::Token(short()))?,
            },
            "workload" => LockTarget::Workload {
                issuer: Name::parse(what).map_err(|error| LockTargetError::Issuer(short(), error))?,
            },
            _ => return Err(LockTargetError::Shape(short())),
        })
    }

    /// The members that texts name, as `node:forensics`.
    ///
    /// # Errors
    /// [`LockTargetError::Nobody`] names the first that is not there.
    pub fn lock_keep(&self, texts: &[String]) -> Result<BTreeSet<NodeId>, LockTargetError> {
        let each = texts.iter().map(|text| {
            let short = || text.chars().take(ASKED_CHARS_MAX).collect();
            self.find(text).ok_or_else(|| LockTargetError::Nobody(short()))
        });
        each.collect()
    }

    /// Every lock, newest first.
    pub fn lock_views(&self) -> Vec<api::LockView> {
        let mut views: Vec<_> = self.locks().map(|lock| self.lock_view(lock)).collect();
        views.sort_by_key(|view| (std::cmp::Reverse(view.since_ms), view.id));
        views
    }

    /// One lock.
    pub fn lock_view_of(&self, id: LockId) -> Option<api::LockView> {
        self.state().locks.get(&id).map(|lock| self.lock_view(lock))
    }

    /// Why a node or device takes part in no rule, wherever it is a member.
    pub(crate) fn locks_on(&self, id: NodeId, labels: &Labels) -> Vec<api::LockView> {
        self.state()
            .locks_on(id, labels)
            .map(|lock| self.lock_view(lock))
            .collect()
    }

    fn lock_view(&self, lock: &Lock) -> api::LockView {
        let target = match &lock.target {
            LockTarget::Node { node } => match self.name_of(*node) {
                Some(name) => format!("node:{name}"),
                None => lock.target.to_string(),
            },
            LockTarget::User { .. }
            | LockTarget::Perimeter { .. }
            | LockTarget::Label { .. }
            | LockTarget::Token { .. }
            | LockTarget::Workload { .. } => lock.target.to_string(),
        };
        let keep: Vec<NodeId> = lock.keep.iter().copied().collect();
        let mut keep = self.names(&keep);
        keep.sort();
        api::LockView {
            id: lock.id,
            target,
            keep,
            reason: lock.reason.clone(),
            by: lock.set_by.clone(),
            since_ms: lock.set_at,
            until_ms: lock.until,
        }
    }
}

const ASKED_CHARS_MAX: usize = 80;
