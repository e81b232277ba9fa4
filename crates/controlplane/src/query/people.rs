//! Who is known, and who is logged in where.

use ringfence_model::NodeId;

use crate::{Controller, Session, User, UserId};

impl Controller {
    /// Every session, in order of its node's id.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.state().sessions.values().map(AsRef::as_ref)
    }

    /// The session of the person at a node.
    pub fn session_at(&self, node: NodeId) -> Option<&Session> {
        self.state().sessions.get(&node).map(AsRef::as_ref)
    }

    /// Everyone who is known, in order of id.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.state().users.values().map(AsRef::as_ref)
    }

    /// One person.
    pub fn user(&self, id: &UserId) -> Option<&User> {
        self.state().users.get(id).map(AsRef::as_ref)
    }
}
