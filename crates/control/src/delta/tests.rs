//! A delta leads from one netmap to another, or nowhere.

use proptest::prelude::*;

use super::*;
use crate::netmap::tests::{any_compiled_rules, any_netmap, name, netmap, revision, segment};

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

    /// Whatever one rule of a direction ends at, two lists in the order of compiling are compared rule by rule.
    #[test]
    fn what_was_compiled_is_never_sent_whole(old in any_compiled_rules(), new in any_compiled_rules()) {
        let with = |rules| SegmentMap { rules, ..segment(1, 2..8) };
        let (old, new) = (netmap(4, [("a", with(old))]), netmap(5, [("a", with(new))]));
        let delta = Delta::between(&old, &new);

        let edit = delta.changed.get("a").and_then(|change| change.rules.as_ref());
        prop_assert!(edit.is_none_or(|edit| edit.replace.is_none()));
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

/// A rule that ends for a hundred laptops at a moment each.
fn with_sessions(last_end: u64) -> SegmentMap {
    let mut segment = segment(1, 2..102);
    let rule = segment.rules[0].clone();
    let ends = (2..101).map(|laptop| (laptop, 1_000 * laptop));
    let mut ending: Vec<ringfence_policy::Rule> = ends
        .chain([(101, last_end)])
        .map(|(laptop, end)| ringfence_policy::Rule {
            peers: vec![ringfence_model::NodeId(laptop)].into(),
            expires: Some(UnixMillis(end)),
            ..rule.clone()
        })
        .collect();
    ending.sort_by_key(|rule| rule.expires);
    segment.rules = ending;
    segment
}

#[test]
fn one_laptops_new_end_costs_one_entry_however_many_laptops_there_are() {
    let old = netmap(4, [("a", with_sessions(50_500))]);
    let new = netmap(5, [("a", with_sessions(99_500))]);

    let delta = Delta::between(&old, &new);
    let edit = delta.changed["a"].rules.as_ref().unwrap();

    assert_eq!(edit.replace, None);
    let put = edit.put.as_ref().map_or(0, |put| put.0.len());
    assert_eq!((edit.removed.len(), edit.peers.len(), put), (1, 0, 1));
    assert!(size(&delta) < 400, "{} bytes", size(&delta));
    assert_eq!(delta.apply(&old), Ok(new));
}

#[test]
fn a_laptop_that_comes_to_end_with_another_joins_its_set() {
    let old = netmap(4, [("a", with_sessions(50_500))]);
    let mut new = netmap(5, [("a", with_sessions(50_500))]);
    let rules = &mut new.segments.get_mut("a").unwrap().rules;
    rules.retain(|rule| rule.expires != Some(UnixMillis(50_500)));
    let other = rules
        .iter_mut()
        .find(|rule| rule.expires == Some(UnixMillis(60_000)));
    other.unwrap().peers = vec![ringfence_model::NodeId(60), ringfence_model::NodeId(101)].into();

    let delta = Delta::between(&old, &new);
    let edit = delta.changed["a"].rules.as_ref().unwrap();

    assert_eq!((edit.removed.len(), edit.peers.len(), &edit.put), (1, 1, &None));
    assert_eq!(delta.apply(&old), Ok(new));
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
