//! A list of rules as it is written: each set of peers once, and for each rule the number of its set.
//!
//! **Invariant:** what is read takes memory in proportion to what was written: rules of one set share it.

use std::borrow::Cow;

use ringfence_model::{RuleId, UnixMillis};
use ringfence_policy::{Direction, PeerSet, PeerSetNumbers, Rule, Service};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list of rules where serde needs a type for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleList(#[serde(with = "self")] pub Vec<Rule>);

#[derive(Serialize)]
struct Written<'a> {
    peer_sets: Vec<&'a [ringfence_model::NodeId]>,
    rules: Vec<WrittenRule<'a>>,
}

#[derive(Deserialize)]
struct Read {
    peer_sets: Vec<Vec<ringfence_model::NodeId>>,
    rules: Vec<WrittenRule<'static>>,
}

#[derive(Serialize, Deserialize)]
struct WrittenRule<'a> {
    id: RuleId,
    direction: Direction,
    /// Its place in `peer_sets`.
    peers: u32,
    services: Cow<'a, [Service]>,
    expires: Option<UnixMillis>,
}

pub(crate) fn serialize<S: Serializer>(rules: &[Rule], serializer: S) -> Result<S::Ok, S::Error> {
    let mut numbers = PeerSetNumbers::default();
    let rules = rules.iter().map(|rule| WrittenRule {
        id: rule.id,
        direction: rule.direction,
        peers: numbers.number(&rule.peers),
        services: Cow::Borrowed(&rule.services),
        expires: rule.expires,
    });
    let rules = rules.collect();
    let peer_sets = numbers.sets().iter().map(|set| &set[..]).collect();
    Written { peer_sets, rules }.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let read = Read::deserialize(deserializer)?;
    let sets: Vec<PeerSet> = read.peer_sets.into_iter().map(PeerSet::from).collect();
    let rules = read.rules.into_iter().map(|rule| {
        let peers = usize::try_from(rule.peers).ok().and_then(|place| sets.get(place));
        let peers = peers.ok_or_else(|| D::Error::custom("a rule is about peers that are not listed"))?;
        Ok(Rule {
            id: rule.id,
            direction: rule.direction,
            peers: peers.clone(),
            services: rule.services.into_owned(),
            expires: rule.expires,
        })
    });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use ringfence_model::NodeId;

    use super::*;

    fn bytes(list: &RuleList) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(list, &mut bytes).unwrap();
        bytes
    }

    fn rule(id: u32, peers: PeerSet) -> Rule {
        Rule {
            id: RuleId(id),
            direction: Direction::Ingress,
            peers,
            services: vec!["tcp/5432".parse().unwrap()],
            expires: None,
        }
    }

    #[test]
    fn a_set_of_peers_is_written_once_and_shared_by_its_rules_when_read() {
        let everyone = || (1..=1_000).map(|n| NodeId(n << 50)).collect::<PeerSet>();
        let one = RuleList(vec![rule(0, everyone())]);
        // Equal, but not one in memory.
        let hundred = RuleList((0..100).map(|id| rule(id, everyone())).collect());

        let written = bytes(&hundred);
        let read: RuleList = ciborium::from_reader(written.as_slice()).unwrap();

        assert!(
            written.len() < bytes(&one).len() + 100 * 100,
            "{} bytes",
            written.len()
        );
        assert_eq!(read, hundred);
        let first = read.0[0].peers.as_ptr();
        assert!(read.0.iter().all(|rule| rule.peers.as_ptr() == first));
    }

    #[test]
    fn a_rule_about_a_set_that_is_not_there_is_refused() {
        let text = r#"{"peer_sets":[["0000000000000001"]],"rules":[{"id":0,"direction":"ingress","peers":1,"services":[],"expires":null}]}"#;

        let refused = serde_json::from_str::<RuleList>(text).unwrap_err();

        assert!(refused.to_string().contains("not listed"), "{refused}");
        assert!(serde_json::from_str::<RuleList>(&text.replace(r#""peers":1"#, r#""peers":0"#)).is_ok());
    }
}
