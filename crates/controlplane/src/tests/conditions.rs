//! What rules require, as the clock changes whether it is met.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use ringfence_model::{NodeId, RuleId, UnixMillis};

use super::world::*;
use crate::{Change, Command, Controller, Event, Refusal};

/// [`database`] in these hours alone.
fn in_hours(hours: &str) -> String {
    format!("{}require = {{ hours = \"{hours}\" }}\n", database("ledger"))
}

/// Tuesday, 2023-11-14, at this hour and minute (UTC).
fn tuesday(hour: u64, minute: u64) -> UnixMillis {
    UnixMillis(1_699_920_000_000 + hour * 3_600_000 + minute * 60_000)
}

fn conditions_changed(change: &Change) -> Vec<RuleId> {
    let changed = change.events.iter().filter_map(|event| match event {
        Event::ConditionsChanged { rules, .. } => Some(rules.clone()),
        _ => None,
    });
    changed.flatten().collect()
}

#[test]
fn hours_close_and_open_by_the_clock_alone_once_each() {
    let mut world = World::new();
    world.wall = tuesday(10, 0);
    world.admin(apply(&in_hours("Mon-Fri 08:00-19:00 UTC"))).unwrap();
    let [db, app, spare] = [("db", "role=db"), ("app", "role=app"), ("spare", "role=spare")]
        .map(|(called, labels)| world.enroll(called, labels));
    world.register(db, "ledger").unwrap();
    world.register(app, "ledger").unwrap();
    assert_eq!(world.peers(db, "ledger"), [app]);
    let rules = &world.netmap(app).segments[&name("ledger")].rules;
    assert_eq!(
        rules[0].expires,
        Some(tuesday(19, 0)),
        "it ends on the node, whatever becomes of us"
    );

    for (at, peers) in [(19, vec![]), (24 + 8, vec![app]), (24 + 19, vec![])] {
        let due = tuesday(at, 0);
        assert_eq!(world.controller.poll_timeout(), Some(due));
        world.wall = UnixMillis(due.0 - 1);
        assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
        world.wall = due;
        let change = world.system(Command::Tick).unwrap();

        assert_eq!(conditions_changed(&change), [RuleId(1)]);
        assert_eq!(change.events.len(), 1);
        assert_eq!(world.peers(db, "ledger"), peers);
        let told: BTreeSet<NodeId> = world.pushes.iter().map(|push| push.node).collect();
        assert_eq!(told, BTreeSet::from([db, app]), "and not {spare}");
        assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
    }
}

#[test]
fn who_comes_at_another_hour_than_the_last_is_judged_by_the_hour_it_is() {
    let mut world = World::new();
    world.wall = tuesday(10, 0);
    world.admin(apply(&in_hours("Mon-Fri 08:00-19:00 UTC"))).unwrap();
    let db = world.enroll("db", "role=db");
    world.register(db, "ledger").unwrap();
    assert_eq!(
        world.controller.poll_timeout(),
        None,
        "nobody is there for whom it ends"
    );

    world.wall = tuesday(20, 0);
    let token = world.token("role=app", 1);
    let change = world.join(token, "app").unwrap();
    let app = enrolled(&change);
    world.register(app, "ledger").unwrap();

    assert_eq!(conditions_changed(&change), [RuleId(1)]);
    assert!(world.peers(db, "ledger").is_empty());
    assert_eq!(world.controller.poll_timeout(), Some(tuesday(24 + 8, 0)));
}

#[test]
fn a_rule_that_expires_and_one_that_its_hours_end_are_told_of_together() {
    let mut world = World::new();
    world.wall = tuesday(10, 0);
    let second =
        "[[allow]]\nfrom = \"app\"\nto = \"db\"\nports = [\"tcp/22\"]\nexpires = 2023-11-14T19:00:00Z\n";
    world
        .admin(apply(&(in_hours("Mon-Fri 08:00-19:00 UTC") + second)))
        .unwrap();
    world.enroll("db", "role=db");
    world.enroll("app", "role=app");

    world.wall = tuesday(19, 0);
    let change = world.system(Command::Tick).unwrap();

    let expired = Event::RulesExpired {
        perimeter: name("ledger"),
        rules: vec![RuleId(2)],
    };
    assert_eq!(change.events[0], expired);
    assert_eq!(conditions_changed(&change), [RuleId(1)]);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
}

#[test]
fn a_controller_that_was_down_over_the_hours_catches_up_with_one_event() {
    let mut world = World::new();
    world.wall = tuesday(10, 0);
    world.admin(apply(&in_hours("Mon-Fri 08:00-19:00 UTC"))).unwrap();
    let (db, app) = (world.enroll("db", "role=db"), world.enroll("app", "role=app"));
    world.register(db, "ledger").unwrap();
    world.register(app, "ledger").unwrap();

    world.wall = tuesday(24 + 9, 0);
    let restarted = Controller::load(None, &world.log).unwrap();
    assert_eq!(restarted.poll_timeout(), Some(tuesday(19, 0)), "due at once");
    world.controller = restarted;
    let change = world.system(Command::Tick).unwrap();

    assert_eq!(change.events.len(), 1);
    let rules = &world.netmap(app).segments[&name("ledger")].rules;
    assert_eq!(rules[0].expires, Some(tuesday(24 + 19, 0)));
    assert_eq!(world.peers(db, "ledger"), [app]);
}

/// Hours by their minutes of the day, UTC, every day; over midnight if they end before they start.
type Minutes = (u64, u64);

fn policy(rules: &[Minutes]) -> String {
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let rule = |(port, (start, end)): (u16, &Minutes)| {
        format!(
            "[[allow]]\nfrom = \"app\"\nto = \"db\"\nports = [\"tcp/{port}\"]\nrequire = {{ hours = \"Mon-Sun {}-{} UTC\" }}\n",
            clock(*start),
            clock(*end)
        )
    };
    let members = "[members]\napp = { nodes = \"role=app\" }\ndb = { nodes = \"role=db\" }\n";
    let rules: String = (1..).zip(rules).map(rule).collect();
    format!("[perimeter]\nname = \"ledger\"\nowners = [\"alice@example.com\"]\n{members}{rules}")
}

fn is_on((start, end): Minutes, wall: UnixMillis) -> bool {
    let minute = wall.0 / 60_000 % 1_440;
    if start < end {
        (start..end).contains(&minute)
    } else {
        minute >= start || minute < end
    }
}

#[derive(Clone, Debug)]
enum Move {
    Enroll { role: &'static str },
    Relabel { node: usize, role: &'static str },
    Remove { node: usize },
    Apply { rules: Vec<Minutes> },
    Pass { minutes: u64 },
}

fn rules() -> impl Strategy<Value = Vec<Minutes>> {
    let minute = || (0..24_u64, 0..60_u64).prop_map(|(hour, minute)| hour * 60 + minute);
    let hours = (minute(), minute()).prop_filter("empty", |(start, end)| start != end);
    prop::collection::vec(hours, 1..4)
}

fn step() -> impl Strategy<Value = Move> {
    let role = || prop::sample::select(&["app", "db", "spare"][..]);
    prop_oneof![
        3 => role().prop_map(|role| Move::Enroll { role }),
        2 => (0..8_usize, role()).prop_map(|(node, role)| Move::Relabel { node, role }),
        1 => (0..8_usize).prop_map(|node| Move::Remove { node }),
        1 => rules().prop_map(|rules| Move::Apply { rules }),
        4 => (1..700_u64).prop_map(|minutes| Move::Pass { minutes }),
    ]
}

/// Everything that is open, as the controller holds it: from whom, to whom, by which rule.
fn open(world: &World) -> BTreeSet<(NodeId, NodeId, u32)> {
    let compiled = world.controller.compiled(&name("ledger")).unwrap();
    let openings = compiled.openings().into_iter();
    openings
        .map(|opening| (opening.from, opening.to, opening.rule.0))
        .collect()
}

/// The same, read off labels and clock.
fn wanted(world: &World, rules: &[Minutes], wall: UnixMillis) -> BTreeSet<(NodeId, NodeId, u32)> {
    let of = |role: &str| -> Vec<NodeId> {
        let nodes = world.controller.nodes();
        nodes
            .filter(|node| node.labels.value("role") == Some(role))
            .map(|node| node.id)
            .collect()
    };
    let (apps, dbs) = (of("app"), of("db"));
    let mut wanted = BTreeSet::new();
    for (rule, hours) in (1..).zip(rules) {
        if is_on(*hours, wall) {
            wanted.extend(
                apps.iter()
                    .flat_map(|app| dbs.iter().map(move |db| (*app, *db, rule))),
            );
        }
    }
    wanted
}

/// Lets time pass as the shell does: a tick whenever one is due, and none else. Minute by minute what is open must be what
/// the clock says, and whatever a tick records must have changed something.
fn pass(world: &mut World, rules: &[Minutes], minutes: u64) {
    for _ in 0..minutes {
        world.pass(Duration::from_mins(1));
        if world
            .controller
            .poll_timeout()
            .is_some_and(|due| due <= world.wall)
        {
            let before = open(world);
            let change = world.system(Command::Tick).unwrap();
            let told: BTreeSet<u32> = conditions_changed(&change).iter().map(|rule| rule.0).collect();
            let after = open(world);
            let changed: BTreeSet<u32> = before
                .symmetric_difference(&after)
                .map(|(.., rule)| *rule)
                .collect();
            assert_eq!(told, changed, "exactly those that changed, and this once");
            assert!(world.controller.poll_timeout().is_none_or(|due| due > world.wall));
        }
        assert_eq!(open(world), wanted(world, rules, world.wall));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn stepping_by_what_is_due_sees_every_change_that_each_minute_sees(first in rules(), moves in prop::collection::vec(step(), 1..14)) {
        let mut world = World::new();
        world.wall = tuesday(0, 0);
        let mut rules = first;
        world.admin(apply(&policy(&rules))).unwrap();
        for (at, step) in moves.into_iter().enumerate() {
            let nodes: Vec<NodeId> = world.controller.nodes().map(|node| node.id).collect();
            let pick = |node: usize| nodes.get(node % nodes.len().max(1)).copied();
            match step {
                Move::Enroll { role } => {
                    // A token's own end is due by the clock too: it is used at once.
                    world.enroll(&format!("n-{at}"), &format!("role={role}"));
                }
                Move::Relabel { node, role } => {
                    if let Some(node) = pick(node) {
                        let _unchanged = world.admin(relabel(node, &format!("role={role}"), &[]));
                    }
                }
                Move::Remove { node } => {
                    if let Some(node) = pick(node) {
                        world.admin(Command::RemoveNode { node }).unwrap();
                    }
                }
                Move::Apply { rules: next } => {
                    let _unchanged = world.admin(apply(&policy(&next)));
                    rules = next;
                }
                Move::Pass { minutes } => pass(&mut world, &rules, minutes),
            }
            prop_assert_eq!(open(&world), wanted(&world, &rules, world.wall));
        }
        let replayed = Controller::load(None, &world.log).unwrap();
        prop_assert_eq!(replayed.views(), world.controller.views());
    }
}
