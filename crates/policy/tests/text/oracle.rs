//! The whole way from policy text to a node's verdict, against the interpreter of [`crate::model`].

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringfence_model::{Revision, UnixMillis};
use ringfence_policy::{Change, Direction, RuleSet, Service, diff};

use crate::model::{GROUPS, NodeModel, RequireModel, RuleModel, id, model, node, questions, require, rule};
use crate::small::NOW;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Both ends decide by their own rules, and both decide what the file says.
    #[test]
    fn both_nodes_decide_as_the_interpreter_does(model in model()) {
        let compiled = model.compiled(NOW);
        let sets: Vec<RuleSet> = (0..model.nodes.len())
            .map(|node| RuleSet::new(&compiled.allowlist(id(node)).rules, Revision::ZERO))
            .collect();
        for (from, to) in model.pairs() {
            for (protocol, port) in questions() {
                let wanted = model.verdict(from, to, (protocol, port), NOW);
                prop_assert_eq!(compiled.verdict(id(from), id(to), protocol, port), wanted);
                let egress = sets[from].verdict(Direction::Egress, id(to), protocol, port, NOW);
                let ingress = sets[to].verdict(Direction::Ingress, id(from), protocol, port, NOW);
                prop_assert_eq!((egress, ingress), (wanted, wanted), "{}>{} {}/{}", from, to, protocol, port);
            }
        }
    }

    /// A node that was handed its rules once lets them end by itself, on the same second, whatever becomes of the
    /// controller; and what the clock opens waits for the controller.
    #[test]
    fn what_rules_require_ends_on_the_node_when_the_clock_says(model in model(), later in 0..1_300_000_u64) {
        let (before, later) = (UnixMillis(NOW.0 - 1_000), UnixMillis(NOW.0 - 1_000 + later));
        let compiled = model.compiled(before);
        let same = compiled.next_change.is_none_or(|next| later < next);
        for (from, to) in model.pairs() {
            let sets = [(from, Direction::Egress, to), (to, Direction::Ingress, from)].map(|(own, direction, other)| {
                (RuleSet::new(&compiled.allowlist(id(own)).rules, Revision::ZERO), direction, other)
            });
            for (protocol, port) in questions() {
                let [out, back] = sets.each_ref().map(|(rules, direction, other)| {
                    rules.verdict(*direction, id(*other), protocol, port, later)
                });
                let open = model.opening(from, to, (protocol, port), later);
                prop_assert_eq!(out, back, "both ends end it together");
                prop_assert!(out.is_none_or(|rule| open.contains(&rule)), "{:?} opens what it may not: {:?}", out, open);
                if same {
                    prop_assert_eq!(out, open.first().copied());
                }
                let stays = open.iter().any(|rule| {
                    let rule = &model.rules[rule.0 as usize - 1];
                    (before.0..=later.0).step_by(20_000).all(|at| model.joins(rule, from, to, UnixMillis(at)))
                        && model.joins(rule, from, to, UnixMillis(later.0 - later.0 % 1_000))
                });
                prop_assert!(out.is_some() || !stays, "closed before its time");
            }
        }
    }

    /// Wall 1: keys are exchanged with those that some live rule joins, and with nobody else.
    #[test]
    fn peers_are_exactly_those_that_something_is_open_to_or_from(model in model()) {
        let compiled = model.compiled(NOW);
        for (one, two) in model.pairs() {
            let is_open = questions().any(|(protocol, port)| {
                model.verdict(one, two, (protocol, port), NOW).is_some()
                    || model.verdict(two, one, (protocol, port), NOW).is_some()
            });
            prop_assert_eq!(compiled.allowlist(id(one)).peers.contains(&id(two)), is_open);
        }
    }

    #[test]
    fn members_are_exactly_those_in_some_group(model in model()) {
        let compiled = model.compiled(NOW);
        for node in 0..model.nodes.len() {
            let is_member = (0..GROUPS).any(|group| model.is_in(node, group, NOW));
            prop_assert_eq!(compiled.members().contains(&id(node)), is_member);
        }
    }

    /// Rules only add up, in any order (DESIGN.md 6).
    #[test]
    fn adding_a_rule_anywhere_closes_nothing(model in model(), extra in rule(), place in any::<prop::sample::Index>()) {
        let mut wider = model.clone();
        wider.rules.insert(place.index(model.rules.len() + 1), extra);

        let changes = diff(Some(&model.compiled(NOW)), &wider.compiled(NOW));

        prop_assert!(changes.iter().all(|change| change.change == Change::Opens), "{:?}", changes);
    }

    #[test]
    fn the_order_of_rules_changes_nothing(model in model()) {
        let mut turned = model.clone();
        turned.rules.reverse();

        prop_assert_eq!(diff(Some(&model.compiled(NOW)), &turned.compiled(NOW)), []);
    }

    /// The dry run tells the truth: a question's answer changes if and only if a listed change covers it.
    #[test]
    fn the_difference_is_just_what_changes(old in model(), mut new in model()) {
        new.nodes.resize(old.nodes.len(), NodeModel::default());
        let changes = diff(Some(&old.compiled(NOW)), &new.compiled(NOW));
        for (from, to) in old.pairs() {
            for (protocol, port) in questions() {
                let was = old.verdict(from, to, (protocol, port), NOW).is_some();
                let is = new.verdict(from, to, (protocol, port), NOW).is_some();
                let wanted = match (was, is) {
                    (false, true) => Some(Change::Opens),
                    (true, false) => Some(Change::Closes),
                    (true, true) | (false, false) => None,
                };
                let about = changes.iter().filter(|change| {
                    change.from == id(from) && change.to == id(to) && change.service.covers(protocol, port)
                });
                let told: Vec<Change> = about.map(|change| change.change).collect();
                prop_assert_eq!(told, wanted.into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// What is listed as open is what verdicts say is open.
    #[test]
    fn openings_and_verdicts_agree(model in model()) {
        let compiled = model.compiled(NOW);
        let openings = compiled.openings();
        for (from, to) in model.pairs() {
            for (protocol, port) in questions() {
                let mut listed = openings.iter().filter(|opening| {
                    let service: Service = opening.service;
                    opening.from == id(from) && opening.to == id(to) && service.covers(protocol, port)
                });
                let wanted = model.verdict(from, to, (protocol, port), NOW);
                prop_assert_eq!(listed.next().is_some(), wanted.is_some());
            }
        }
    }

    #[test]
    fn asking_for_more_opens_nothing(model in model(), extra in require(), place in any::<prop::sample::Index>()) {
        let mut stricter = model.clone();
        let Some(count) = std::num::NonZeroUsize::new(model.rules.len()) else { return Ok(()) };
        let rule = &mut stricter.rules[place.index(count.get())];
        rule.require = rule.require.clone().and(extra);

        let changes = diff(Some(&model.compiled(NOW)), &stricter.compiled(NOW));

        prop_assert!(changes.iter().all(|change| change.change == Change::Closes), "{:?}", changes);
    }

    #[test]
    fn of_whom_nothing_is_verified_nothing_opens_that_requires_anything(mut model in model()) {
        for node in &mut model.nodes {
            *node = NodeModel { labels: node.labels.clone(), ..NodeModel::default() };
        }
        let hours_only = |rule: &RuleModel| rule.require.asks_for_hours_alone();
        for opening in model.compiled(NOW).openings() {
            let rule = &model.rules[opening.rule.0 as usize - 1];
            prop_assert!(rule.require == RequireModel::default() || hours_only(rule), "{:?}", rule);
        }
    }

    /// Whoever gets another allowlist is among those who are told.
    #[test]
    fn whoever_is_concerned_by_new_facts_is_known(model in model(), node in node(), place in any::<prop::sample::Index>(), later in 0..1_200_000_u64) {
        let mut moved = model.clone();
        let place = place.index(model.nodes.len());
        moved.nodes[place] = node;
        let (before, after) = (model.compiled(NOW), moved.compiled(UnixMillis(NOW.0 + later)));

        let concerned = after.concerned_since(&before);

        for node in 0..model.nodes.len() {
            let same = before.allowlist(id(node)) == after.allowlist(id(node));
            prop_assert!(same || concerned.contains(&id(node)), "{}", node);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Asked second by second, the interpreter sees no change before the one that was told, and that one then.
    #[test]
    fn the_next_change_by_the_clock_is_the_one_that_comes(model in model(), part in 0..1_000_u64) {
        let start = UnixMillis(NOW.0 + part);
        let compiled = model.compiled(start);
        let joined = model.joined(start);
        let expiries = model.rules.iter().filter_map(RuleModel::expires).filter(|expires| *expires > start);
        let seconds = (1..SECONDS_WATCHED).map(|second| UnixMillis(NOW.0 + second * 1_000));
        let changed = seconds.chain(expiries.clone()).filter(|at| model.joined(*at) != joined);
        let first = changed.chain(expiries).min();

        match (compiled.next_change, first) {
            (Some(told), Some(first)) => prop_assert_eq!(told, first),
            (told, first) => prop_assert!(
                first.is_none() && told.is_none_or(|told| told.0 >= NOW.0 + SECONDS_WATCHED * 1_000),
                "{told:?}, {first:?}"
            ),
        }
        if let Some(next) = compiled.next_change {
            let about: BTreeSet<usize> = model.joined(next).into_iter().map(|(rule, ..)| rule)
                .chain(joined.iter().map(|(rule, ..)| *rule))
                .filter(|rule| {
                    let of = |joined: &[(usize, usize, usize)]| -> Vec<(usize, usize, usize)> {
                        joined.iter().copied().filter(|(of, ..)| of == rule).collect()
                    };
                    let lives = model.rules[*rule].expires().is_none_or(|expires| next < expires);
                    lives && of(&model.joined(next)) != of(&joined)
                })
                .collect();
            let told: BTreeSet<usize> = compiled.changed_by(next).iter().map(|rule| rule.0 as usize - 1).collect();
            prop_assert_eq!(told, about);
            prop_assert_eq!(compiled.changed_by(UnixMillis(next.0 - 1)), []);
        }
    }
}

const SECONDS_WATCHED: u64 = 1_200;
