//! Says why one node may reach another or not: the rule and its line, or precisely what is missing.
//!
//! **Invariant:** the verdict is the compiled one; the words are found afterwards and never change it.

mod missing;

use ringfence_model::{Name, RuleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::compile::{Compiled, LiveRule};
use crate::coverage::Coverage;
use crate::policy::{AllowRule, Member, Policy, Verdict, list};
use crate::reader::short_duration;
use crate::require::Lack;
use crate::service::Service;
pub(crate) use missing::{ANY_TIME, Asked, Conditions, End, missing};

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
