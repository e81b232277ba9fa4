//! The rules in force for one segment of one node, arranged for the question the packet path asks.
//!
//! **Invariant:** default deny. A rule set without rules allows nothing, and rules only add up.

use std::collections::BTreeMap;

use ringfence_model::sabotage::{Safeguard, is_off};
use ringfence_model::{NodeId, Revision, RuleId, UnixMillis};
use ringfence_packet::Protocol;

use crate::{Direction, Rule, Service};

/// Rules by who is at the other end and who opens, with the revision they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    revision: Revision,
    /// Sorted by id; the index below holds places in here.
    rules: Vec<RuleBody>,
    by_peer: BTreeMap<(Direction, NodeId), Vec<u32>>,
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
        for rule in sorted {
            let place = u32::try_from(set.rules.len()).expect("a perimeter has far fewer than 2^32 rules");
            set.rules.push(RuleBody {
                grant: Grant {
                    rule: rule.id,
                    expires: rule.expires,
                },
                services: rule.services.clone(),
            });
            for peer in &rule.peers {
                set.by_peer
                    .entry((rule.direction, *peer))
                    .or_default()
                    .push(place);
            }
        }
        set
    }

    /// No rules: denies everything.
    pub fn empty(revision: Revision) -> Self {
        Self {
            revision,
            rules: Vec::new(),
            by_peer: BTreeMap::new(),
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
        let places = self.by_peer.get(&(direction, peer))?;
        let mut bodies = places.iter().map(|place| &self.rules[*place as usize]);
        let body = bodies.find(|body| {
            (body.grant.expires.is_none_or(|expires| wall < expires) || is_off(Safeguard::Expiry))
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
}
