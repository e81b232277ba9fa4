//! A policy and the members of the mesh become an allowlist for each node.
//!
//! **Invariant:** what is compiled only adds up: each rule opens what it says whatever the others say, and a rule
//! that needs what nothing verifies, or whose time is over, opens nothing.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{Name, NodeId, RuleId, UnixMillis};
use ringfence_packet::Protocol;
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::diagnostic::Diagnostic;
use crate::peer_set::PeerSet;
use crate::policy::{AllowRule, Endpoint, GroupMembers, Member, Policy};
use crate::rule::{Direction, Rule};
use crate::service::Service;

/// One perimeter's policy, resolved against the nodes there are at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Compiled {
    /// Who is in each group. Groups of users are there and empty.
    pub groups: BTreeMap<Name, BTreeSet<NodeId>>,
    /// The rules that are live and grant something, by number.
    pub rules: Vec<LiveRule>,
    /// What is odd now: a group that matches nothing, a rule whose time is over.
    pub warnings: Vec<Diagnostic>,
    /// When the next rule ends: compile again then.
    pub next_expiry: Option<UnixMillis>,
    members: BTreeSet<NodeId>,
    /// The same groups, as the rules of those outside them list them.
    sets: BTreeMap<Name, PeerSet>,
}

/// A rule that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRule {
    /// Its number in the policy.
    pub id: RuleId,
    /// Who opens the conversation.
    pub from: Name,
    /// Who is reached.
    pub to: Name,
    /// What is opened.
    pub services: Vec<Service>,
    /// When it stops counting.
    pub expires: Option<UnixMillis>,
}

/// A rule as those of one of its groups see it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Whether they open the conversation or are reached.
    pub direction: Direction,
    /// The rule.
    pub rule: &'a LiveRule,
    /// The group at the other end.
    pub others: &'a Name,
}

/// What one node gets for this perimeter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist {
    /// Whom it has a tunnel with: everyone a live rule joins it to, in either direction, and nobody else.
    pub peers: BTreeSet<NodeId>,
    /// What it lets in and out, by number, ingress first.
    pub rules: Vec<Rule>,
}

/// One thing a rule opens from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opening {
    /// Who opens the conversation.
    pub from: NodeId,
    /// Who is reached.
    pub to: NodeId,
    /// With what.
    pub service: Service,
    /// By which rule.
    pub rule: RuleId,
}

/// Resolves `policy` against `members`: every node of the mesh and every device of this perimeter.
pub fn compile(policy: &Policy, members: &[Member], wall: UnixMillis) -> Compiled {
    let mut groups: BTreeMap<Name, BTreeSet<NodeId>> = BTreeMap::new();
    for (name, group) in &policy.groups {
        let inside = members
            .iter()
            .filter(|member| group.members.matches(&member.labels));
        groups.insert(name.clone(), inside.map(|member| member.id).collect());
    }
    let live = policy
        .rules
        .iter()
        .filter(|rule| rule.is_live(wall) && policy.grants(rule));
    let rules: Vec<LiveRule> = live.map(LiveRule::new).collect();
    Compiled {
        members: groups.values().flatten().copied().collect(),
        warnings: warnings(policy, &groups, members, wall),
        next_expiry: rules.iter().filter_map(|rule| rule.expires).min(),
        sets: groups
            .iter()
            .map(|(name, inside)| (name.clone(), inside.iter().copied().collect()))
            .collect(),
        groups,
        rules,
    }
}

impl Compiled {
    /// Everyone who has a key in this perimeter.
    pub fn members(&self) -> &BTreeSet<NodeId> {
        &self.members
    }

    /// What `node` gets. Empty for one that is no member.
    pub fn allowlist(&self, node: NodeId) -> Allowlist {
        let mut allowlist = Allowlist::default();
        // Many rules are about few groups: each is listed once.
        let mut listed: BTreeMap<&Name, PeerSet> = BTreeMap::new();
        for side in self.sides(|group| self.is_in(group, node)) {
            let peers = listed.entry(side.others).or_insert_with(|| {
                let peers = self.others(side.others, node);
                allowlist.peers.extend(peers.iter());
                peers
            });
            if !peers.is_empty() {
                allowlist.rules.push(side.rule_about(peers.clone()));
            }
        }
        allowlist
    }

    /// The rules as someone sees them who is in the groups that `is_in` says: by number, ingress first.
    pub fn sides(&self, is_in: impl Fn(&Name) -> bool) -> impl Iterator<Item = Side<'_>> {
        let both = self.rules.iter().flat_map(|rule| {
            let side = |direction, own, others| {
                let side = Side {
                    direction,
                    rule,
                    others,
                };
                (own, side)
            };
            [
                side(Direction::Ingress, &rule.to, &rule.from),
                side(Direction::Egress, &rule.from, &rule.to),
            ]
        });
        both.filter_map(move |(own, side)| is_in(own).then_some(side))
    }

    /// The lowest rule that lets `from` open a conversation to `to`, if any. ICMP stands for echo.
    pub fn verdict(&self, from: NodeId, to: NodeId, protocol: Protocol, port: u16) -> Option<RuleId> {
        let mut joining = self.rules_between(from, to);
        let opens = |rule: &&LiveRule| rule.services.iter().any(|service| service.covers(protocol, port));
        joining.find(opens).map(|rule| rule.id)
    }

    /// The live rules that join `from` to `to` in this direction, by number.
    pub fn rules_between(&self, from: NodeId, to: NodeId) -> impl Iterator<Item = &LiveRule> {
        let joins = move |rule: &&LiveRule| self.is_in(&rule.from, from) && self.is_in(&rule.to, to);
        self.rules.iter().filter(move |rule| from != to && joins(rule))
    }

    /// Everything that is open: one entry for each pair of nodes, service and rule.
    pub fn openings(&self) -> BTreeSet<Opening> {
        let mut openings = BTreeSet::new();
        for rule in &self.rules {
            for (from, to) in self.pairs(rule) {
                let each = rule.services.iter().map(|&service| Opening {
                    from,
                    to,
                    service,
                    rule: rule.id,
                });
                openings.extend(each);
            }
        }
        openings
    }

    /// The pairs of nodes a rule joins; nobody is joined to itself.
    pub(crate) fn pairs(&self, rule: &LiveRule) -> impl Iterator<Item = (NodeId, NodeId)> {
        let (from, to) = (self.groups.get(&rule.from), self.groups.get(&rule.to));
        from.into_iter().flatten().flat_map(move |&from| {
            let others = to.into_iter().flatten().filter(move |&&to| to != from);
            others.map(move |&to| (from, to))
        })
    }

    /// All that `from` may open to `to`, whichever rule opens it.
    pub(crate) fn coverage(&self, from: NodeId, to: NodeId) -> Coverage {
        self.rules_between(from, to)
            .flat_map(|rule| rule.services.iter().copied())
            .collect()
    }

    fn is_in(&self, group: &Name, node: NodeId) -> bool {
        self.groups
            .get(group)
            .is_some_and(|members| members.contains(&node))
    }

    /// Everyone in a group but `node`.
    fn others(&self, group: &Name, node: NodeId) -> PeerSet {
        let all = self.sets.get(group).cloned().unwrap_or_default();
        if !all.contains(node) {
            return all;
        }
        all.iter().copied().filter(|peer| *peer != node).collect()
    }
}

impl Side<'_> {
    /// The rule that a node gets, if these are the peers at the other end.
    pub fn rule_about(&self, peers: PeerSet) -> Rule {
        Rule {
            id: self.rule.id,
            direction: self.direction,
            peers,
            services: self.rule.services.clone(),
            expires: self.rule.expires,
        }
    }
}

impl LiveRule {
    fn new(rule: &AllowRule) -> Self {
        Self {
            id: rule.id,
            from: rule.from.clone(),
            to: rule.to.clone(),
            services: rule.services.clone(),
            expires: rule.expires,
        }
    }
}

fn warnings(
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
    for rule in policy.rules.iter().filter(|rule| !rule.is_live(wall)) {
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
