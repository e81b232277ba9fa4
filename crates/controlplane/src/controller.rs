//! The controller as a value: what the log says, what was compiled from it, and who is connected.
//!
//! **Invariant:** the state and the views come from the log alone, so replaying it gives the same controller; what
//! is not in the log (presence, receipts) decides nothing about access.

use std::collections::BTreeSet;

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Name, NodeId, Revision, UnixMillis};

use crate::apply::ApplyError;
use crate::change::{Body, ChainHead};
use crate::compile::{Touched, Views};
use crate::lapse::Silence;
use crate::pace::Pace;
use crate::posture::Reports;
use crate::presence::Presence;
use crate::receipt::{Receipts, may_narrow};
use crate::state::{Mesh, State};
use crate::{Actor, Change, Event, ReceiptEvent, TokenState, address};

/// A controller. Contract: [`Self::propose`], store the change durably, [`Self::apply`], tell the nodes it names.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(crate) state: State,
    pub(crate) views: Views,
    pub(crate) presence: Presence,
    pub(crate) receipts: Receipts,
    pub(crate) pace: Pace,
    /// When it came to life: nobody was told anything by it before.
    pub(crate) began_at: Option<UnixMillis>,
    pub(crate) reports: Reports,
    pub(crate) silence: Silence,
}

/// A node whose netmap may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Push {
    /// Which.
    pub node: NodeId,
    /// What became of it.
    pub kind: PushKind,
}

/// What to tell a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushKind {
    /// Its netmap: see [`Controller::netmap`].
    Netmap,
    /// That it was removed. It has no netmap any more.
    Removed,
}

impl Controller {
    /// Founds a mesh: the first entry of its log, and the controller after it. Store the entry before using it.
    pub fn found(mesh: Name, actor: &Actor, wall: UnixMillis, entropy: [u8; 32]) -> (Self, Change) {
        let [random @ .., _, _] = entropy.first_chunk::<7>().expect("32 bytes are more than 7");
        let body = Body {
            actor: actor.clone(),
            method: "mesh.found",
            events: vec![Event::MeshFounded {
                mesh,
                prefix: address::ula_prefix(*random),
            }],
        };
        let change = Change::seal(ChainHead::GENESIS, FIRST_REVISION, wall, body);
        let state = founded(&change).expect("the entry was just made to found a mesh");
        (Self::of(state), change)
    }

    pub(crate) fn of(state: State) -> Self {
        Self {
            views: Views::of(&state),
            state,
            presence: Presence::default(),
            receipts: Receipts::default(),
            pace: Pace::default(),
            began_at: None,
            reports: Reports::default(),
            silence: Silence::default(),
        }
    }

    /// It comes to life: call once, before it serves anybody. Where nothing was heard of a node since, this is when its
    /// lease was extended at the latest.
    pub fn begin(&mut self, wall: UnixMillis) {
        self.began_at = Some(wall);
        self.plan_lapses();
    }

    /// Applies a change that was proposed to this state and is stored. All of it, or nothing.
    ///
    /// # Errors
    /// [`ApplyError`] if it does not follow the last one applied.
    pub fn apply(&mut self, change: &Change) -> Result<Vec<Push>, ApplyError> {
        let mut next = self.state.clone();
        advance(&mut next, change)?;
        let touched = Touched::by(&change.events, &self.state);
        let mut concerned = self.views.concerned(&self.state, &touched);
        if is_off(Safeguard::Telling) {
            concerned.clear();
        }
        if !touched.recompiled().is_empty() {
            let judged = self.views.update(&next, &touched);
            if !is_off(Safeguard::Telling) {
                concerned.extend(judged);
            }
            concerned.extend(self.views.concerned(&next, &touched));
        }
        let removed = std::mem::replace(&mut self.state, next);
        let pushes = self.pushes(&removed, &concerned);
        let told = self.told(&removed, &pushes);
        self.receipts.applied(change.revision, change.at, told);
        self.note_receipts(change);
        let is_known = |node| self.state.nodes.contains_key(&node);
        self.pace
            .spend(&change.actor, &change.events, change.at, is_known);
        self.settle_posture(&change.events, change.at);
        self.plan_lapses_after(&change.events);
        for push in &pushes {
            match push.kind {
                PushKind::Netmap => self.presence.touch(push.node, change.revision),
                PushKind::Removed => {
                    self.presence.forget(push.node);
                    self.pace.forget(push.node);
                }
            }
        }
        Ok(pushes)
    }

    fn note_receipts(&mut self, change: &Change) {
        for event in &change.events {
            if let Event::Receipts(event) = event {
                let ReceiptEvent::ReceiptsRecorded { receipts } = event.as_ref();
                self.receipts.recorded(receipts, change.at);
            }
        }
        if change.events.iter().any(may_narrow) {
            self.receipts.will_record(change.revision);
        }
    }

    /// Devices have no control channel: who is left are nodes, those just removed among them.
    fn pushes(&self, before: &State, concerned: &BTreeSet<NodeId>) -> Vec<Push> {
        let mut pushes = Vec::new();
        for &node in concerned {
            if self.state.nodes.contains_key(&node) {
                pushes.push(Push {
                    node,
                    kind: PushKind::Netmap,
                });
            } else if before.nodes.contains_key(&node) {
                pushes.push(Push {
                    node,
                    kind: PushKind::Removed,
                });
            }
        }
        pushes
    }

    /// When the clock alone next ends something or changes what is open: propose [`crate::Command::Tick`] then. `None` if nothing will.
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let tokens = self.state.tokens.values();
        let tokens = tokens.filter(|token| token.state == TokenState::Active);
        let devices = self.state.devices.values();
        let ends = tokens.map(|token| token.expires);
        let ends = ends.chain(devices.filter_map(|device| device.expires));
        let sessions = self.state.sessions.values();
        let ends = ends.chain(sessions.map(|session| session.expires));
        let access = self.state.access.values();
        let ends = ends.chain(access.filter_map(|request| request.ends()));
        let ends = ends.chain(self.state.drills.values().map(|drill| drill.until));
        let locks = self.state.locks.values();
        let ends = ends.chain(locks.filter_map(|lock| lock.until));
        let ends = ends.chain(self.state.api_tokens.values().map(|token| token.expires));
        let ends = ends.chain(self.reports.next_end());
        let ends = ends.chain(self.silence.next());
        ends.chain(self.views.next_change()).min()
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The newest entry of the log: what the next one follows.
    pub fn chain_head(&self) -> ChainHead {
        self.state.chain_head()
    }

    /// What never changes about this mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.state.mesh
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn views(&self) -> &Views {
        &self.views
    }
}

/// The state after the first entry of a log.
pub(crate) fn founded(change: &Change) -> Result<State, ApplyError> {
    let head = change.verify_after(ChainHead::GENESIS)?;
    let impossible = |why| ApplyError::Impossible {
        revision: change.revision,
        event: "mesh-founded",
        why,
    };
    let [Event::MeshFounded { mesh, prefix }] = change.events.as_slice() else {
        return Err(impossible(
            "the first entry of a log founds a mesh, and nothing else",
        ));
    };
    let mut state = State::new(Mesh {
        name: mesh.clone(),
        prefix: *prefix,
        founded_at: change.at,
    });
    state.revision = head.revision;
    state.head = head.hash;
    Ok(state)
}

/// Moves a state past one entry. On an error the state is of no use.
pub(crate) fn advance(state: &mut State, change: &Change) -> Result<(), ApplyError> {
    let head = change.verify_after(state.chain_head())?;
    for event in &change.events {
        let applied = state.apply_event(event, change.revision, change.at);
        applied.map_err(|misfit| misfit.at(change.revision, event.kind()))?;
    }
    state.revision = head.revision;
    state.head = head.hash;
    Ok(())
}

const FIRST_REVISION: Revision = Revision { term: 1, n: 1 };
