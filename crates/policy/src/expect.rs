//! Runs the `[[expect]]` tests of a policy file against what it compiles to.
//!
//! A group stands for each of its members. One of nodes that has no member yet is stood for by a node with just the
//! labels its selector asks for, and one of users by a person whom just its selector selects as well, so that a test says
//! something before anyone has enrolled or logged in. It is about policy, not about this moment: whatever a rule requires
//! counts as met, for `allow` as for `deny`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ringfence_model::{Labels, Name, NodeId, UnixMillis};

use crate::compile::{Compiled, LiveRule};
use crate::coverage::Coverage;
use crate::diagnostic::Diagnostic;
use crate::explain::{self, Conditions, End};
use crate::facts::{Facts, UserFacts};
use crate::policy::{
    Endpoint, Expectation, GroupMembers, Member, Policy, UserKey, UserSelector, Verdict, list,
};

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
    labels: Cow<'a, Labels>,
    facts: Cow<'a, Facts>,
    groups: Vec<&'a Name>,
}

impl Stand<'_> {
    fn as_end(&self) -> End<'_> {
        End::new(&self.shown, &self.labels, &self.facts)
    }
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
    let (froms, tos) = (
        stands(policy, compiled, members, from),
        stands(policy, compiled, members, to),
    );
    for (end, stands) in [(from, &froms), (to, &tos)] {
        if stands.is_empty() && *verdict == Verdict::Allow {
            return failed(nobody(end));
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
fn stands<'a>(
    policy: &'a Policy,
    compiled: &'a Compiled,
    members: &'a [Member],
    end: &'a Endpoint,
) -> Vec<Stand<'a>> {
    let is_meant = |member: &&Member| match end {
        Endpoint::Node(name) => member.name == *name,
        Endpoint::Group(name) => compiled
            .groups
            .get(name)
            .is_some_and(|inside| inside.contains(&member.id)),
    };
    let mut kinds: BTreeMap<Vec<&Name>, Vec<Stand<'_>>> = BTreeMap::new();
    for member in members.iter().filter(is_meant) {
        let inside = compiled
            .groups
            .iter()
            .filter(|(_, inside)| inside.contains(&member.id));
        let groups: Vec<&Name> = inside.map(|(name, _)| name).collect();
        let alike = kinds.entry(groups.clone()).or_default();
        if alike.len() < 2 {
            alike.push(Stand {
                id: Some(member.id),
                shown: member.name.to_string(),
                labels: Cow::Borrowed(&member.labels),
                facts: Cow::Borrowed(&member.facts),
                groups,
            });
        }
    }
    let group = match end {
        Endpoint::Group(name) => policy.groups.get(name),
        Endpoint::Node(_) => None,
    };
    match group.map(|group| &group.members) {
        Some(GroupMembers::Nodes(selector)) if kinds.is_empty() => {
            let shown = format!("a node with {selector}");
            let imagined = imagined(policy, shown, selector.pairs().clone(), Facts::default());
            kinds.insert(imagined.groups.clone(), vec![imagined]);
        }
        Some(GroupMembers::Users(selector)) => {
            let shown = format!("a person with {selector}");
            let imagined = imagined(policy, shown, Labels::default(), someone(selector));
            kinds
                .entry(imagined.groups.clone())
                .or_insert_with(|| vec![imagined]);
        }
        Some(GroupMembers::Nodes(_) | GroupMembers::Node(_) | GroupMembers::PersonAt(_)) | None => {}
    }
    kinds.into_values().flatten().collect()
}

/// One who could be a member.
fn imagined(policy: &Policy, shown: String, labels: Labels, facts: Facts) -> Stand<'_> {
    let inside = policy
        .groups
        .iter()
        .filter(|(_, group)| group.members.matches(&labels, &facts, explain::ANY_TIME));
    Stand {
        id: None,
        shown,
        groups: inside.map(|(name, _)| name).collect(),
        labels: Cow::Owned(labels),
        facts: Cow::Owned(facts),
    }
}

/// A person whom just this selects.
fn someone(selector: &UserSelector) -> Facts {
    let value = |key| selector.value(key).map(str::to_owned);
    let user = UserFacts {
        name: selector.to_string(),
        email: value(UserKey::Email),
        groups: value(UserKey::Group).into_iter().collect(),
        mfa_at: None,
        until: UnixMillis(u64::MAX),
    };
    Facts {
        user: Some(user),
        ..Facts::default()
    }
}

fn nobody(end: &Endpoint) -> String {
    match end {
        Endpoint::Node(name) => format!("no node is named {name}"),
        Endpoint::Group(name) => format!("group {name} has no member"),
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
            let asked = explain::Asked {
                from: a.as_end(),
                to: b.as_end(),
                service,
                wall: explain::ANY_TIME,
                conditions: Conditions::Met,
            };
            explain::missing(policy, compiled, &asked).into_iter().next()
        }
    }
}
