//! Runs the `[[expect]]` tests of a policy file against what it compiles to.
//!
//! A group stands for each of its members. One of nodes that has no member yet is stood for by a node with just the
//! labels its selector asks for, so that a test says something before anyone has enrolled.

use std::collections::BTreeMap;

use ringfence_model::{Labels, Name, NodeId};

use crate::compile::{Compiled, LiveRule};
use crate::coverage::Coverage;
use crate::diagnostic::Diagnostic;
use crate::explain;
use crate::policy::{Endpoint, Expectation, GroupMembers, Member, Policy, Verdict, list};

/// The expectations that fail, in file order, each with one pair that shows it.
///
/// `members` are all nodes of the mesh and the devices of the perimeter, as for [`crate::compile()`].
pub fn check_expectations(policy: &Policy, compiled: &Compiled, members: &[Member]) -> Vec<Diagnostic> {
    let each = policy.expectations.iter();
    each.filter_map(|expectation| check(policy, compiled, members, expectation))
        .collect()
}

/// One node that a test is made with: a member, or one that could be.
struct Stand<'a> {
    id: Option<NodeId>,
    shown: String,
    labels: &'a Labels,
    groups: Vec<&'a Name>,
}

fn check(
    policy: &Policy,
    compiled: &Compiled,
    members: &[Member],
    expectation: &Expectation,
) -> Option<Diagnostic> {
    let Expectation {
        place,
        from,
        to,
        service,
        verdict,
    } = expectation;
    let wanted = format!("{from} to {to} on {service} should be {verdict}");
    let failed = |because: String| {
        Some(Diagnostic::new(
            &policy.file,
            *place,
            format!("{wanted}, but {because}"),
        ))
    };
    let (froms, tos) = (stands(policy, members, from), stands(policy, members, to));
    for (end, stands) in [(from, &froms), (to, &tos)] {
        if stands.is_empty() && *verdict == Verdict::Allow {
            return failed(nobody(policy, end));
        }
    }
    let asked: Coverage = [*service].into_iter().collect();
    for (a, b) in froms.iter().flat_map(|a| tos.iter().map(move |b| (a, b))) {
        let is_itself = a.id.is_some() && a.id == b.id;
        let open = asked.common(
            &rules_between(compiled, a, b)
                .flat_map(|rule| rule.services.iter().copied())
                .collect(),
        );
        let (wrong, state) = match verdict {
            Verdict::Allow => (asked.without(&open), "closed"),
            Verdict::Deny => (open, "open"),
        };
        if is_itself || wrong.is_empty() {
            continue;
        }
        let diagnostic = failed(format!(
            "{} is {state} from {} to {}",
            list(&wrong.services()),
            a.shown,
            b.shown
        ))?;
        return Some(match help(policy, compiled, (a, b), &wrong, *verdict) {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        });
    }
    None
}

/// Two nodes of each kind that the test is about: those in the same groups are alike, and two are needed where the
/// same kind stands at both ends.
fn stands<'a>(policy: &'a Policy, members: &'a [Member], end: &'a Endpoint) -> Vec<Stand<'a>> {
    let is_meant = |member: &&Member| match end {
        Endpoint::Node(name) => member.name == *name,
        Endpoint::Group(name) => policy
            .groups
            .get(name)
            .is_some_and(|group| group.members.matches(&member.labels)),
    };
    let mut kinds: BTreeMap<Vec<&Name>, Vec<Stand<'_>>> = BTreeMap::new();
    for member in members.iter().filter(is_meant) {
        let groups = explain::groups_of(policy, &member.labels);
        let alike = kinds.entry(groups.clone()).or_default();
        if alike.len() < 2 {
            alike.push(Stand {
                id: Some(member.id),
                shown: member.name.to_string(),
                labels: &member.labels,
                groups,
            });
        }
    }
    if kinds.is_empty()
        && let Endpoint::Group(name) = end
        && let Some(GroupMembers::Nodes(selector)) = policy.groups.get(name).map(|group| &group.members)
    {
        return vec![Stand {
            id: None,
            shown: format!("a node with {selector}"),
            labels: selector.pairs(),
            groups: explain::groups_of(policy, selector.pairs()),
        }];
    }
    kinds.into_values().flatten().collect()
}

fn nobody(policy: &Policy, end: &Endpoint) -> String {
    match end {
        Endpoint::Node(name) => format!("no node is named {name}"),
        Endpoint::Group(name) => match policy.groups.get(name).map(|group| &group.members) {
            Some(GroupMembers::Users(_)) => format!("{}", explain::UsersUnverified(name)),
            Some(GroupMembers::Nodes(_)) | None => format!("group {name} has no member"),
        },
    }
}

fn rules_between<'c>(
    compiled: &'c Compiled,
    a: &Stand<'_>,
    b: &Stand<'_>,
) -> impl Iterator<Item = &'c LiveRule> {
    let joins = |rule: &&LiveRule| a.groups.contains(&&rule.from) && b.groups.contains(&&rule.to);
    compiled.rules.iter().filter(joins)
}

/// The rule that opens what should be closed, or what the rule that comes closest is missing.
fn help(
    policy: &Policy,
    compiled: &Compiled,
    (a, b): (&Stand<'_>, &Stand<'_>),
    wrong: &Coverage,
    verdict: Verdict,
) -> Option<String> {
    match verdict {
        Verdict::Deny => {
            let services = wrong.services();
            let opens = |rule: &&LiveRule| {
                rule.services
                    .iter()
                    .any(|one| services.iter().any(|two| one.overlaps(*two)))
            };
            let id = rules_between(compiled, a, b).find(opens)?.id;
            let line = policy.rule(id)?.place.line;
            Some(format!("rule {id} (line {line}) opens it"))
        }
        Verdict::Allow => {
            let service = *wrong.services().first()?;
            let (from, to) = (
                explain::End::new(&a.shown, a.labels),
                explain::End::new(&b.shown, b.labels),
            );
            explain::missing(policy, compiled, from, to, service)
                .into_iter()
                .next()
        }
    }
}
