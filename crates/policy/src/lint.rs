//! What in a policy is valid and likely not meant: groups nobody uses, and rules under others.

use std::collections::BTreeSet;

use ringfence_model::Name;

use crate::coverage::Coverage;
use crate::diagnostic::Diagnostic;
use crate::policy::{AllowRule, GroupMembers, Policy, list};

pub(crate) fn warnings(policy: &Policy) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    unused_groups(policy, &mut warnings);
    rules_under_others(policy, &mut warnings);
    warnings.sort_by_key(|warning| warning.offset);
    warnings
}

fn unused_groups(policy: &Policy, warnings: &mut Vec<Diagnostic>) {
    let used: BTreeSet<&Name> = policy
        .rules
        .iter()
        .flat_map(|rule| [&rule.from, &rule.to])
        .collect();
    for (name, group) in &policy.groups {
        if !used.contains(name) {
            let message = format!("group {name} is in no rule: its members get a key here and reach nothing");
            warnings.push(Diagnostic::new(&policy.file, group.place, message));
        }
    }
}

fn rules_under_others(policy: &Policy, warnings: &mut Vec<Diagnostic>) {
    let opened: Vec<Coverage> = policy
        .rules
        .iter()
        .map(|rule| rule.services.iter().copied().collect())
        .collect();
    let rules: Vec<(&AllowRule, &Coverage)> = policy.rules.iter().zip(&opened).collect();
    for &(rule, opens) in &rules {
        let wider = || {
            // What opens nothing in common is neither: nearly all of a policy with thousands of rules.
            let near = rules.iter().filter(|(_, twin_opens)| opens.may_meet(twin_opens));
            near.filter(|(twin, _)| twin.id != rule.id && joins_no_more(policy, rule, twin))
        };
        let shadow = wider().find_map(|(twin, twin_opens)| shadow(policy, (rule, opens), (twin, twin_opens)));
        let overlap =
            || wider().find_map(|(twin, twin_opens)| overlap(policy, (rule, opens), (twin, twin_opens)));
        let message = shadow.or_else(overlap);
        warnings.extend(message.map(|message| Diagnostic::new(&policy.file, rule.place, message)));
    }
}

/// Whether every pair of nodes that `rule` joins is joined by `twin` too, by their selectors alone.
fn joins_no_more(policy: &Policy, rule: &AllowRule, twin: &AllowRule) -> bool {
    is_within(policy, &rule.from, &twin.from) && is_within(policy, &rule.to, &twin.to)
}

fn is_within(policy: &Policy, inner: &Name, outer: &Name) -> bool {
    let members = |name| policy.groups.get(name).map(|group| &group.members);
    match (members(inner), members(outer)) {
        _ if inner == outer => true,
        (Some(GroupMembers::Nodes(inner)), Some(GroupMembers::Nodes(outer))) => outer.matches(inner.pairs()),
        (Some(GroupMembers::Users(inner)), Some(GroupMembers::Users(outer))) => outer.covers(inner),
        (Some(_) | None, _) => false,
    }
}

/// Says so if `rule` opens nothing that `twin` does not.
fn shadow(policy: &Policy, rule: (&AllowRule, &Coverage), twin: (&AllowRule, &Coverage)) -> Option<String> {
    let ((rule, opens), (twin, twin_opens)) = (rule, twin);
    let outlasts = twin
        .expires
        .is_none_or(|twin| rule.expires.is_some_and(|rule| rule <= twin));
    if !opens.without(twin_opens).is_empty() || !outlasts || !asks_no_more(twin, rule) {
        return None;
    }
    let is_same = opens == twin_opens
        && twin.expires == rule.expires
        && twin.require == rule.require
        && joins_no_more(policy, twin, rule);
    if is_same && rule.id < twin.id {
        return None;
    }
    let besides = match (&rule.require, &twin.require) {
        (Some(require), None) => format!(", without {require}"),
        (Some(_), Some(require)) if twin.require != rule.require => format!(", with {require} alone"),
        (Some(_), Some(_)) | (None, _) if twin.expires != rule.expires => ", and for longer".to_owned(),
        (Some(_), Some(_)) | (None, _) => String::new(),
    };
    let (id, line) = (twin.id, twin.place.line);
    Some(format!(
        "rule {} adds nothing: rule {id} (line {line}) opens all of it{besides}",
        rule.id
    ))
}

/// Whether all who meet what `rule` requires meet what `twin` does.
fn asks_no_more(twin: &AllowRule, rule: &AllowRule) -> bool {
    match (&twin.require, &rule.require) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(twin), Some(rule)) => twin.asks_no_more_than(rule),
    }
}

/// Says what two rules open both, to the later or narrower one: closing it takes both.
fn overlap(policy: &Policy, rule: (&AllowRule, &Coverage), twin: (&AllowRule, &Coverage)) -> Option<String> {
    let common = rule.1.common(twin.1).services();
    let is_same_pair = joins_no_more(policy, twin.0, rule.0);
    let is_said_there = is_same_pair && (rule.0.id < twin.0.id || shadow(policy, twin, rule).is_some());
    // One that asks for more is the usual way to open more to fewer, and leaves open what it says.
    if common.is_empty() || is_said_there || !asks_no_more(twin.0, rule.0) {
        return None;
    }
    let (id, line, both) = (twin.0.id, twin.0.place.line, list(&common));
    Some(format!(
        "rule {id} (line {line}) opens {both} too: taking it out of rule {} leaves it open",
        rule.0.id
    ))
}
