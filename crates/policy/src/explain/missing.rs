//! What each rule that comes near lacks to open what is asked, in words, and what would meet it.

use ringfence_model::{Labels, Name, RuleId, UnixMillis};

use super::{moment, named, sentence};
use crate::compile::Compiled;
use crate::facts::Facts;
use crate::policy::{AllowRule, GroupMembers, Policy, UserKey, UserSelector};
use crate::reader::short_duration;
use crate::require::{Lack, either};
use crate::service::Service;

/// A node as words need it.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    shown: &'a str,
    labels: &'a Labels,
    facts: &'a Facts,
}

/// What words are looked for about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) from: End<'a>,
    pub(crate) to: End<'a>,
    pub(crate) service: Service,
    pub(crate) wall: UnixMillis,
    pub(crate) conditions: Conditions,
}

/// Whether what rules require is looked at, or counts as met.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    Judged,
    Met,
}

/// One line for each rule that comes near, nearest first: what it lacks to open what is asked between the two.
pub(crate) fn missing(policy: &Policy, compiled: &Compiled, asked: &Asked<'_>) -> Vec<String> {
    let service = asked.service;
    // What was granted to one is nobody else's business.
    let opens = |rule: &&AllowRule| {
        !rule.id.is_granted() && rule.services.iter().any(|opened| opened.overlaps(service))
    };
    let mut near: Vec<(usize, RuleId, String)> = Vec::new();
    for rule in policy.rules.iter().filter(opens) {
        let obstacles = obstacles(policy, compiled, rule, asked);
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
        lines.extend(other_services(policy, asked));
    }
    lines.extend(other_way_round(policy, asked));
    lines
}

/// Rules that join the two for something else.
fn other_services(policy: &Policy, asked: &Asked<'_>) -> Option<String> {
    let (from, to) = (asked.from, asked.to);
    let mut rules = policy.rules.iter();
    let rule = rules.find(|rule| joins(policy, rule, (from, to), asked.wall))?;
    Some(format!("{} only", sentence(policy, rule)))
}

fn other_way_round(policy: &Policy, asked: &Asked<'_>) -> Option<String> {
    let (from, to) = (asked.from, asked.to);
    let opens = |rule: &&AllowRule| rule.services.iter().any(|opened| opened.overlaps(asked.service));
    let rules = policy.rules.iter();
    let mut turned = rules.filter(|rule| joins(policy, rule, (to, from), asked.wall));
    let rule = turned.find(opens)?;
    let (a, b, rule) = (from.shown, to.shown, named(rule));
    Some(format!(
        "{rule} is for conversations that {b} opens to {a}, not the other way round"
    ))
}

fn joins(policy: &Policy, rule: &AllowRule, (from, to): (End<'_>, End<'_>), wall: UnixMillis) -> bool {
    let is_in = |group: &Name, end: End<'_>| {
        policy
            .groups
            .get(group)
            .is_some_and(|group| group.members.matches(end.labels, end.facts, wall))
    };
    is_in(&rule.from, from) && is_in(&rule.to, to)
}

fn obstacles(policy: &Policy, compiled: &Compiled, rule: &AllowRule, asked: &Asked<'_>) -> Vec<String> {
    let (from, to, wall) = (asked.from, asked.to, asked.wall);
    let mut obstacles = Vec::new();
    for (group, end) in [(&rule.from, from), (&rule.to, to)] {
        match policy.groups.get(group).map(|group| &group.members) {
            Some(GroupMembers::Nodes(selector)) => {
                let pairs = selector.pairs().iter();
                obstacles.extend(pairs.filter_map(|(key, value)| end.lacks(key, value)));
            }
            Some(GroupMembers::Users(selector)) => obstacles.extend(end.is_not(selector, wall)),
            Some(GroupMembers::Node(_) | GroupMembers::PersonAt(_)) | None => {}
        }
    }
    if let Some(require) = &rule.require
        && asked.conditions == Conditions::Judged
    {
        let is_anybody = from.facts.person(wall).is_some();
        let told_already = !is_anybody && !obstacles.is_empty();
        let lacks = require.lacks(from.facts, wall).into_iter();
        let lacks = lacks.filter(|lack| !(told_already && *lack == Lack::Nobody));
        obstacles.extend(lacks.map(|lack| from.told(lack, wall)));
    }
    let is_compiled = compiled.rules.iter().any(|live| live.id == rule.id);
    if let Some(expires) = rule.expires
        && !is_compiled
    {
        obstacles.push(format!("the rule expired at {}", moment(expires)));
    }
    if obstacles.is_empty() {
        obstacles.push("all of it is met, but one of them is not known to this perimeter yet".to_owned());
    }
    obstacles
}

impl<'a> End<'a> {
    pub(crate) fn new(shown: &'a str, labels: &'a Labels, facts: &'a Facts) -> Self {
        Self { shown, labels, facts }
    }

    fn lacks(self, key: &str, value: &str) -> Option<String> {
        match self.labels.value(key) {
            Some(has) if has == value => None,
            Some(has) => Some(format!("{} lacks {key}={value}: it has {key}={has}", self.shown)),
            None => Some(format!("{} lacks {key}={value}", self.shown)),
        }
    }

    /// Why whoever is logged in there is not selected.
    fn is_not(self, selector: &UserSelector, wall: UnixMillis) -> Vec<String> {
        let Some(user) = self.facts.person(wall) else {
            return vec![format!("nobody is logged in at {}: log in there", self.shown)];
        };
        let lacking = selector.lacking(user);
        let told = lacking.map(|(key, value)| match key {
            UserKey::Group => format!(
                "{} is not in the group {value} of the identity provider",
                user.name
            ),
            UserKey::Email => format!("{} is not {value}", user.name),
        });
        told.collect()
    }

    /// What is not met, and what would meet it.
    fn told(self, lack: Lack<'_>, wall: UnixMillis) -> String {
        let shown = self.shown;
        match lack {
            Lack::Nobody => format!("nobody is logged in at {shown}: log in there with a second factor"),
            Lack::NoFactor => "log in again with a second factor: this session has none".to_owned(),
            Lack::OldFactor { proved, max } => {
                let (ago, max) = (age(proved, wall), short_duration(max));
                format!("log in again with a second factor: the last was {ago} ago, the rule takes {max}")
            }
            Lack::Posture(check) => format!("posture check {check} does not pass on {shown}"),
            Lack::Hour(hours) => {
                let next = hours.standing(wall).until.and_then(|next| hours.local(next));
                let next = next.map(|next| format!(", next at {next}"));
                format!("outside the hours {hours}{}", next.unwrap_or_default())
            }
            Lack::Source(None, prefixes) => {
                format!(
                    "it is not known where {shown} comes from: it must be {}",
                    either(prefixes)
                )
            }
            Lack::Source(Some(source), prefixes) => {
                let source = source.to_canonical();
                format!("{shown} comes from {source}: it must be {}", either(prefixes))
            }
        }
    }
}

/// How long ago something was, in its largest unit.
fn age(then: UnixMillis, wall: UnixMillis) -> String {
    let seconds = wall.saturating_since(then).as_secs();
    let units = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m"), (1, "s")];
    let unit = units.into_iter().find(|(unit, _)| seconds >= *unit);
    unit.map_or_else(
        || "0s".to_owned(),
        |(unit, letter)| format!("{}{letter}", seconds / unit),
    )
}

/// Where the clock counts for nothing: sessions of people who are imagined do not end.
pub(crate) const ANY_TIME: UnixMillis = UnixMillis(0);

const RULES_SHOWN_MAX: usize = 8;
