//! Nodes that have been silent for longer than their lease: their peers close to them too.
//!
//! An honest agent closes by itself when its lease ends; one whose owner has changed it does not. So a node that mutes
//! the controller keeps nothing past its lease, whatever runs on it.
//!
//! **Invariant:** a node lapses in a perimeter only after every agent there that heard the same as it has closed by
//! itself, and stays lapsed until it is connected again. Who has no key there is nobody's peer, and does not lapse.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{Name, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{Controller, Event};

/// One fact about who is silent: in [`crate::Event::Lapse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum LapseEvent {
    /// Members have been silent for longer than the lease.
    MembersLapsed {
        /// In which perimeter.
        perimeter: Name,
        /// Who.
        nodes: Vec<NodeId>,
    },
    /// Members that had lapsed are connected again.
    MembersReturned {
        /// In which perimeter.
        perimeter: Name,
        /// Who.
        nodes: Vec<NodeId>,
    },
}

impl LapseEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MembersLapsed { .. } => "members-lapsed",
            Self::MembersReturned { .. } => "members-returned",
        }
    }

    /// Whom it is about, and where.
    pub(crate) fn subjects(&self) -> (&Name, &[NodeId]) {
        match self {
            Self::MembersLapsed { perimeter, nodes } | Self::MembersReturned { perimeter, nodes } => {
                (perimeter, nodes)
            }
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        let (perimeter, nodes) = self.subjects();
        let mut named: Vec<String> = nodes.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        if nodes.len() > NAMED_MAX {
            named.push(format!("{} others", nodes.len() - NAMED_MAX));
        }
        let named = named.join(", ");
        match self {
            Self::MembersLapsed { .. } => {
                format!("silent for longer than the lease of perimeter {perimeter}, so closed there: {named}")
            }
            Self::MembersReturned { .. } => format!("connected again, so open again in {perimeter}: {named}"),
        }
    }
}

/// When something is next due for each node that is silent, or back and not yet let in.
///
/// **Invariant:** it names every node for which something will come due by the clock alone, at that moment: whatever may
/// change the moment plans the node anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence {
    at: BTreeMap<NodeId, UnixMillis>,
    in_order: BTreeSet<(UnixMillis, NodeId)>,
}

impl Silence {
    fn plan(&mut self, node: NodeId, due: Option<UnixMillis>) {
        let before = match due {
            Some(at) => self.at.insert(node, at),
            None => self.at.remove(&node),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, node));
        }
        self.in_order.extend(due.map(|at| (at, node)));
    }

    /// When the next member lapses or returns.
    pub(crate) fn next(&self) -> Option<UnixMillis> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// For how many nodes something is due.
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    fn due(&self, wall: UnixMillis) -> impl Iterator<Item = NodeId> {
        let due = self.in_order.iter().take_while(move |(at, _)| *at <= wall);
        due.map(|(_, node)| *node)
    }
}

/// What is due for a member of a perimeter, and when.
#[derive(Clone, Copy)]
enum Due {
    Lapse(UnixMillis),
    Return,
}

impl Controller {
    /// Something has changed of which it depends when a node lapses or returns.
    pub(crate) fn plan_lapse(&mut self, node: NodeId) {
        let due = self.dues_of(node).map(|(_, due)| match due {
            Due::Lapse(at) => at,
            Due::Return => UnixMillis(0),
        });
        let due = due.min();
        self.silence.plan(node, due);
    }

    /// The same for every node.
    pub(crate) fn plan_lapses(&mut self) {
        let nodes: Vec<NodeId> = self.state().nodes.keys().copied().collect();
        for node in nodes {
            self.plan_lapse(node);
        }
    }

    /// The same for the nodes that events are about.
    pub(crate) fn plan_lapses_after(&mut self, events: &[Event]) {
        let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
        for event in events {
            match event {
                Event::PerimeterChanged { perimeter, .. } => {
                    let perimeter = self.state().perimeters.get(perimeter);
                    nodes.extend(perimeter.into_iter().flat_map(|held| held.seats.keys()));
                }
                Event::MemberJoined { member, .. } | Event::MemberLeft { member, .. } => {
                    nodes.insert(*member);
                }
                Event::KeyRegistered { node, .. } => {
                    nodes.insert(*node);
                }
                Event::NodeRemoved { before } => {
                    nodes.insert(before.id);
                }
                Event::Lapse(event) => nodes.extend(event.subjects().1),
                _ => {}
            }
        }
        for node in nodes {
            self.plan_lapse(node);
        }
    }

    /// What has come due by `wall`, perimeter by perimeter.
    pub(crate) fn lapses_due(&self, wall: UnixMillis) -> Vec<LapseEvent> {
        let mut lapsed: BTreeMap<&Name, Vec<NodeId>> = BTreeMap::new();
        let mut returned: BTreeMap<&Name, Vec<NodeId>> = BTreeMap::new();
        for node in self.silence.due(wall) {
            for (perimeter, due) in self.dues_of(node) {
                match due {
                    Due::Lapse(at) if at <= wall && !is_off(Safeguard::Lapse) => {
                        lapsed.entry(perimeter).or_default().push(node);
                    }
                    Due::Lapse(_) => {}
                    Due::Return => returned.entry(perimeter).or_default().push(node),
                }
            }
        }
        let lapsed = lapsed
            .into_iter()
            .map(|(perimeter, nodes)| LapseEvent::MembersLapsed {
                perimeter: perimeter.clone(),
                nodes,
            });
        let returned = returned
            .into_iter()
            .map(|(perimeter, nodes)| LapseEvent::MembersReturned {
                perimeter: perimeter.clone(),
                nodes,
            });
        lapsed.chain(returned).collect()
    }

    fn dues_of(&self, id: NodeId) -> impl Iterator<Item = (&Name, Due)> {
        let node = self.state().nodes.get(&id);
        let names = node.into_iter().flat_map(|node| &node.perimeters);
        let is_connected = self.is_connected(id);
        names.filter_map(move |name| {
            let perimeter = self.state().perimeters.get(name)?;
            let seat = perimeter.seat(id)?;
            let due = match (is_connected, seat.is_lapsed) {
                (true, true) => Due::Return,
                (false, false) if seat.key.is_some() => {
                    Due::Lapse(self.closed_by(id, perimeter.policy().lease)?)
                }
                (true, false) | (false, _) => return None,
            };
            Some((name, due))
        })
    }
}

/// Members that a sentence names.
const NAMED_MAX: usize = 3;
