//! Perimeters: at a glance and in full.

use std::collections::BTreeSet;

use ringfence_control::{PeerKind, api};
use ringfence_model::{Name, NodeId};
use ringfence_policy::{AllowRule, Check, Compiled, GroupMembers, Policy};

use super::count;
use crate::Controller;
use crate::compile::compile_perimeter;
use crate::perimeter::{Perimeter, Seat};

impl Controller {
    /// A perimeter's policy.
    pub fn policy(&self, name: &Name) -> Option<&Policy> {
        self.state()
            .perimeters
            .get(name)
            .map(|perimeter| perimeter.policy())
    }

    /// A perimeter's policy, compiled for the members there are: what the nodes enforce.
    pub fn compiled(&self, name: &Name) -> Option<&Compiled> {
        self.views().perimeter(name)
    }

    /// Every perimeter, in order of name.
    pub fn perimeter_summaries(&self) -> Vec<api::PerimeterSummary> {
        self.state()
            .perimeters
            .values()
            .map(|perimeter| summary(perimeter))
            .collect()
    }

    /// One perimeter in full.
    pub fn perimeter_detail(&self, name: &Name) -> Option<api::PerimeterDetail> {
        let perimeter = self.state().perimeters.get(name)?;
        let compiled = self.compiled(name)?;
        let file = perimeter.source.file();
        let members = perimeter.members();
        let mut members: Vec<_> = members
            .filter_map(|(id, seat)| self.member_view(perimeter, id, seat))
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        // Compiled anew: names of nodes that a check speaks of may have come and gone since.
        let mut warnings = compile_perimeter(self.state(), name)?.warnings;
        let checks = self.state().posture.checks();
        warnings.extend(perimeter.policy().unknown_checks(checks));
        warnings.sort_by_key(|warning| warning.offset);
        Some(api::PerimeterDetail {
            summary: summary(perimeter),
            file: api::PolicyFile {
                name: file.file.clone(),
                text: file.text.clone(),
            },
            groups: self.group_views(perimeter.policy(), compiled),
            members,
            rules: rule_views(perimeter, compiled, checks),
            warnings: warnings.iter().map(api::Finding::from).collect(),
        })
    }

    fn member_view(&self, perimeter: &Perimeter, id: NodeId, seat: &Seat) -> Option<api::MemberView> {
        let compiled = self.compiled(&perimeter.name)?;
        let peers = compiled.allowlist(id).peers;
        let reachable = peers.iter().filter(|peer| has_key(perimeter, **peer));
        Some(api::MemberView {
            id,
            name: self.name_of(id)?.clone(),
            kind: match self.node(id) {
                Some(_) => PeerKind::Node,
                None => PeerKind::Device,
            },
            addresses: perimeter.addresses(seat).both().to_vec(),
            public_key: seat.key,
            peers: count(reachable.count()),
        })
    }

    fn group_views(&self, policy: &Policy, compiled: &Compiled) -> Vec<api::GroupView> {
        let each = policy.groups.iter();
        each.map(|(name, group)| {
            let inside: Vec<NodeId> = compiled.groups.get(name).into_iter().flatten().copied().collect();
            let mut members = self.names(&inside);
            members.sort();
            api::GroupView {
                name: name.clone(),
                selector: group.members.to_string(),
                members,
            }
        })
        .collect()
    }
}

fn has_key(perimeter: &Perimeter, member: NodeId) -> bool {
    perimeter.seat(member).is_some_and(|seat| seat.key.is_some())
}

fn summary(perimeter: &Perimeter) -> api::PerimeterSummary {
    let policy = perimeter.policy();
    api::PerimeterSummary {
        name: perimeter.name.clone(),
        description: policy.description.clone(),
        owners: policy.owners.clone(),
        criticality: policy.criticality.to_string(),
        review_seconds: policy.review.map(|review| review.as_secs()),
        lease_seconds: policy.lease.as_secs(),
        members: count(perimeter.members().count()),
        rules: count(policy.rules.len()),
        changed_ms: perimeter.applied_at,
        revision: perimeter.revision,
    }
}

fn rule_views(perimeter: &Perimeter, compiled: &Compiled, checks: &[Check]) -> Vec<api::RuleView> {
    let policy = perimeter.policy();
    let each = policy.rules.iter();
    each.map(|rule| {
        let live = compiled.rules.iter().find(|live| live.id == rule.id);
        let inactive = match live {
            None => Some("it has expired".to_owned()),
            Some(live) if compiled.opens(live) => None,
            Some(_) => idle(policy, compiled, rule, checks),
        };
        api::RuleView {
            id: rule.id,
            line: rule.place.line,
            from: rule.from.clone(),
            to: rule.to.clone(),
            services: rule.services.clone(),
            reason: rule.reason.clone().unwrap_or_default(),
            expires_ms: rule.expires,
            inactive,
        }
    })
    .collect()
}

/// Why nobody may use a rule whose time is not over, unless it is that nobody is there.
fn idle(policy: &Policy, compiled: &Compiled, rule: &AllowRule, checks: &[Check]) -> Option<String> {
    let is_absent = |name: &&Name| {
        let group = policy.groups.get(*name).map(|group| &group.members);
        let is_empty = compiled.groups.get(*name).is_none_or(BTreeSet::is_empty);
        matches!(group, Some(GroupMembers::Users(_))) && is_empty
    };
    let absent = [&rule.from, &rule.to].into_iter().find(is_absent);
    let absent = absent.map(|name| format!("nobody of {name} is logged in"));
    let unmet = rule
        .require
        .as_ref()
        .map(|require| format!("nobody it is for meets {require} now"));
    let mut uses = policy.check_uses().filter(|used| used.rule.id == rule.id);
    let unknown = uses.find(|used| !used.is_among(checks));
    let unknown = unknown.map(|used| format!("there is no posture check {}", used.check));
    unknown.or(absent).or(unmet)
}
