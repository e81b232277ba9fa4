//! An entry of the log, as people read it.

use std::net::IpAddr;

use ringfence_control::api;
use ringfence_model::{NodeId, RuleId};

use crate::{Change, Event};

/// An entry for the API: what it says, and one line that sums it up.
pub fn audit_entry(change: &Change) -> api::AuditEntry {
    let events: Vec<&Event> = change.events.iter().collect();
    entry_of(change, &events)
}

/// The same with these of its events alone.
pub(super) fn entry_of(change: &Change, seen: &[&Event]) -> api::AuditEntry {
    let events = seen.iter().map(|event| {
        let mut value = serde_json::to_value(event).expect("an event has string keys only");
        // Who reads the trail has no use for the hash of a token's secret.
        if let Some(token) = value
            .pointer_mut("/token")
            .and_then(serde_json::Value::as_object_mut)
        {
            token.remove("secret_hash");
        }
        value
    });
    api::AuditEntry {
        revision: change.revision,
        at_ms: change.at,
        actor: api::AuditActor {
            kind: change.actor.kind.to_string(),
            name: change.actor.name.clone(),
        },
        request_id: change.actor.request_id.clone(),
        method: change.method.clone(),
        summary: summary(seen),
        events: events.collect(),
        previous_hash: change.previous_hash.to_string(),
        hash: change.hash.to_string(),
    }
}

/// The first two things that happened in words, and how many more did.
fn summary(events: &[&Event]) -> String {
    let first = events.iter().take(SUMMARY_EVENTS_MAX);
    let mut parts: Vec<String> = first.map(|event| sentence(event)).collect();
    if events.len() > SUMMARY_EVENTS_MAX {
        parts.push(format!("and {} more", events.len() - SUMMARY_EVENTS_MAX));
    }
    parts.join("; ")
}

fn sentence(event: &Event) -> String {
    match event {
        Event::MeshFounded { mesh, prefix } => format!("founded mesh {mesh} with {prefix}"),
        Event::TermStarted { after, .. } => format!("started term {after}"),
        Event::PerimeterCreated { perimeter, after, .. } => {
            format!("created perimeter {perimeter} from {}", after.file)
        }
        Event::PerimeterChanged { perimeter, after, .. } => {
            format!("changed perimeter {perimeter} to {}", after.file)
        }
        Event::PerimeterRemoved { perimeter, .. } => format!("removed perimeter {perimeter}"),
        Event::BlockAdded { perimeter, v4 } => format!("gave perimeter {perimeter} the block {v4}"),
        Event::RulesExpired { perimeter, rules } => {
            format!("rules {} of perimeter {perimeter} expired", listed(rules))
        }
        Event::ConditionsChanged { perimeter, rules } => {
            let rules = listed(rules);
            format!("the clock changed whom rules {rules} of perimeter {perimeter} let in")
        }
        Event::MemberJoined { perimeter, name, .. } => format!("{name} joined perimeter {perimeter}"),
        Event::MemberLeft { perimeter, name, .. } => format!("{name} left perimeter {perimeter}"),
        Event::TokenCreated { token } => {
            format!(
                "created join token {} for {} use(s) with {}",
                token.id, token.uses, token.labels
            )
        }
        Event::TokenUsed { token, after, .. } => format!("used join token {token}, {after} use(s) left"),
        Event::TokenRevoked { token, .. } => format!("revoked join token {token}"),
        Event::TokenExpired { token, .. } => format!("join token {token} expired"),
        Event::TokenForgotten { token } => format!("forgot dead join token {token}"),
        Event::NodeEnrolled { node } => format!("enrolled node {} as {}", node.name, node.id),
        Event::NodeRenamed { before, after, .. } => format!("renamed node {before} to {after}"),
        Event::NodeLabelled { node, before, after } => {
            format!("labelled node {node} from [{before}] to [{after}]")
        }
        Event::NodeRemoved { before } => format!("removed node {}", before.name),
        Event::CertificateIssued { node, after, .. } => {
            format!("issued certificate {} to node {node}", after.serial)
        }
        Event::KeyRegistered { node, perimeter, .. } => {
            format!("node {node} registered its key for {perimeter}")
        }
        Event::SourceSeen { node, after, .. } => moved(*node, *after),
        Event::DeviceAdded { device } => {
            format!("added device {} to perimeter {}", device.name, device.perimeter)
        }
        Event::DeviceRemoved { before } => format!("removed device {}", before.name),
        Event::DeviceExpired { before } => format!("device {} expired", before.name),
        Event::ProviderAdded { provider } => {
            format!("added identity provider {} at {}", provider.name, provider.issuer)
        }
        Event::ProviderRemoved { before } => format!("removed identity provider {}", before.name),
        Event::Refused {
            method,
            subject,
            reason,
        } => format!("refused {method} for {subject}: {reason}"),
        Event::People(event) => event.sentence(),
        Event::Accounts(event) => event.sentence(),
        Event::Directory(event) => event.sentence(),
        Event::Access(event) => event.sentence(),
        Event::ApiTokens(event) => event.sentence(),
        Event::Drill(event) => event.sentence(),
        Event::Lapse(event) => event.sentence(),
        Event::Locks(event) => event.sentence(),
        Event::Receipts(event) => event.sentence(),
        Event::Posture(event) => event.sentence(),
        Event::Workloads(event) => event.sentence(),
    }
}

fn moved(node: NodeId, to: Option<IpAddr>) -> String {
    match to {
        Some(source) => format!("node {node} connects from {source}"),
        None => format!("it is not known any more where node {node} connects from"),
    }
}

fn listed(rules: &[RuleId]) -> String {
    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
    rules.join(", ")
}

const SUMMARY_EVENTS_MAX: usize = 2;
