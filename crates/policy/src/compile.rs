//! A policy and the members of the mesh become an allowlist for each node.
//!
//! **Invariant:** what is compiled only adds up: each rule opens what it says whatever the others say, to those who meet
//! what it asks at the moment it was compiled for, and until the clock alone ends that.

mod holders;
mod isolation;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::{Name, NodeId, RuleId, UnixMillis};
use ringfence_packet::Protocol;
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::diagnostic::Diagnostic;
use crate::peer_set::PeerSet;
use crate::policy::{AllowRule, Group, GroupMembers, Member, Policy, Spread};
use crate::require::{End, Requirement, earliest};
use crate::rule::{Direction, Rule};
use crate::service::Service;
use holders::Holders;
use isolation::{Isolated, Remnant};
use warnings::warnings;

/// One perimeter's policy, resolved against the nodes there are at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Compiled {
    /// Who is in each group. Of users those who are logged in.
    pub groups: BTreeMap<Name, BTreeSet<NodeId>>,
    /// The rules whose time is not over, by number. Each opens to those who meet what it asks.
    pub rules: Vec<LiveRule>,
    /// What is odd now: a group that matches nothing, a rule whose time is over.
    pub warnings: Vec<Diagnostic>,
    /// When the clock alone next changes what is open, either way, or ends a rule: compile again then.
    pub next_change: Option<UnixMillis>,
    members: BTreeSet<NodeId>,
    /// Those at the ends of rules. Rules that ask the same of the same group share one.
    holders: Vec<Holders>,
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
    /// When it stops counting, for everyone.
    pub expires: Option<UnixMillis>,
    /// Whether the clock may end it for someone before.
    pub is_timed: bool,
    /// Whether it is what a lock has left of a rule, between those locked and those they keep.
    pub is_remnant: bool,
    openers: Party,
    targets: Party,
}

/// One end of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Party {
    /// The place of those who are there among the holders.
    place: usize,
    spread: Spread,
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
    /// How those of it may come apart.
    pub spread: Spread,
    /// The same number for all sides of which those at the other end are asked the same.
    pub asked: usize,
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
        let inside = members.iter().filter(|member| group.members.holds(member, wall));
        groups.insert(name.clone(), inside.map(|member| member.id).collect());
    }
    let mut sorting = Sorting {
        policy,
        members,
        groups: &groups,
        wall,
        isolated: Isolated::among(members),
        places: BTreeMap::new(),
        holders: Vec::new(),
    };
    let live = policy.rules.iter().filter(|rule| rule.is_live(wall));
    let rules: Vec<LiveRule> = live.flat_map(|rule| sorting.live_rules(rule)).collect();
    let mut compiled = Compiled {
        members: groups.values().flatten().copied().collect(),
        warnings: warnings(policy, &groups, members, wall),
        next_change: None,
        holders: sorting.holders,
        groups,
        rules,
    };
    let expiries = compiled.rules.iter().filter_map(|rule| rule.expires);
    compiled.next_change = expiries.chain(compiled.changes().into_values()).min();
    compiled
}

/// Sorts out who is at which end of rules.
struct Sorting<'a> {
    policy: &'a Policy,
    members: &'a [Member],
    groups: &'a BTreeMap<Name, BTreeSet<NodeId>>,
    wall: UnixMillis,
    isolated: Isolated<'a>,
    places: BTreeMap<(&'a Name, Option<&'a Requirement>), usize>,
    holders: Vec<Holders>,
}

impl<'a> Sorting<'a> {
    /// A rule, and what locks have left of it.
    fn live_rules(&mut self, rule: &'a AllowRule) -> Vec<LiveRule> {
        let whole = self.live_rule(rule);
        let ends = self.groups.get(&rule.from).zip(self.groups.get(&rule.to));
        let remnants = ends.map(|(from, to)| self.isolated.remnants(from, to));
        let mut rules = vec![whole.clone()];
        for remnant in remnants.into_iter().flatten() {
            rules.push(self.remnant_of(rule, &whole, &remnant));
        }
        rules
    }

    fn remnant_of(&mut self, rule: &AllowRule, whole: &LiveRule, remnant: &Remnant) -> LiveRule {
        let openers = self.holders_in(&rule.from, &remnant.openers, rule.require.as_ref());
        let targets = self.holders_in(&rule.to, &remnant.targets, None);
        let place = self.holders.len();
        self.holders.extend([openers, targets]);
        LiveRule {
            is_remnant: true,
            openers: Party {
                place,
                ..whole.openers
            },
            targets: Party {
                place: place + 1,
                ..whole.targets
            },
            ..whole.clone()
        }
    }

    fn live_rule(&mut self, rule: &'a AllowRule) -> LiveRule {
        let (from, to) = self.policy.spreads(rule);
        LiveRule {
            id: rule.id,
            from: rule.from.clone(),
            to: rule.to.clone(),
            services: rule.services.clone(),
            expires: rule.expires,
            is_timed: self.policy.is_timed(rule),
            is_remnant: false,
            openers: Party {
                place: self.place(&rule.from, rule.require.as_ref()),
                spread: from,
            },
            targets: Party {
                place: self.place(&rule.to, None),
                spread: to,
            },
        }
    }

    fn place(&mut self, name: &'a Name, require: Option<&'a Requirement>) -> usize {
        if let Some(place) = self.places.get(&(name, require)) {
            return *place;
        }
        let place = self.holders.len();
        let inside = self.groups.get(name);
        let holders = inside.map(|inside| self.holders_in(name, &self.isolated.free(inside), require));
        self.holders.push(holders.unwrap_or_default());
        self.places.insert((name, require), place);
        place
    }

    /// Of some members of a group those who meet what is asked.
    fn holders_in(&self, name: &Name, inside: &BTreeSet<NodeId>, require: Option<&Requirement>) -> Holders {
        let group = self.policy.groups.get(name);
        let holders = group.map(|group| self.holders_of(group, inside, require));
        holders.unwrap_or_default()
    }

    fn holders_of(&self, group: &Group, inside: &BTreeSet<NodeId>, require: Option<&Requirement>) -> Holders {
        match (&group.members, require) {
            (GroupMembers::Nodes(_) | GroupMembers::Node(_), None) => Holders::all(inside),
            (GroupMembers::Nodes(_) | GroupMembers::Node(_), Some(_))
            | (GroupMembers::Users(_) | GroupMembers::PersonAt(_), _) => {
                let inside = self.members.iter().filter(|member| inside.contains(&member.id));
                Holders::of(group, require, inside, self.wall)
            }
        }
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
        let ends: Vec<Option<End>> = self.holders.iter().map(|holders| holders.end_of(node)).collect();
        // Many rules are about few groups: each is listed once.
        let mut listed: BTreeMap<(usize, End), Vec<(End, PeerSet)>> = BTreeMap::new();
        for (own, others, side) in self.all_sides() {
            let Some(end) = ends[own.place] else { continue };
            let end = earliest(end, side.rule.expires);
            let holders = &self.holders[others.place];
            let cap = if holders.are_steady() { None } else { end };
            let peers = listed.entry((others.place, cap)).or_insert_with(|| {
                let peers = holders.but(node, cap);
                allowlist
                    .peers
                    .extend(peers.iter().flat_map(|(_, peers)| peers.iter()));
                peers
            });
            allowlist.rules.extend(peers.iter().map(|(theirs, peers)| Rule {
                expires: earliest(end, *theirs),
                ..side.rule_about(peers.clone())
            }));
        }
        allowlist.rules = isolation::merge(allowlist.rules, &self.rules);
        allowlist
    }

    /// The rules as someone sees them who is in the groups that `is_in` says, and meets all they ask, while nobody is
    /// locked: by number, ingress first.
    pub fn sides(&self, is_in: impl Fn(&Name) -> bool) -> impl Iterator<Item = Side<'_>> {
        let whole = self.all_sides().filter(|(_, _, side)| !side.rule.is_remnant);
        whole.filter_map(move |(_, _, side)| {
            let own = match side.direction {
                Direction::Ingress => &side.rule.to,
                Direction::Egress => &side.rule.from,
            };
            is_in(own).then_some(side)
        })
    }

    /// Each rule from both of its ends: those there, those at the other, and how the former see it.
    fn all_sides(&self) -> impl Iterator<Item = (Party, Party, Side<'_>)> {
        self.rules.iter().flat_map(|rule| {
            let side = |direction, own, others: Party, name| {
                let side = Side {
                    direction,
                    rule,
                    others: name,
                    spread: others.spread,
                    asked: others.place,
                };
                (own, others, side)
            };
            [
                side(Direction::Ingress, rule.targets, rule.openers, &rule.from),
                side(Direction::Egress, rule.openers, rule.targets, &rule.to),
            ]
        })
    }

    /// The lowest rule that lets `from` open a conversation to `to`, if any. ICMP stands for echo.
    pub fn verdict(&self, from: NodeId, to: NodeId, protocol: Protocol, port: u16) -> Option<RuleId> {
        let mut joining = self.rules_between(from, to);
        let opens = |rule: &&LiveRule| rule.services.iter().any(|service| service.covers(protocol, port));
        joining.find(opens).map(|rule| rule.id)
    }

    /// The lowest rule that lets `from` open any of a service to `to`, if one does.
    pub fn opener(&self, from: NodeId, to: NodeId, service: Service) -> Option<RuleId> {
        let mut joining = self.rules_between(from, to);
        let opens = |rule: &&LiveRule| rule.services.iter().any(|opened| opened.overlaps(service));
        joining.find(opens).map(|rule| rule.id)
    }

    /// The live rules that join `from` to `to` in this direction, by number.
    pub fn rules_between(&self, from: NodeId, to: NodeId) -> impl Iterator<Item = &LiveRule> {
        let all = self.rules.iter();
        all.filter(move |rule| from != to && self.end_between(rule, from, to).is_some())
    }

    /// Until when a rule joins `from` to `to` by the clock; `None` if it does not.
    pub(crate) fn end_between(&self, rule: &LiveRule, from: NodeId, to: NodeId) -> Option<End> {
        let opener = self.holders[rule.openers.place].end_of(from)?;
        let target = self.holders[rule.targets.place].end_of(to)?;
        Some(earliest(earliest(opener, target), rule.expires))
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

    /// Whether a rule joins anyone to anyone now.
    pub fn opens(&self, rule: &LiveRule) -> bool {
        self.pairs(rule).next().is_some()
    }

    /// The rules for which the clock has changed what they open to someone between the moment they were compiled for and
    /// `wall`. Those that have expired are not among them.
    pub fn changed_by(&self, wall: UnixMillis) -> Vec<RuleId> {
        let changes = self.changes();
        let changed = self.rules.iter().filter(|rule| {
            let parties = (rule.openers.place, rule.targets.place);
            let is_live = rule.expires.is_none_or(|expires| wall < expires);
            is_live && changes.get(&parties).is_some_and(|at| *at <= wall)
        });
        let mut changed: Vec<RuleId> = changed.map(|rule| rule.id).collect();
        // A rule and its remnants have one number.
        changed.dedup();
        changed
    }

    /// Everyone who may get something else by this than by `before`, which was compiled from the same or another policy.
    pub fn concerned_since(&self, before: &Self) -> BTreeSet<NodeId> {
        if self.rules != before.rules {
            return self.members.union(&before.members).copied().collect();
        }
        let mut concerned = BTreeSet::new();
        for (openers, targets) in self.parties() {
            for (own, others) in [(openers, targets), (targets, openers)] {
                let (is, was) = (&self.holders[own], &before.holders[own]);
                let changed: BTreeSet<NodeId> = is.changed_since(was).collect();
                if !changed.is_empty() {
                    concerned.extend(changed);
                    concerned.extend(self.holders[others].iter().chain(before.holders[others].iter()));
                }
            }
        }
        concerned
    }

    /// The nodes of which it is another matter than in `before` which rules they may use, if the rules are the same.
    pub(crate) fn moved_since(&self, before: &Self) -> Option<BTreeSet<NodeId>> {
        if self.rules != before.rules || self.holders.len() != before.holders.len() {
            return None;
        }
        let each = self.holders.iter().zip(&before.holders);
        Some(each.flat_map(|(is, was)| is.changed_since(was)).collect())
    }

    /// The pairs of nodes a rule joins; nobody is joined to itself.
    pub(crate) fn pairs(&self, rule: &LiveRule) -> impl Iterator<Item = (NodeId, NodeId)> {
        let targets = &self.holders[rule.targets.place];
        let openers = self.holders[rule.openers.place].iter();
        openers.flat_map(move |from| {
            let others = targets.iter().filter(move |to| *to != from);
            others.map(move |to| (from, to))
        })
    }

    /// All that `from` may open to `to`, whichever rule opens it.
    pub(crate) fn coverage(&self, from: NodeId, to: NodeId) -> Coverage {
        self.rules_between(from, to)
            .flat_map(|rule| rule.services.iter().copied())
            .collect()
    }

    /// The places of those at both ends of rules, once each.
    fn parties(&self) -> BTreeSet<(usize, usize)> {
        let each = self.rules.iter();
        each.map(|rule| (rule.openers.place, rule.targets.place))
            .collect()
    }

    /// When the clock next changes who of these is joined to whom, by the places of both; only where it does.
    fn changes(&self) -> BTreeMap<(usize, usize), UnixMillis> {
        let each = self.parties().into_iter();
        each.filter_map(|(openers, targets)| {
            let (from, to) = (&self.holders[openers], &self.holders[targets]);
            Some((
                (openers, targets),
                earliest(from.next_change(to), to.next_change(from))?,
            ))
        })
        .collect()
    }
}

impl Side<'_> {
    /// The rule that a node gets, if these are the peers at the other end and the clock ends it for none of them.
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
