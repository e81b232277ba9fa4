//! Says why one node may reach another or not: the rule and its line, or precisely what is missing.
//!
//! **Invariant:** the verdict is the compiled one; the words are found afterwards and never change it.

use ringfence_model::{Labels, Name, RuleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::compile::{Compiled, LiveRule};
use crate::coverage::Coverage;
use crate::facts::Facts;
use crate::policy::{AllowRule, GroupMembers, Member, Policy, UserKey, UserSelector, Verdict, list};
use crate::reader::short_duration;
use crate::require::{Lack, either};
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
    /// For an allow, the moment at which the clock alone ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
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

/// Explains what `compiled` says about one conversation at `wall`. `service` is usually one port.
pub fn explain(
    policy: &Policy,
    compiled: &Compiled,
    (from, to): (&Member, &Member),
    service: &Service,
    wall: UnixMillis,
) -> Explanation {
    let service = *service;
    let asked: Coverage = [service].into_iter().collect();
    let open = asked.common(&compiled.coverage(from.id, to.id));
    let is_whole = asked.without(&open).is_empty();
    let opens = |rule: &&LiveRule| rule.services.iter().any(|opened| opened.overlaps(service));
    let live = compiled.rules_between(from.id, to.id).find(opens);
    let rule = live.and_then(|live| policy.rule(live.id));
    let last = last_to_end(compiled, (from, to), &asked).or(live);
    let until = last.and_then(|last| compiled.end_between(last, from.id, to.id)?);
    let allowed = |rule: &AllowRule| {
        let ends = last.and_then(|last| policy.rule(last.id)).zip(until);
        let ends = ends.map(|(last, until)| ending(last, (from, to), until, wall, last.id != rule.id));
        let reason = rule.reason.as_ref().map(|reason| format!(" ({reason})"));
        format!(
            "{}{}{}",
            sentence(policy, rule),
            ends.unwrap_or_default(),
            reason.unwrap_or_default()
        )
    };
    let (verdict, reason) = match rule {
        Some(rule) if is_whole => (Verdict::Allow, allowed(rule)),
        Some(rule) => {
            let parts = list(&open.services());
            let reason = format!("only {parts} of {service} is open: {}", allowed(rule));
            (Verdict::Deny, reason)
        }
        None => (Verdict::Deny, denied(policy, compiled, from, to, service)),
    };
    let missing = match rule {
        // No rule is missing anything while a lock stands in the way.
        None if from.id != to.id && locked(from, to).is_none() && away(from, to).is_none() => {
            let asked = Asked {
                from: End::new(from.name.as_str(), &from.labels, &from.facts),
                to: End::new(to.name.as_str(), &to.labels, &to.facts),
                service,
                wall,
                conditions: Conditions::Judged,
            };
            missing(policy, compiled, &asked)
        }
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
        line: rule
            .filter(|rule| !rule.id.is_granted())
            .map(|rule| rule.place.line),
        until: until.filter(|_| verdict == Verdict::Allow),
        reason,
        missing,
    }
}

/// Of the rules that open all that is asked, the one that does so the longest.
fn last_to_end<'c>(
    compiled: &'c Compiled,
    (from, to): (&Member, &Member),
    asked: &Coverage,
) -> Option<&'c LiveRule> {
    let opens_all = |rule: &&LiveRule| {
        let opened: Coverage = rule.services.iter().copied().collect();
        asked.without(&opened).is_empty()
    };
    let rules = compiled.rules_between(from.id, to.id).filter(opens_all);
    let ends = rules.filter_map(|rule| {
        let end = compiled.end_between(rule, from.id, to.id)?;
        // Of those that end together the first.
        Some((
            (end.map_or(u64::MAX, |end| end.0), std::cmp::Reverse(rule.id)),
            rule,
        ))
    });
    ends.max_by_key(|(end, _)| *end).map(|(_, rule)| rule)
}

/// When the clock ends what a rule allows, and what ends then.
fn ending(
    rule: &AllowRule,
    (from, to): (&Member, &Member),
    until: UnixMillis,
    wall: UnixMillis,
    is_another: bool,
) -> String {
    let sessions = [from, to]
        .into_iter()
        .filter_map(|member| member.facts.person(wall));
    let session = sessions
        .filter(|user| user.ends() == until)
        .map(|user| format!("the session of {} ends", user.name));
    let expires = (rule.expires == Some(until)).then(|| "the rule expires".to_owned());
    let require = rule.require.as_ref();
    let asked = require
        .into_iter()
        .flat_map(|require| require.lacks(&from.facts, until));
    let asked = asked.map(|lack| match lack {
        Lack::OldFactor { max, .. } => format!("the second factor is older than {}", short_duration(max)),
        Lack::Hour(hours) => format!("the hours {hours} end"),
        // The session that proved it ends then too.
        Lack::Nobody | Lack::NoFactor | Lack::Posture(_) | Lack::Source(..) => {
            "its conditions end".to_owned()
        }
    });
    let why = expires.into_iter().chain(session).chain(asked).next();
    let why = why.map(|why| format!(", when {why}")).unwrap_or_default();
    let by = if is_another {
        format!(" by {}", named(rule))
    } else {
        String::new()
    };
    format!(", until {}{by}{why}", moment(until))
}

/// Who of the two has lapsed.
fn away<'a>(from: &'a Member, to: &'a Member) -> Option<&'a Member> {
    [from, to].into_iter().find(|member| member.facts.is_lapsed)
}

/// That a lock is in the way, if one is.
fn locked(from: &Member, to: &Member) -> Option<String> {
    let is_locked = |member: &&Member| member.facts.isolation.is_some();
    let mut locked = [from, to].into_iter().filter(is_locked);
    match (locked.next(), locked.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => Some(format!(
            "{} and {} are locked by an administrator",
            from.name, to.name
        )),
        (Some(one), None) => {
            let other = if one.id == from.id { to } else { from };
            let keep = one.facts.isolation.as_ref().map(|isolation| &isolation.keep);
            // To whom it keeps, the rules say what is missing.
            let is_kept = keep.is_some_and(|keep| keep.contains(&other.id));
            (!is_kept).then(|| format!("{} is locked by an administrator", one.name))
        }
    }
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
    if let Some(away) = away(from, to) {
        let name = &away.name;
        return format!(
            "{name} has been silent for longer than the lease: it is closed until it connects again"
        );
    }
    if let Some(locked) = locked(from, to) {
        return locked;
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
        // It joins them and does not open it: its time is over, or what it requires is not met.
        Some(rule) => format!("{} but opens nothing now", sentence(policy, rule)),
        None => format!("{a} is in no group that may reach {b} on {service}"),
    }
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

fn sentence(policy: &Policy, rule: &AllowRule) -> String {
    let group = |name: &Name| match policy.groups.get(name) {
        Some(group) => format!("group {name} ({})", group.members),
        None => format!("group {name}"),
    };
    let (named, services) = (named(rule), rule.services_text());
    let (from, to) = (group(&rule.from), group(&rule.to));
    let require = rule.require.as_ref().map(|require| format!(", with {require}"));
    let require = require.unwrap_or_default();
    format!("{named} lets {from} reach {to} on {services}{require}")
}

/// A rule, and where it is.
fn named(rule: &AllowRule) -> String {
    if rule.id.is_granted() {
        return format!("rule {}", rule.id);
    }
    format!("rule {} (line {})", rule.id, rule.place.line)
}

fn moment(at: UnixMillis) -> String {
    let at = i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "the end of time".to_owned(), |at| at.to_string())
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
