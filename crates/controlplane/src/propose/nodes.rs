//! Nodes: admitted, renamed, labelled, removed.

use std::collections::BTreeSet;

use ringfence_model::{Labels, Name, NodeId, TokenId, UnixMillis};

use super::{drills, people, requests, tokens};
use crate::draft::Draft;
use crate::limit::{NODES_MAX, SERIAL_BYTES_MAX};
use crate::{
    AccessEnd, Admission, Certificate, Event, Identity, Node, Refusal, SessionEnd, TokenHash, membership,
};

/// A node to be.
pub(super) struct NewNode {
    pub(super) name: Name,
    pub(super) labels: Labels,
    pub(super) identity: Identity,
    pub(super) admission: Admission,
}

/// Admits a node by a token, and counts the use in the same change (red line 7).
pub(super) fn enroll(
    draft: &mut Draft,
    (token, secret_hash): (TokenId, &TokenHash),
    name: Name,
    identity: Identity,
) -> Result<(), Refusal> {
    tokens::admit(draft, token, secret_hash)?;
    let labels = draft.state.tokens.get(&token).map(|token| token.labels.clone());
    let new = NewNode {
        name,
        labels: labels.ok_or(Refusal::NoToken(token))?,
        identity,
        admission: Admission::Token { token },
    };
    let id = add(draft, new)?;
    tokens::consume(draft, token)?;
    membership::settle_node(draft, id)
}

/// Adds a node that something lets in, to no perimeter yet.
pub(super) fn add(draft: &mut Draft, new: NewNode) -> Result<NodeId, Refusal> {
    if draft.state.nodes.len() >= NODES_MAX {
        return Err(Refusal::Limit {
            what: "nodes",
            max: NODES_MAX,
        });
    }
    draft.check_name(&new.name)?;
    let mut nodes = draft.state.nodes.values();
    if let Some(twin) = nodes.find(|node| node.identity == new.identity) {
        return Err(Refusal::IdentityTaken(twin.id));
    }
    let node = Node {
        id: draft.draw_member_id(),
        name: new.name,
        labels: new.labels,
        identity: new.identity,
        enrolled_at: draft.wall,
        admission: new.admission,
        certificate: None,
        perimeters: BTreeSet::new(),
        source: None,
    };
    let id = node.id;
    draft.record(Event::NodeEnrolled { node });
    Ok(id)
}

pub(super) fn update(
    draft: &mut Draft,
    id: NodeId,
    name: Option<Name>,
    set: &Labels,
    remove: &[String],
) -> Result<(), Refusal> {
    let node = draft.node(id)?.clone();
    if let Some(after) = name
        && after != node.name
    {
        draft.check_name(&after)?;
        draft.record(Event::NodeRenamed {
            node: id,
            before: node.name.clone(),
            after,
        });
    }
    let after = relabel(&node.labels, set, remove)?;
    if after != node.labels {
        draft.record(Event::NodeLabelled {
            node: id,
            before: node.labels.clone(),
            after,
        });
        membership::settle_node(draft, id)?;
    }
    Ok(())
}

/// Ends a node. Needs nothing but its id (red line 2: removing needs less than granting).
pub(super) fn remove(draft: &mut Draft, id: NodeId) -> Result<(), Refusal> {
    draft.node(id)?;
    people::end_at(draft, id, SessionEnd::NodeRemoved);
    requests::end_where(draft, AccessEnd::NodeRemoved, |request| request.node == id);
    drills::end_where(draft, |drill| drill.from == id || drill.to == id);
    let perimeters = draft.node(id)?.perimeters.clone();
    for name in &perimeters {
        membership::leave(draft, name, id);
    }
    let before = draft.node(id)?.as_ref().clone();
    draft.record(Event::NodeRemoved { before });
    Ok(())
}

pub(super) fn record_certificate(
    draft: &mut Draft,
    id: NodeId,
    serial: String,
    not_after: UnixMillis,
) -> Result<(), Refusal> {
    let is_hex = serial.bytes().all(|b| b.is_ascii_hexdigit());
    if !(1..=SERIAL_BYTES_MAX).contains(&serial.len()) || !is_hex {
        return Err(Refusal::Serial);
    }
    let before = draft.node(id)?.certificate.clone();
    draft.record(Event::CertificateIssued {
        node: id,
        before,
        after: Certificate { serial, not_after },
    });
    Ok(())
}

/// Removes keys, then sets pairs: a key in both ends up set.
fn relabel(before: &Labels, set: &Labels, remove: &[String]) -> Result<Labels, Refusal> {
    let mut after = before.clone();
    for key in remove {
        after.remove(key);
    }
    for (key, value) in set.iter() {
        after.remove(key);
        after.add(key, value)?;
    }
    Ok(after)
}
