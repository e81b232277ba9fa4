//! Drills: what is opened to be measured.

use std::collections::BTreeSet;

use ringfence_model::NodeId;

use super::world::*;
use crate::limit::DRILL_LENGTH;
use crate::{Actor, Change, Command, DrillCommand, DrillEvent, DrillRefusal, Event, Refusal, RefusalKind};

impl World {
    fn drill(&mut self, from: NodeId, to: NodeId, port: u16) -> Result<Change, Refusal> {
        self.admin(begin(from, to, port))
    }

    fn end_drill(&mut self) -> Result<Change, Refusal> {
        self.admin(end())
    }
}

fn begin(from: NodeId, to: NodeId, port: u16) -> Command {
    Command::Drill(DrillCommand::Begin {
        perimeter: name("ledger"),
        from,
        to,
        port,
    })
}

fn end() -> Command {
    Command::Drill(DrillCommand::End {
        perimeter: name("ledger"),
    })
}

/// Two applications, which no rule joins, and the database of both.
fn world() -> (World, NodeId, NodeId, NodeId) {
    let (mut world, db, app) = World::with_database();
    let other = world.enroll("app-2", "role=app");
    world.register(other, "ledger").unwrap();
    (world, db, app, other)
}

#[test]
fn a_drill_joins_its_two_nodes_tells_them_alone_and_leaves_nothing() {
    let (mut world, _, app, other) = world();
    let before = [app, other].map(|node| world.netmap(node).segments);
    assert!(!world.peers(app, "ledger").contains(&other));

    world.drill(app, other, 50_000).unwrap();

    assert!(world.peers(app, "ledger").contains(&other));
    assert!(world.peers(other, "ledger").contains(&app));
    assert_ne!(world.netmap(app).segments, before[0]);
    let told = |world: &World| -> BTreeSet<NodeId> { world.pushes.iter().map(|push| push.node).collect() };
    assert!(told(&world).is_superset(&BTreeSet::from([app, other])));

    let change = world.end_drill().unwrap();

    assert!(matches!(
        &change.events[..],
        [Event::Drill(DrillEvent::DrillEnded { .. })]
    ));
    assert_eq!([app, other].map(|node| world.netmap(node).segments), before);
    assert!(told(&world).is_superset(&BTreeSet::from([app, other])));
}

#[test]
fn a_drill_that_nobody_ends_ends_by_the_clock() {
    let (mut world, _, app, other) = world();
    world.drill(app, other, 50_000).unwrap();

    world.pass(DRILL_LENGTH);
    let change = world.system(Command::Tick).unwrap();

    assert!(matches!(
        &change.events[..],
        [Event::Drill(DrillEvent::DrillEnded { .. })]
    ));
    assert!(!world.peers(app, "ledger").contains(&other));
}

#[test]
fn a_drill_ends_with_its_perimeter_and_with_each_of_its_nodes() {
    type End = fn(NodeId, NodeId) -> Command;
    let ends: [End; 3] = [
        |from, _| Command::RemoveNode { node: from },
        |_, to| Command::RemoveNode { node: to },
        |_, _| Command::RemovePerimeter { name: name("ledger") },
    ];
    for end in ends {
        let (mut world, _, app, other) = world();
        world.drill(app, other, 50_000).unwrap();

        let change = world.admin(end(app, other)).unwrap();

        let ended = |event: &Event| matches!(event, Event::Drill(DrillEvent::DrillEnded { .. }));
        assert!(change.events.iter().any(ended), "{:?}", change.events);
    }
}

#[test]
fn a_drill_opens_nothing_that_a_rule_opens_and_there_is_one_at_a_time() {
    let (mut world, db, app, other) = world();
    let refused = |result: Result<Change, Refusal>| match result.unwrap_err() {
        Refusal::Drill(refusal) => refusal,
        other => panic!("{other}"),
    };

    assert_eq!(refused(world.drill(app, app, 50_000)), DrillRefusal::Alone);
    assert_eq!(refused(world.drill(app, other, 0)), DrillRefusal::Port);
    assert_eq!(refused(world.end_drill()), DrillRefusal::None(name("ledger")));
    world
        .admin(apply(&database("ledger").replace("tcp/5432", "any")))
        .unwrap();
    assert!(matches!(
        refused(world.drill(app, db, 50_000)),
        DrillRefusal::Open { port: 50_000, .. }
    ));
    world.drill(app, other, 50_000).unwrap();
    assert_eq!(
        refused(world.drill(other, app, 50_001)),
        DrillRefusal::UnderWay(name("ledger"))
    );
}

#[test]
fn a_drill_takes_nobody_in_and_is_not_for_nodes_to_ask_for() {
    let (mut world, db, app, _) = world();
    let stranger = world.enroll("stranger", "role=stranger");

    let refused = world.drill(app, stranger, 50_000).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::Conflict, "{refused}");
    let refused = world
        .ask(&Actor::node(app, "r"), begin(app, db, 50_000))
        .unwrap_err();
    assert!(matches!(refused, Refusal::NotPermitted { .. }), "{refused}");
}

#[test]
fn what_is_locked_is_opened_by_no_drill() {
    let (mut world, _, app, other) = world();
    let target = world.controller.lock_target("node:app-2").unwrap();
    let lock = crate::LockCommand::Set {
        target,
        keep: BTreeSet::new(),
        reason: "a test".into(),
        ttl: None,
    };
    world.admin(Command::Locks(lock)).unwrap();

    world.drill(app, other, 50_000).unwrap();

    assert!(!world.peers(app, "ledger").contains(&other));
}
