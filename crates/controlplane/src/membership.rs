//! Who is a member of which perimeter, by labels, by who is logged in and by what was granted; members get their addresses
//! at once.

use std::collections::BTreeSet;

use ringfence_model::{Labels, Name, NodeId, SEGMENTS_PER_NODE_MAX, UnixMillis};
use ringfence_policy::{Facts, Policy};

use crate::address::{self, V4_BLOCKS};
use crate::draft::Draft;
use crate::limit::MEMBERS_PER_PERIMETER_MAX;
use crate::perimeter::Perimeter;
use crate::{Event, Refusal};

/// Whether someone with these labels, of whom this is verified, is a member by the policy's own groups at `wall`.
pub(crate) fn selects(policy: &Policy, labels: &Labels, facts: &Facts, wall: UnixMillis) -> bool {
    let mut groups = policy.groups.values();
    groups.any(|group| group.members.matches(labels, facts, wall))
}

/// The perimeters that someone is in by what was granted to them, whatever else they are in by.
fn granted_to(draft: &Draft, id: NodeId) -> BTreeSet<Name> {
    let granted = draft.state.grantees().filter(|(_, node)| *node == id);
    granted.map(|(name, _)| name.clone()).collect()
}

/// Brings a node's memberships in line with its labels and with who is logged in there.
pub(crate) fn settle_node(draft: &mut Draft, id: NodeId) -> Result<(), Refusal> {
    let node = draft.state.member(id).ok_or(Refusal::NoNode(id))?;
    let mut leaves = Vec::new();
    let mut joins = Vec::new();
    let granted = granted_to(draft, id);
    for perimeter in draft.state.perimeters.values() {
        let policy = perimeter.policy();
        let is_selected =
            selects(policy, &node.labels, &node.facts, draft.wall) || granted.contains(&perimeter.name);
        match (perimeter.seat(id).is_some(), is_selected) {
            (true, false) => leaves.push(perimeter.name.clone()),
            (false, true) => joins.push(perimeter.name.clone()),
            (true, true) | (false, false) => {}
        }
    }
    for name in &leaves {
        leave(draft, name, id);
    }
    for name in &joins {
        join(draft, name, id)?;
    }
    Ok(())
}

/// Takes a node out of every perimeter that selects it no longer. Takes away alone, so it cannot fail.
pub(crate) fn withdraw_node(draft: &mut Draft, id: NodeId) {
    let Some(member) = draft.state.member(id) else {
        return;
    };
    let granted = granted_to(draft, id);
    let is_selected = |perimeter: &Perimeter| {
        selects(perimeter.policy(), &member.labels, &member.facts, draft.wall)
            || granted.contains(&perimeter.name)
    };
    let perimeters = draft.state.perimeters.values();
    let left = perimeters.filter(|perimeter| perimeter.seat(id).is_some() && !is_selected(perimeter));
    let names: Vec<Name> = left.map(|perimeter| perimeter.name.clone()).collect();
    for name in &names {
        leave(draft, name, id);
    }
}

/// Brings a perimeter's members in line with its policy.
pub(crate) fn settle_perimeter(draft: &mut Draft, name: &Name) -> Result<(), Refusal> {
    let candidates = draft.state.members_for(name);
    let perimeter = draft.perimeter(name)?;
    let mut leaves = Vec::new();
    let mut joins = Vec::new();
    let granted = draft.state.grantees().filter(|(of, _)| *of == name);
    let granted: BTreeSet<NodeId> = granted.map(|(_, node)| node).collect();
    for candidate in &candidates {
        let is_member = perimeter.seat(candidate.id).is_some();
        let policy = perimeter.policy();
        let is_selected = selects(policy, &candidate.labels, &candidate.facts, draft.wall)
            || granted.contains(&candidate.id);
        match (is_member, is_selected) {
            (true, false) => leaves.push(candidate.id),
            (false, true) => joins.push(candidate.id),
            (true, true) | (false, false) => {}
        }
    }
    for id in leaves {
        leave(draft, name, id);
    }
    for id in joins {
        join(draft, name, id)?;
    }
    Ok(())
}

/// Takes someone in, with the addresses it had here before or new ones.
pub(crate) fn join(draft: &mut Draft, name: &Name, id: NodeId) -> Result<(), Refusal> {
    let perimeter = draft.perimeter(name)?;
    // Who is away has a seat too, so few seats are few members: counting at each of many joins would be quadratic.
    let may_be_full = perimeter.seats.len() >= MEMBERS_PER_PERIMETER_MAX;
    if may_be_full && perimeter.members().count() >= MEMBERS_PER_PERIMETER_MAX {
        return Err(Refusal::Limit {
            what: "members of one perimeter",
            max: MEMBERS_PER_PERIMETER_MAX,
        });
    }
    if perimeter.place_for(id, draft.wall).is_none() {
        add_block(draft, name)?;
    }
    let place = draft.perimeter(name)?.place_for(id, draft.wall);
    let addresses = place.ok_or(Refusal::AddressesExhausted("address"))?;
    let member_name = draft.state.name_of(id).ok_or(Refusal::NoNode(id))?.clone();
    draft.record(Event::MemberJoined {
        perimeter: name.clone(),
        member: id,
        name: member_name,
        addresses,
    });
    Ok(())
}

/// Whether everyone who came in is in no more perimeters than a node can be in. Asked once, at the end: one file of
/// an apply may take away what another gives.
pub(crate) fn check_segments(draft: &Draft) -> Result<(), Refusal> {
    for event in draft.events() {
        let Event::MemberJoined { member, name, .. } = event else {
            continue;
        };
        let node = draft.state.nodes.get(member);
        let count = node.map_or(0, |node| node.perimeters.len());
        if count > SEGMENTS_PER_NODE_MAX {
            return Err(Refusal::TooManySegments {
                name: name.clone(),
                count,
            });
        }
    }
    Ok(())
}

/// Lets someone go who is a member.
pub(crate) fn leave(draft: &mut Draft, name: &Name, id: NodeId) {
    let perimeter = draft.state.perimeters.get(name);
    let seat = perimeter.and_then(|perimeter| perimeter.seat(id));
    let (Some(seat), Some(member_name)) = (seat, draft.state.name_of(id)) else {
        return;
    };
    let left = Event::MemberLeft {
        perimeter: name.clone(),
        member: id,
        name: member_name.clone(),
        key: seat.key,
    };
    draft.record(left);
}

fn add_block(draft: &mut Draft, name: &Name) -> Result<(), Refusal> {
    let block = draft.state.v4_blocks.next(V4_BLOCKS, draft.wall, |_| true);
    let block = block.ok_or(Refusal::AddressesExhausted("IPv4 block"))?;
    draft.record(Event::BlockAdded {
        perimeter: name.clone(),
        v4: address::v4_block(block),
    });
    Ok(())
}
