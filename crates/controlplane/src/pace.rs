//! How fast a node may bring about entries of the log by itself: the log never shrinks, and a node gone bad must not
//! fill it.
//!
//! What an administrator brings about is not counted, nor is what follows from it: a first key in each perimeter and a
//! first certificate.
//!
//! **Invariant:** in any stretch of time, a node's own entries are at most [`OWN_ENTRIES_BURST`], and one more for each
//! [`OWN_ENTRY_EVERY`] of it.

use std::collections::BTreeMap;

use ringfence_model::{NodeId, UnixMillis};

use crate::limit::{OWN_ENTRIES_BURST, OWN_ENTRY_EVERY};
use crate::{AccessEvent, Actor, ActorKind, Event, PeopleEvent, Refusal};

/// Of every node that brought about an entry since the controller started: until when its allowance is spent (a token
/// bucket, as ITU-T I.371 writes it). It is not in the log, and decides nothing about access.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    spent_until: BTreeMap<NodeId, UnixMillis>,
}

impl Pace {
    /// Whether these events, asked for by `actor`, may be recorded at `wall`.
    pub(crate) fn check(&self, actor: &Actor, events: &[Event], wall: UnixMillis) -> Result<(), Refusal> {
        for node in events.iter().filter_map(|event| brought_about_by(actor, event)) {
            if !self.allows(node, wall) {
                return Err(Refusal::TooOften(node));
            }
        }
        Ok(())
    }

    /// Whether a node may bring about one more entry.
    pub(crate) fn allows(&self, node: NodeId, wall: UnixMillis) -> bool {
        let full = wall.saturating_add(OWN_ENTRY_EVERY * OWN_ENTRIES_BURST);
        self.spent_until(node, wall).saturating_add(OWN_ENTRY_EVERY) <= full
    }

    /// They were recorded. A node that is gone by now has no allowance to keep account of.
    pub(crate) fn spend(
        &mut self,
        actor: &Actor,
        events: &[Event],
        wall: UnixMillis,
        is_known: impl Fn(NodeId) -> bool,
    ) {
        let nodes = events.iter().filter_map(|event| brought_about_by(actor, event));
        for node in nodes.filter(|node| is_known(*node)) {
            let spent = self.spent_until(node, wall).saturating_add(OWN_ENTRY_EVERY);
            self.spent_until.insert(node, spent);
        }
    }

    /// Of how many nodes account is kept.
    pub(crate) fn len(&self) -> usize {
        self.spent_until.len()
    }

    pub(crate) fn forget(&mut self, node: NodeId) {
        self.spent_until.remove(&node);
    }

    fn spent_until(&self, node: NodeId, wall: UnixMillis) -> UnixMillis {
        let spent = self.spent_until.get(&node).copied().unwrap_or(wall);
        // A clock that was set back begins anew: else the node would wait until it has caught up.
        let impossible = spent > wall.saturating_add(OWN_ENTRY_EVERY * OWN_ENTRIES_BURST);
        if impossible { wall } else { spent.max(wall) }
    }
}

/// The node that could go on making entries like this one.
fn brought_about_by(actor: &Actor, event: &Event) -> Option<NodeId> {
    match event {
        Event::KeyRegistered { node, before, .. } => before.is_some().then_some(*node),
        Event::CertificateIssued { node, before, .. } => before.is_some().then_some(*node),
        // Who moves is counted; that nobody knows where it is follows only on a time that somebody did. What becomes asked
        // by an administrator's word is no move.
        Event::SourceSeen { node, after, .. } => {
            let moved = after.is_some() && actor.kind == ActorKind::System;
            moved.then_some(*node)
        }
        // An identity provider may vouch again and again without asking the person.
        Event::People(event) => match event.as_ref() {
            PeopleEvent::SessionStarted { session } => Some(session.node),
            PeopleEvent::SessionRenewed { after, .. } => Some(after.node),
            _ => None,
        },
        Event::Access(event) if actor.kind == ActorKind::Node => match event.as_ref() {
            AccessEvent::AccessRequested { request } => Some(request.node),
            _ => None,
        },
        Event::Refused { .. } if actor.kind == ActorKind::Node => actor.name.parse().ok(),
        // Not what an administrator brings about by asking for something else.
        Event::Posture(event) if actor.kind == ActorKind::System => event.gains(),
        _ => None,
    }
}
