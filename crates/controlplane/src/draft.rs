//! A change in the making: a copy of the state, and the events that have been applied to it so far.

use std::sync::Arc;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use ringfence_model::{
    ApiTokenId, DirectoryId, LockId, Name, NodeId, Revision, SessionId, TokenId, UnixMillis,
};

use crate::change::Body;
use crate::perimeter::Perimeter;
use crate::state::State;
use crate::{Actor, Change, Directory, Event, Node, Refusal};

/// A change in the making. Dropping it leaves no trace.
pub(crate) struct Draft {
    pub(crate) state: State,
    pub(crate) wall: UnixMillis,
    pub(crate) actor: Actor,
    events: Vec<Event>,
    revision: Revision,
    random: ChaCha20Rng,
}

impl Draft {
    pub(crate) fn new(state: &State, actor: &Actor, wall: UnixMillis, entropy: [u8; 32]) -> Self {
        Self {
            state: state.clone(),
            wall,
            actor: actor.clone(),
            events: Vec::new(),
            revision: state.revision.next(),
            random: ChaCha20Rng::from_seed(entropy),
        }
    }

    /// Applies an event and keeps it.
    pub(crate) fn record(&mut self, event: Event) {
        if let Event::TermStarted { after, .. } = &event {
            self.revision.term = *after;
        }
        let applied = self.state.apply_event(&event, self.revision, self.wall);
        // A propose function that gets here with an event that does not fit forgot a check: a bug of ours, and better
        // found here than in the log.
        assert!(
            applied.is_ok(),
            "a proposed event does not fit: {}: {applied:?}",
            event.kind()
        );
        self.events.push(event);
    }

    /// What happened so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Closes the change.
    pub(crate) fn seal(self, before: &State, method: &'static str) -> Result<Change, Refusal> {
        if self.events.is_empty() {
            return Err(Refusal::Unchanged);
        }
        let body = Body {
            actor: self.actor,
            method,
            events: self.events,
        };
        Ok(Change::seal(before.chain_head(), self.revision, self.wall, body))
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Arc<Node>, Refusal> {
        self.state.nodes.get(&id).ok_or(Refusal::NoNode(id))
    }

    pub(crate) fn perimeter(&self, name: &Name) -> Result<&Arc<Perimeter>, Refusal> {
        self.state
            .perimeters
            .get(name)
            .ok_or_else(|| Refusal::NoPerimeter(name.clone()))
    }

    /// Whether a new holder may have `name`.
    pub(crate) fn check_name(&self, name: &Name) -> Result<(), Refusal> {
        match self.state.names.get(name) {
            Some(holder) => Err(Refusal::NameTaken {
                name: name.clone(),
                holder: *holder,
            }),
            None => Ok(()),
        }
    }

    /// An id that nobody has. Nobody has zero.
    pub(crate) fn draw_member_id(&mut self) -> NodeId {
        loop {
            let id = NodeId(self.random.next_u64());
            if id.0 != 0 && self.state.member(id).is_none() {
                return id;
            }
        }
    }

    /// An id that no session has.
    pub(crate) fn draw_session_id(&mut self) -> SessionId {
        loop {
            let id = SessionId(self.random.next_u64());
            let mut held = self.state.sessions.values();
            if id.0 != 0 && held.all(|session| session.id != id) {
                return id;
            }
        }
    }

    /// An id that nobody and no group of a directory has.
    pub(crate) fn draw_directory_id(&mut self, directory: &Directory) -> DirectoryId {
        loop {
            let id = DirectoryId(self.random.next_u64());
            let is_held = directory.people.contains_key(&id) || directory.groups.contains_key(&id);
            if id.0 != 0 && !is_held {
                return id;
            }
        }
    }

    /// A number for the credentials of a local account, other than those before.
    pub(crate) fn draw_generation(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// An id that no lock has.
    pub(crate) fn draw_lock_id(&mut self) -> LockId {
        loop {
            let id = LockId(self.random.next_u64());
            if id.0 != 0 && !self.state.locks.contains_key(&id) {
                return id;
            }
        }
    }

    /// An id that no API token has.
    pub(crate) fn draw_api_token_id(&mut self) -> ApiTokenId {
        loop {
            let id = ApiTokenId(self.random.next_u64());
            if id.0 != 0 && !self.state.api_tokens.contains_key(&id) {
                return id;
            }
        }
    }

    /// An id that no token has.
    pub(crate) fn draw_token_id(&mut self) -> TokenId {
        loop {
            let id = TokenId(self.random.next_u64());
            if id.0 != 0 && !self.state.tokens.contains_key(&id) {
                return id;
            }
        }
    }
}
