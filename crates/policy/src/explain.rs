//! Says why one node may reach another or not: the rule and its line, or precisely what is missing.
//!
//! **Invariant:** the verdict is the compiled one; the words are found afterwards and never change it.

use std::fmt;

use ringfence_model::{Labels, Name, RuleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::compile::Compiled;
use crate::coverage::Coverage;
use crate::policy::{AllowRule, GroupMembers, Member, Policy, Verdict, list};
use crate::require::Requirement;
use crate::service::Service;

/// The answer to "may `from` open `service` to `to`, and why".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The perimeter asked.
    pub perimeter: Name,
    /// Who would open the conversation.
    pub from: Name,
    /// Who would be reached.
    pub to: Name,
    /// With what.
    pub service: Service,
    /// Allow only if the whole service is open.
    pub verdict: Verdict,
    /// The lowest rule that opens it, or a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
    /// The policy file.
    pub file: String,
    /// The rule's line in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// When the rule stops counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMillis>,
    /// One sentence.
    pub reason: String,
    /// For a denial, what each rule that comes near is missing, nearest first.
    pub missing: Vec<String>,
}

/// A node as words need it.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    shown: &'a str,
    labels: &'a Labels,
}

/// That a group of users has no member, and why.
pub(crate) struct UsersUnverified<'a>(pub(crate) &'a Name);

/// That nothing verifies what a rule asks for.
pub(crate) struct Unverified<'a>(pub(crate) &'a Requirement);

/// Explains what `compiled` says about one conversation. `service` is usually one port.
pub fn explain(
    policy: &Policy,
    compiled: &Compiled,
    from: &Member,
    to: &Member,
    service: &Service,
) -> Explanation {
    let service = *service;
    let asked: Coverage = [service].into_iter().collect();
    let open = asked.common(&compiled.coverage(from.id, to.id));
    let is_whole = asked.without(&open).is_empty();
    let opens = |rule: &&crate::LiveRule| rule.services.iter().any(|opened| opened.overlaps(service));
    let rule = compiled
        .rules_between(from.id, to.id)
        .find(opens)
        .and_then(|rule| policy.rule(rule.id));
    let ends = (
        End::new(from.name.as_str(), &from.labels),
        End::new(to.name.as_str(), &to.labels),
    );
    let (verdict, reason) = match rule {
        Some(rule) if is_whole => (Verdict::Allow, allowed(policy, rule)),
        Some(rule) => {
            let parts = list(&open.services());
            (
                Verdict::Deny,
                format!("only {parts} of {service} is open: {}", allowed(policy, rule)),
            )
        }
        None => (Verdict::Deny, denied(policy, compiled, from, to, service)),
    };
    let missing = match rule {
        None if from.id != to.id => missing(policy, compiled, ends.0, ends.1, service),
        Some(_) | None => Vec::new(),
    };
    Explanation {
        perimeter: policy.name.clone(),
        from: from.name.clone(),
        to: to.name.clone(),
        service,
        verdict,
        rule: rule.map(|rule| rule.id),
        file: policy.file.clone(),
        line: rule.map(|rule| rule.place.line),
        expires: rule.and_then(|rule| rule.expires),
        reason,
        missing,
    }
}

fn allowed(policy: &Policy, rule: &AllowRule) -> String {
    let mut text = sentence(policy, rule);
    if let Some(expires) = rule.expires {
        text = format!("{text}, until {}", moment(expires));
    }
    if let Some(reason) = &rule.reason {
        text = format!("{text} ({reason})");
    }
    text
}

fn denied(policy: &Policy, compiled: &Compiled, from: &Member, to: &Member, service: Service) -> String {
    let (perimeter, a, b) = (&policy.name, &from.name, &to.name);
    if from.id == to.id {
        return format!("{a} is both ends: a perimeter does not stand between a node and itself");
    }
    for member in [from, to] {
        if !compiled.members().contains(&member.id) {
            return format!(
                "{} is in no group of {perimeter}: it has no key there",
                member.name
            );
        }
    }
    let joins = |rule: &&AllowRule| {
        let sides = [(&rule.from, from), (&rule.to, to)];
        let is_in = |(group, member): (&Name, &Member)| {
            compiled
                .groups
                .get(group)
                .is_some_and(|members| members.contains(&member.id))
        };
        sides.into_iter().all(is_in) && rule.services.iter().any(|opened| opened.overlaps(service))
    };
    match policy.rules.iter().find(joins) {
        // It joins them and is not compiled: its time is over, or it asks for what is not verified.
        Some(rule) => format!("{} but opens nothing now", sentence(policy, rule)),
        None => format!("{a} is in no group that may reach {b} on {service}"),
    }
}

/// One line for each rule that comes near, nearest first: what it lacks to open `service` between the two.
pub(crate) fn missing(
    policy: &Policy,
    compiled: &Compiled,
    from: End<'_>,
    to: End<'_>,
    service: Service,
) -> Vec<String> {
    let opens = |rule: &&AllowRule| rule.services.iter().any(|opened| opened.overlaps(service));
    let mut near: Vec<(usize, RuleId, String)> = Vec::new();
    for rule in policy.rules.iter().filter(opens) {
        let obstacles = obstacles(policy, compiled, rule, from, to);
        let line = format!("{}; {}", sentence(policy, rule), obstacles.join("; "));
        near.push((obstacles.len(), rule.id, line));
    }
    near.sort();
    let left_out = near.len().saturating_sub(RULES_SHOWN_MAX);
    let mut lines: Vec<String> = near
        .into_iter()
        .take(RULES_SHOWN_MAX)
        .map(|(_, _, line)| line)
        .collect();
    if left_out > 0 {
        lines.push(format!(
            "and {left_out} more rules that open {service} for others"
        ));
    }
    if lines.is_empty() {
        lines.push(format!("no rule of {} opens {service}", policy.name));
        lines.extend(other_services(policy, from, to));
    }
    lines.extend(other_way_round(policy, from, to, service));
    lines
}

/// Rules that join the two for something else.
fn other_services(policy: &Policy, from: End<'_>, to: End<'_>) -> Option<String> {
    let rule = policy.rules.iter().find(|rule| joins(policy, rule, from, to))?;
    Some(format!("{} only", sentence(policy, rule)))
}

fn other_way_round(policy: &Policy, from: End<'_>, to: End<'_>, service: Service) -> Option<String> {
    let opens = |rule: &&AllowRule| rule.services.iter().any(|opened| opened.overlaps(service));
    let mut turned = policy.rules.iter().filter(|rule| joins(policy, rule, to, from));
    let rule = turned.find(opens)?;
    let (a, b, line) = (from.shown, to.shown, rule.place.line);
    Some(format!(
        "rule {} (line {line}) is for conversations that {b} opens to {a}, not the other way round",
        rule.id
    ))
}

fn joins(policy: &Policy, rule: &AllowRule, from: End<'_>, to: End<'_>) -> bool {
    let is_in = |group: &Name, end: End<'_>| {
        policy
            .groups
            .get(group)
            .is_some_and(|group| group.members.matches(end.labels))
    };
    is_in(&rule.from, from) && is_in(&rule.to, to)
}

fn obstacles(
    policy: &Policy,
    compiled: &Compiled,
    rule: &AllowRule,
    from: End<'_>,
    to: End<'_>,
) -> Vec<String> {
    let mut obstacles = Vec::new();
    for (group, end) in [(&rule.from, from), (&rule.to, to)] {
        match policy.groups.get(group).map(|group| &group.members) {
            Some(GroupMembers::Nodes(selector)) => {
                let pairs = selector.pairs().iter();
                obstacles.extend(pairs.filter_map(|(key, value)| end.lacks(key, value)));
            }
            Some(GroupMembers::Users(_)) => obstacles.push(UsersUnverified(group).to_string()),
            None => {}
        }
    }
    if let Some(require) = &rule.require {
        obstacles.push(Unverified(require).to_string());
    }
    let is_compiled = compiled.rules.iter().any(|live| live.id == rule.id);
    if let Some(expires) = rule.expires
        && policy.grants(rule)
        && !is_compiled
    {
        obstacles.push(format!("the rule expired at {}", moment(expires)));
    }
    if obstacles.is_empty() {
        obstacles.push("their labels match, but one of them is not known to this perimeter".to_owned());
    }
    obstacles
}

/// The names of the groups that a node with these labels is in.
pub(crate) fn groups_of<'p>(policy: &'p Policy, labels: &Labels) -> Vec<&'p Name> {
    let inside = policy
        .groups
        .iter()
        .filter(|(_, group)| group.members.matches(labels));
    inside.map(|(name, _)| name).collect()
}

fn sentence(policy: &Policy, rule: &AllowRule) -> String {
    let group = |name: &Name| match policy.groups.get(name) {
        Some(group) => format!("group {name} ({})", group.members),
        None => format!("group {name}"),
    };
    let (id, line, services) = (rule.id, rule.place.line, rule.services_text());
    let (from, to) = (group(&rule.from), group(&rule.to));
    format!("rule {id} (line {line}) lets {from} reach {to} on {services}")
}

fn moment(at: UnixMillis) -> String {
    let at = i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "the end of time".to_owned(), |at| at.to_string())
}

impl<'a> End<'a> {
    pub(crate) fn new(shown: &'a str, labels: &'a Labels) -> Self {
        Self { shown, labels }
    }

    fn lacks(self, key: &str, value: &str) -> Option<String> {
        match self.labels.value(key) {
            Some(has) if has == value => None,
            Some(has) => Some(format!("{} lacks {key}={value}: it has {key}={has}", self.shown)),
            None => Some(format!("{} lacks {key}={value}", self.shown)),
        }
    }
}

impl fmt::Display for UsersUnverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "group {} is made of users, for whom nothing vouches yet, so it is empty",
            self.0
        )
    }
}

impl fmt::Display for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rule requires {}, which nothing verifies yet", self.0)
    }
}

const RULES_SHOWN_MAX: usize = 8;
