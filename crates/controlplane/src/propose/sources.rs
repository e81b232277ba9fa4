//! Where nodes are, as far as policy asks: the address that a node's control connection comes from.
//!
//! **Invariant:** what is recorded of a node is nothing, or where its newest connection came from when it was last looked
//! at. Nothing is recorded of a node that no policy with a `source` speaks about; once something is, every move is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringfence_model::NodeId;

use crate::draft::Draft;
use crate::perimeter::Perimeter;
use crate::state::State;
use crate::{Controller, Event, Refusal};

impl Controller {
    /// Whether [`crate::Command::NoteSource`] would change anything.
    pub fn is_source_news(&self, node: NodeId, source: Option<IpAddr>) -> bool {
        is_news(self.state(), node, source)
    }
}

/// A node is there, or it is not known where.
pub(super) fn note(draft: &mut Draft, node: NodeId, source: Option<IpAddr>) -> Result<(), Refusal> {
    draft.node(node)?;
    if is_news(&draft.state, node, source) {
        record(draft, node, source);
    }
    Ok(())
}

fn is_news(state: &State, node: NodeId, source: Option<IpAddr>) -> bool {
    let Some(known) = state.nodes.get(&node) else {
        return false;
    };
    let source = source.map(|source| source.to_canonical());
    let mut perimeters = known
        .perimeters
        .iter()
        .filter_map(|name| state.perimeters.get(name));
    known.source != source && (known.source.is_some() || perimeters.any(|perimeter| asks(perimeter)))
}

/// Policy has come to ask where nodes are, or nodes have come where it asks: takes down where those are that are
/// connected. The others are looked at when they connect.
pub(super) fn settle(draft: &mut Draft, controller: &Controller) {
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    for event in draft.events() {
        let (name, member) = match event {
            Event::PerimeterCreated { perimeter, .. } | Event::PerimeterChanged { perimeter, .. } => {
                (perimeter, None)
            }
            Event::MemberJoined {
                perimeter, member, ..
            } => (perimeter, Some(*member)),
            _ => continue,
        };
        let perimeter = draft.state.perimeters.get(name);
        let Some(perimeter) = perimeter.filter(|perimeter| asks(perimeter)) else {
            continue;
        };
        match member {
            Some(member) => {
                asked.insert(member);
            }
            None => asked.extend(perimeter.members().map(|(id, _)| id)),
        }
    }
    for node in asked {
        let presence = controller.presence(node);
        let connection = presence.and_then(|presence| presence.connection);
        if let Some(connection) = connection
            && draft.state.nodes.contains_key(&node)
        {
            record(draft, node, Some(connection.remote.ip()));
        }
    }
}

fn record(draft: &mut Draft, node: NodeId, source: Option<IpAddr>) {
    let before = draft.state.nodes.get(&node).and_then(|known| known.source);
    // An IPv4 client of a socket that takes both looks like ::ffff:192.0.2.1.
    let after = source.map(|source| source.to_canonical());
    if before != after {
        draft.record(Event::SourceSeen { node, before, after });
    }
}

fn asks(perimeter: &Perimeter) -> bool {
    let requirements = perimeter.policy().rules.iter();
    let mut requirements = requirements.filter_map(|rule| rule.require.as_ref());
    requirements.any(|requirement| !requirement.source.is_empty())
}
