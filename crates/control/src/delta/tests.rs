//! A delta leads from one netmap to another, or nowhere.

use proptest::prelude::*;

use super::*;
use crate::netmap::tests::{any_netmap, name, netmap, revision, segment};

fn size(delta: &Delta) -> usize {
    let mut bytes = Vec::new();
    ciborium::into_writer(delta, &mut bytes).unwrap();
    bytes.len()
}

proptest! {
    #[test]
    fn a_delta_leads_from_any_netmap_to_any_other(old in any_netmap(), mut new in any_netmap()) {
        new.revision = old.revision.next();
        let delta = Delta::between(&old, &new);

        prop_assert_eq!(delta.apply(&old), Ok(new));
    }

    #[test]
    fn a_delta_applies_to_nothing_but_its_base(old in any_netmap(), mut new in any_netmap(), mut other in any_netmap()) {
        new.revision = old.revision.next();
        let delta = Delta::between(&old, &new);
        other.revision = old.revision;

        // From another netmap of the same number it arrives where it should, or it is refused: never elsewhere.
        if let Ok(arrived) = delta.apply(&other) {
            prop_assert_eq!(arrived.content_hash(), new.content_hash());
        }
        other.revision = new.revision;
        let refused = DeltaError::Base { base: old.revision, current: new.revision };
        prop_assert_eq!(delta.apply(&other), Err(refused));
    }

    #[test]
    fn a_delta_survives_the_wire(old in any_netmap(), new in any_netmap()) {
        let delta = Delta::between(&old, &new);
        let mut bytes = Vec::new();
        ciborium::into_writer(&delta, &mut bytes).unwrap();

        prop_assert_eq!(ciborium::from_reader::<Delta, _>(bytes.as_slice()).unwrap(), delta);
    }
}

#[test]
fn an_older_revision_is_refused() {
    let old = netmap(4, [("a", segment(1, [2]))]);
    let new = netmap(5, [("a", segment(1, [2, 3]))]);
    let back = Delta::between(&new, &old);

    let refused = DeltaError::Older {
        offered: revision(4),
        current: revision(5),
    };
    assert_eq!(back.apply(&new), Err(refused));
}

#[test]
fn a_delta_delivered_twice_is_refused_the_second_time() {
    let old = netmap(4, [("a", segment(1, [2]))]);
    let new = netmap(5, [("a", segment(1, [2, 3]))]);
    let delta = Delta::between(&old, &new);

    let arrived = delta.apply(&old).unwrap();

    assert!(matches!(delta.apply(&arrived), Err(DeltaError::Base { .. })));
}

#[test]
fn a_result_that_is_not_the_one_meant_is_refused() {
    let old = netmap(4, [("a", segment(1, [2]))]);
    let new = netmap(5, [("a", segment(1, [2, 3]))]);
    let mut delta = Delta::between(&old, &new);
    delta.hash[0] ^= 1;

    assert_eq!(delta.apply(&old), Err(DeltaError::Hash));
}

#[test]
fn removing_what_is_not_there_is_refused() {
    let old = netmap(4, [("a", segment(1, [2]))]);
    let mut delta = Delta::between(&old, &netmap(5, []));
    delta.removed.insert(name("b"));

    assert_eq!(delta.apply(&old), Err(DeltaError::Misfit));
}

#[test]
fn a_key_that_is_taken_away_survives_the_wire() {
    let old = netmap(4, [("a", segment(1, [2]))]);
    let mut new = netmap(5, [("a", segment(1, [2]))]);
    new.segments.get_mut("a").unwrap().public_key = None;
    let mut bytes = Vec::new();
    ciborium::into_writer(&Delta::between(&old, &new), &mut bytes).unwrap();

    let read: Delta = ciborium::from_reader(bytes.as_slice()).unwrap();

    assert_eq!(read.apply(&old), Ok(new));
}

#[test]
fn one_peer_more_costs_one_peer_however_many_there_are() {
    let old = netmap(4, [("a", segment(1, 2..200))]);
    let new = netmap(5, [("a", segment(1, 2..201))]);

    let delta = Delta::between(&old, &new);

    assert!(size(&delta) < 600, "{} bytes", size(&delta));
    assert!(
        Delta::between(
            &new,
            &Netmap {
                revision: revision(6),
                ..new.clone()
            }
        )
        .is_empty()
    );
}

#[test]
fn one_peer_more_in_ten_thousand_rules_costs_one_peer_too() {
    let crowded = |last| {
        let mut segment = segment(1, 2..last);
        let rule = segment.rules[0].clone();
        let numbered = (0..10_000).map(|id| ringfence_policy::Rule {
            id: ringfence_model::RuleId(id),
            ..rule.clone()
        });
        segment.rules = numbered.collect();
        segment
    };
    let old = netmap(4, [("a", crowded(200))]);
    let new = netmap(5, [("a", crowded(201))]);

    let delta = Delta::between(&old, &new);

    assert!(size(&delta) < 600, "{} bytes", size(&delta));
    let arrived = delta.apply(&old).unwrap();
    let rules = &arrived.segments["a"].rules;
    let first = rules[0].peers.as_ptr();
    assert!(
        rules.iter().all(|rule| rule.peers.as_ptr() == first),
        "one list for all"
    );
    assert_eq!(arrived, new);
}

#[test]
fn a_rule_that_leaves_the_set_it_shared_does_not_take_the_others_along() {
    let rules = |moved: u64| {
        let mut segment = segment(1, 2..9);
        let rule = segment.rules[0].clone();
        segment.rules = (0..5)
            .map(|id| ringfence_policy::Rule {
                id: ringfence_model::RuleId(id),
                peers: (2..9)
                    .filter(|peer| id != 0 || *peer != moved)
                    .map(ringfence_model::NodeId)
                    .collect(),
                ..rule.clone()
            })
            .collect();
        segment
    };
    let old = netmap(4, [("a", rules(0))]);
    let new = netmap(5, [("a", rules(3))]);

    let delta = Delta::between(&old, &new);
    let edit = delta.changed["a"].rules.as_ref().unwrap();

    assert_eq!((edit.peers.len(), edit.put.as_ref().unwrap().0.len()), (0, 1));
    assert_eq!(delta.apply(&old), Ok(new));
}

#[test]
fn a_change_of_a_set_that_is_not_there_is_refused() {
    let old = netmap(4, [("a", segment(1, [2]))]);
    let new = netmap(5, [("a", segment(1, [2, 3]))]);
    let mut delta = Delta::between(&old, &new);
    let edit = delta.changed.get_mut("a").unwrap().rules.as_mut().unwrap();
    edit.peers[0].set = u32::MAX;

    assert_eq!(delta.apply(&old), Err(DeltaError::Misfit));
}
