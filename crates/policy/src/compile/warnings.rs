//! What is odd about a policy at one moment, though it is sound.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{Name, NodeId, UnixMillis};

use crate::diagnostic::Diagnostic;
use crate::policy::{Endpoint, GroupMembers, Member, Policy};

/// A group that matches nothing, a rule whose time is over, a check about nobody: as the file orders them.
pub(super) fn warnings(
    policy: &Policy,
    groups: &BTreeMap<Name, BTreeSet<NodeId>>,
    members: &[Member],
    wall: UnixMillis,
) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, group) in &policy.groups {
        let empty = groups.get(name).is_none_or(BTreeSet::is_empty);
        if let GroupMembers::Nodes(selector) = &group.members
            && empty
        {
            let message = format!("group {name} matches no node: none has {selector}");
            warnings.push(Diagnostic::new(&policy.file, group.place, message));
        }
    }
    let rules = policy.rules.iter().filter(|rule| !rule.id.is_granted());
    for rule in rules.filter(|rule| !rule.is_live(wall)) {
        let message = format!("rule {} has expired: it opens nothing", rule.id);
        let warning = Diagnostic::new(&policy.file, rule.place, message);
        warnings.push(warning.with_help("delete it, or give it a later `expires`"));
    }
    for expectation in &policy.expectations {
        for end in [&expectation.from, &expectation.to] {
            let Endpoint::Node(name) = end else { continue };
            if members.iter().all(|member| member.name != *name) {
                let message = format!("no node is named {name}: this check says nothing about one");
                warnings.push(Diagnostic::new(&policy.file, expectation.place, message));
            }
        }
    }
    warnings.sort_by_key(|warning| warning.offset);
    warnings
}
