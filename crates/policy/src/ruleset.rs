//! The rules in force for one segment of one node, arranged for the question the packet path asks.
//!
//! **Invariant:** default deny. A rule set without rules allows nothing, and rules only add up.

use std::collections::BTreeMap;

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{NodeId, Revision, RuleId, UnixMillis};
use ringfence_packet::Protocol;

use crate::openings::Openings;
use crate::{Direction, PeerSetNumbers, Rule, Service};

/// Rules by who is at the other end and who opens, with the revision they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    revision: Revision,
    /// Sorted by id; the lists below hold places in here.
    rules: Vec<RuleBody>,
    /// Places in `lists`.
    by_peer: BTreeMap<(Direction, NodeId), u32>,
    /// Peers that are in the same sets, as those of one group are, share one.
    lists: Vec<RuleList>,
}

/// The rules about one peer, or about several alike, in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleList {
    places: Vec<u32>,
    /// The same, by what they open.
    openings: Openings,
}

/// The rule that allows a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rule.
    pub rule: RuleId,
    /// When it stops counting.
    pub expires: Option<UnixMillis>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleBody {
    grant: Grant,
    services: Vec<Service>,
}

impl RuleSet {
    /// Arranges `rules`, in force since `revision`.
    pub fn new(rules: &[Rule], revision: Revision) -> Self {
        let mut sorted: Vec<&Rule> = rules.iter().collect();
        sorted.sort_by_key(|rule| rule.id);
        let mut set = Self::empty(revision);
        set.rules = sorted.iter().map(|rule| RuleBody::of(rule)).collect();
        for direction in [Direction::Ingress, Direction::Egress] {
            set.share_lists(direction, &Alike::among(&sorted, direction));
        }
        set
    }

    fn share_lists(&mut self, direction: Direction, alike: &Alike) {
        for (sets, peers) in &alike.peers {
            let places = alike.places_of(sets);
            let list = self.lists.len() as u32;
            let openings = self.arrange(&places, |_| true);
            self.lists.push(RuleList { places, openings });
            self.by_peer
                .extend(peers.iter().map(|peer| ((direction, *peer), list)));
        }
    }

    fn arrange(&self, places: &[u32], counts: impl Fn(&Grant) -> bool) -> Openings {
        let bodies = places.iter().map(|place| (*place, &self.rules[*place as usize]));
        let bodies = bodies.filter(|(_, body)| counts(&body.grant));
        Openings::new(bodies.map(|(place, body)| (place, body.services.as_slice())))
    }

    /// Looks no more at rules that have stopped counting by `wall`, which never goes back for one rule set. Verdicts
    /// are the same without; only, while the rule that wins a port is one of those, each costs a look at every rule.
    pub fn forget_expired(&mut self, wall: UnixMillis) {
        let has_expired = |body: &RuleBody| !body.grant.counts(wall);
        if !self.rules.iter().any(has_expired) {
            return;
        }
        let arranged = self
            .lists
            .iter()
            .map(|list| self.arrange(&list.places, |grant| grant.counts(wall)));
        let arranged: Vec<Openings> = arranged.collect();
        for (list, openings) in self.lists.iter_mut().zip(arranged) {
            list.openings = openings;
        }
    }

    /// No rules: denies everything.
    pub fn empty(revision: Revision) -> Self {
        Self {
            revision,
            rules: Vec::new(),
            by_peer: BTreeMap::new(),
            lists: Vec::new(),
        }
    }

    /// The rule that lets `peer`'s conversation be opened in `direction`, or `None`: denied. The lowest id wins.
    pub fn verdict(
        &self,
        direction: Direction,
        peer: NodeId,
        protocol: Protocol,
        dst_port: u16,
        wall: UnixMillis,
    ) -> Option<RuleId> {
        let grant = self.grant(direction, peer, protocol, dst_port, wall)?;
        Some(grant.rule)
    }

    /// As [`Self::verdict`], with the time until which it holds.
    pub fn grant(
        &self,
        direction: Direction,
        peer: NodeId,
        protocol: Protocol,
        dst_port: u16,
        wall: UnixMillis,
    ) -> Option<Grant> {
        let list = &self.lists[*self.by_peer.get(&(direction, peer))? as usize];
        let first = &self.rules[list.openings.find(protocol, dst_port)? as usize];
        if first.grant.counts(wall) {
            return Some(first.grant);
        }
        // It has just expired: another may open the same for longer.
        let mut bodies = list.places.iter().map(|place| &self.rules[*place as usize]);
        let body = bodies.find(|body| {
            body.grant.counts(wall)
                && body
                    .services
                    .iter()
                    .any(|service| service.covers(protocol, dst_port))
        })?;
        Some(body.grant)
    }

    /// The next time after `after` at which a rule stops counting.
    pub fn next_expiry(&self, after: UnixMillis) -> Option<UnixMillis> {
        let expiries = self.rules.iter().filter_map(|body| body.grant.expires);
        expiries.filter(|expires| *expires > after).min()
    }

    /// The revision these rules are from.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Marks the same rules as those of a newer revision too. Live flows are judged again when next seen.
    pub fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl RuleBody {
    fn of(rule: &Rule) -> Self {
        Self {
            grant: Grant {
                rule: rule.id,
                expires: rule.expires,
            },
            services: rule.services.clone(),
        }
    }
}

/// The peers that the same rules of one direction are about.
struct Alike {
    /// By set of peers: the places of its rules, in order.
    places: Vec<Vec<u32>>,
    /// Who is in the same sets.
    peers: BTreeMap<Vec<u32>, Vec<NodeId>>,
}

impl Alike {
    /// Looks at each distinct set once, however many rules share it.
    fn among(rules: &[&Rule], direction: Direction) -> Self {
        let mut numbers = PeerSetNumbers::default();
        let mut places: Vec<Vec<u32>> = Vec::new();
        for (rule, place) in rules.iter().zip(0..) {
            if rule.direction == direction {
                let set = numbers.number(&rule.peers) as usize;
                places.resize_with(places.len().max(set + 1), Vec::new);
                places[set].push(place);
            }
        }
        let mut sets_of: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        for (set, number) in numbers.sets().iter().zip(0..) {
            for peer in set.iter() {
                sets_of.entry(*peer).or_default().push(number);
            }
        }
        let mut peers: BTreeMap<Vec<u32>, Vec<NodeId>> = BTreeMap::new();
        for (peer, sets) in sets_of {
            peers.entry(sets).or_default().push(peer);
        }
        Self { places, peers }
    }

    /// The places of the rules about those in these sets.
    fn places_of(&self, sets: &[u32]) -> Vec<u32> {
        let each = sets.iter().flat_map(|set| &self.places[*set as usize]);
        let mut places: Vec<u32> = each.copied().collect();
        places.sort_unstable();
        places
    }
}

/// How much [`RuleSet::new`] arranges for `rules`: for each kind of peer that differs from others in the rules about it,
/// the services of those rules. A few bytes of rules can ask for very much of it, so look at this first.
pub fn openings_of(rules: &[Rule]) -> u64 {
    let sorted: Vec<&Rule> = rules.iter().collect();
    let of_direction = |direction| {
        let alike = Alike::among(&sorted, direction);
        let services = |places: &Vec<u32>| -> u64 {
            let rules = places.iter().map(|place| &rules[*place as usize]);
            rules.map(|rule| rule.services.len().max(1) as u64).sum()
        };
        let by_set: Vec<u64> = alike.places.iter().map(services).collect();
        let kinds = alike.peers.keys().flatten();
        kinds.map(|set| by_set[*set as usize]).sum::<u64>()
    };
    of_direction(Direction::Ingress) + of_direction(Direction::Egress)
}

/// The most of [`openings_of`] that a segment is arranged for: some 32 bytes each, and an honest netmap has far fewer.
pub const OPENINGS_MAX: u64 = 4 * 1024 * 1024;

impl Grant {
    fn counts(&self, wall: UnixMillis) -> bool {
        self.expires.is_none_or(|expires| wall < expires) || is_off(Safeguard::Expiry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(7);
    const NOW: UnixMillis = UnixMillis(1_000);

    fn rule(id: u32, direction: Direction, peers: &[u64], service: &str) -> Rule {
        Rule {
            id: RuleId(id),
            direction,
            peers: peers.iter().copied().map(NodeId).collect(),
            services: vec![service.parse().unwrap()],
            expires: None,
        }
    }

    fn ask(set: &RuleSet, direction: Direction, peer: u64, port: u16) -> Option<u32> {
        let verdict = set.verdict(direction, NodeId(peer), Protocol::TCP, port, NOW);
        verdict.map(|rule| rule.0)
    }

    #[test]
    fn no_rules_deny_everything() {
        let set = RuleSet::empty(Revision::ZERO);

        for direction in [Direction::Ingress, Direction::Egress] {
            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol(47)] {
                assert_eq!(set.verdict(direction, PEER, protocol, 443, NOW), None);
            }
        }
    }

    #[test]
    fn a_rule_opens_one_direction_for_its_peers_and_ports_only() {
        let set = RuleSet::new(&[rule(1, Direction::Ingress, &[7], "tcp/5432")], Revision::ZERO);

        assert_eq!(ask(&set, Direction::Ingress, 7, 5432), Some(1));
        assert_eq!(ask(&set, Direction::Egress, 7, 5432), None);
        assert_eq!(ask(&set, Direction::Ingress, 8, 5432), None);
        assert_eq!(ask(&set, Direction::Ingress, 7, 5433), None);
    }

    #[test]
    fn the_lowest_rule_id_wins_in_any_order() {
        let (wide, narrow) = (
            rule(2, Direction::Ingress, &[7], "any"),
            rule(1, Direction::Ingress, &[7], "tcp/22"),
        );
        let set = RuleSet::new(&[wide, narrow], Revision::ZERO);

        assert_eq!(ask(&set, Direction::Ingress, 7, 22), Some(1));
        assert_eq!(ask(&set, Direction::Ingress, 7, 23), Some(2));
    }

    #[test]
    fn a_rule_stops_counting_the_moment_it_expires() {
        let mut expiring = rule(1, Direction::Ingress, &[7], "tcp/22");
        expiring.expires = Some(UnixMillis(2_000));
        let set = RuleSet::new(&[expiring], Revision::ZERO);
        let at = |ms| set.verdict(Direction::Ingress, PEER, Protocol::TCP, 22, UnixMillis(ms));

        assert_eq!(at(1_999), Some(RuleId(1)));
        assert_eq!(at(2_000), None);
        assert_eq!(set.next_expiry(UnixMillis(1_999)), Some(UnixMillis(2_000)));
        assert_eq!(set.next_expiry(UnixMillis(2_000)), None);
    }

    #[test]
    fn a_rule_that_outlasts_another_takes_over_and_forgetting_changes_no_verdict() {
        let mut short = rule(1, Direction::Ingress, &[7], "tcp/20-30");
        short.expires = Some(UnixMillis(2_000));
        let mut set = RuleSet::new(
            &[short, rule(2, Direction::Ingress, &[7, 8], "tcp/22")],
            Revision::ZERO,
        );
        let at = |set: &RuleSet, port, ms| {
            set.verdict(Direction::Ingress, PEER, Protocol::TCP, port, UnixMillis(ms))
        };

        assert_eq!(at(&set, 22, 1_999), Some(RuleId(1)));
        for forgotten in [false, true] {
            assert_eq!(at(&set, 22, 2_000), Some(RuleId(2)), "{forgotten}");
            assert_eq!(at(&set, 23, 2_000), None, "{forgotten}");
            assert_eq!(set.len(), 2);
            set.forget_expired(UnixMillis(2_000));
        }
    }

    #[test]
    fn rules_that_share_a_set_of_peers_are_arranged_once_and_those_that_differ_for_each_kind_of_peer() {
        let everyone: Vec<u64> = (1..=500).collect();
        let shared = rule(0, Direction::Ingress, &everyone, "tcp/1");
        let numbered = (0..300).map(|id| Rule {
            id: RuleId(id),
            ..shared.clone()
        });
        let mut rules: Vec<Rule> = numbered.collect();
        assert_eq!(openings_of(&rules), 300);
        rules.push(rule(300, Direction::Ingress, &[7], "tcp/2"));
        assert_eq!(openings_of(&rules), 300 + 301, "one peer differs from 499");
        let set = RuleSet::new(&rules, Revision::ZERO);

        assert_eq!(set.lists.len(), 2);
        assert_eq!(ask(&set, Direction::Ingress, 7, 2), Some(300));
        assert_eq!(ask(&set, Direction::Ingress, 8, 2), None);
        assert_eq!(ask(&set, Direction::Ingress, 500, 1), Some(0));
    }
}
