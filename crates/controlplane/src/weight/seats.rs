//! Whom a change may make too heavy: the first of the three steps, by counting seats and rules alone.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_control::{NETMAP_HEAD_BYTES_MAX, NETMAP_WEIGHT_MAX, SegmentCount};
use ringfence_model::{Name, NodeId};
use ringfence_policy::Spread;

use super::known;
use crate::perimeter::Perimeter;
use crate::state::State;
use crate::{AccessEvent, DrillEvent, Event, Node, PostureEvent};

/// The perimeters in which anyone may get heavier.
pub(super) fn grown(before: &State, events: &[Event]) -> BTreeSet<Name> {
    let mut grown = BTreeSet::new();
    for event in events {
        match event {
            Event::PerimeterCreated { perimeter, .. }
            | Event::PerimeterChanged { perimeter, .. }
            | Event::BlockAdded { perimeter, .. }
            | Event::MemberJoined { perimeter, .. } => {
                grown.insert(perimeter.clone());
            }
            Event::NodeLabelled { node, .. } | Event::NodeRenamed { node, .. } => {
                grown.extend(perimeters_of(before, *node));
            }
            Event::Posture(event) => match event.as_ref() {
                PostureEvent::PostureApplied { .. } => grown.extend(before.perimeters.keys().cloned()),
                PostureEvent::PostureJudged { node, .. } => grown.extend(perimeters_of(before, *node)),
                PostureEvent::FactGiven { .. } | PostureEvent::TpmRecorded { .. } => {}
            },
            Event::People(event) => grown.extend(
                event
                    .node()
                    .map(|node| perimeters_of(before, node))
                    .into_iter()
                    .flatten(),
            ),
            Event::Access(event) => {
                if let AccessEvent::AccessOpened { perimeter, .. } = event.as_ref() {
                    grown.insert(perimeter.clone());
                }
            }
            Event::Drill(DrillEvent::DrillBegan { drill }) => {
                grown.insert(drill.perimeter.clone());
            }
            // Keys are in the weight before they are registered; everything else takes away, or is in no netmap.
            _ => {}
        }
    }
    grown
}

fn perimeters_of(state: &State, node: NodeId) -> BTreeSet<Name> {
    known(state, node).map_or_else(BTreeSet::new, |node| node.perimeters.clone())
}

/// The nodes in any of these perimeters that counting seats cannot rule out.
pub(super) fn heavy_by_seats<'a>(state: &'a State, grown: &BTreeSet<Name>) -> Vec<&'a Node> {
    let grown = grown.iter().filter_map(|name| state.perimeters.get(name));
    let ids: BTreeSet<NodeId> = grown
        .flat_map(|perimeter| perimeter.members().map(|(id, _)| id))
        .collect();
    let mut bounds: BTreeMap<&Name, usize> = BTreeMap::new();
    let mut heavy = Vec::new();
    for node in ids.into_iter().filter_map(|id| known(state, id)) {
        let each = node.perimeters.iter().map(|name| {
            let bound = || {
                state
                    .perimeters
                    .get(name)
                    .map_or(0, |perimeter| seats_bound(state, perimeter))
            };
            *bounds.entry(name).or_insert_with(bound)
        });
        if NETMAP_HEAD_BYTES_MAX + each.sum::<usize>() > NETMAP_WEIGHT_MAX {
            heavy.push(node);
        }
    }
    heavy
}

/// What a segment of the perimeter weighs at most, whoever's it is.
pub(super) fn seats_bound(state: &State, perimeter: &Perimeter) -> usize {
    let policy = state.policy_in_force(perimeter);
    let (seats, groups) = (perimeter.seats.len(), policy.groups.len());
    let mut count = SegmentCount {
        prefixes: perimeter.v4.len(),
        peers: seats,
        sets: groups,
        set_peers: groups * seats,
        ..SegmentCount::default()
    };
    for rule in &policy.rules {
        let (from, to) = policy.spreads(rule);
        for spread in [from, to] {
            let parts = Parts::of(spread, seats);
            count.rules += parts.rules;
            count.services += parts.rules * rule.services.len();
            count.sets += parts.sets;
            count.set_peers += parts.set_peers;
        }
    }
    count.weight_at_most()
}

/// In how many parts a rule is told at worst to those at its other end, whoever meets what it asks and until when.
#[derive(Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) rules: usize,
    /// Sets of peers besides those that are whole groups.
    pub(super) sets: usize,
    pub(super) set_peers: usize,
}

impl Parts {
    /// For so many people or nodes at this end.
    pub(super) fn of(spread: Spread, count: usize) -> Self {
        match spread {
            Spread::Whole => Self {
                rules: 1,
                ..Self::default()
            },
            Spread::Part => Self {
                rules: 1,
                sets: 1,
                set_peers: count,
            },
            Spread::Each => Self {
                rules: count.max(1),
                sets: count,
                set_peers: count,
            },
        }
    }
}
