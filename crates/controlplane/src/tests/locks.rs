//! Quarantine and locks.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_control::api;
use ringfence_model::NodeId;

use super::sessions::login;
use super::world::*;
use crate::limit::LOCK_REASON_BYTES_MAX;
use crate::{
    Actor, Change, Command, Controller, Event, LockCommand, LockEvent, LockTarget, LockTargetError,
    PeopleCommand, PeopleEvent, Refusal, SessionEnd,
};

impl World {
    /// Locks what a text says, but for those kept.
    fn lock(&mut self, text: &str, keep: &[NodeId], ttl: Option<Duration>) -> Result<Change, Refusal> {
        let command = self.locking(text, keep, ttl);
        self.admin(command)
    }

    fn locking(&self, text: &str, keep: &[NodeId], ttl: Option<Duration>) -> Command {
        Command::Locks(LockCommand::Set {
            target: self.controller.lock_target(text).unwrap(),
            keep: keep.iter().copied().collect(),
            reason: "a test".into(),
            ttl,
        })
    }

    fn lift_all(&mut self) {
        let locks: Vec<_> = self.controller.locks().map(|lock| lock.id).collect();
        for lock in locks {
            self.admin(Command::Locks(LockCommand::Lift { lock })).unwrap();
        }
    }

    /// With a second application in it, which is the one to keep.
    fn with_forensics() -> (Self, NodeId, NodeId, NodeId) {
        let (mut world, db, app) = Self::with_database();
        let forensics = world.enroll("forensics", "role=app");
        world.register(forensics, "ledger").unwrap();
        (world, db, app, forensics)
    }
}

#[test]
fn a_quarantined_node_keeps_its_place_and_talks_to_those_kept_alone() {
    let (mut world, db, app, forensics) = World::with_forensics();
    let before = world.netmap(db);

    let change = world.lock("node:db", &[forensics], None).unwrap();

    let after = world.netmap(db);
    let (was, is) = (
        &before.segments[&name("ledger")],
        &after.segments[&name("ledger")],
    );
    assert_eq!((was.public_key, was.addresses), (is.public_key, is.addresses));
    assert_eq!(world.peers(db, "ledger"), [forensics]);
    assert_eq!(world.peers(forensics, "ledger"), [db]);
    assert_eq!(world.peers(app, "ledger"), []);
    assert_eq!(is.rules.len(), 1, "{:?}", is.rules);
    let told: BTreeSet<NodeId> = world.pushes.iter().map(|push| push.node).collect();
    assert!(told.is_superset(&BTreeSet::from([db, app])), "{told:?}");
    assert!(matches!(
        &change.events[..],
        [Event::Locks(LockEvent::LockSet { .. })]
    ));
    assert_eq!(
        world.controller.node_view(db).unwrap().locks[0].keep,
        [name("forensics")]
    );

    world.lift_all();

    assert_eq!(world.netmap(db).segments, before.segments);
    assert_eq!(world.controller.node_view(db).unwrap().locks, []);
}

#[test]
fn of_several_locks_each_counts() {
    let (mut world, db, app, forensics) = World::with_forensics();
    world.lock("node:db", &[forensics, app], None).unwrap();
    let first = world.controller.locks().next().unwrap().id;
    world.lock("label:role=db", &[forensics], None).unwrap();

    assert_eq!(world.peers(db, "ledger"), [forensics]);
    world.lock("node:forensics", &[db], None).unwrap();
    assert_eq!(world.peers(db, "ledger"), [], "who is locked is kept by nobody");
    world
        .admin(Command::Locks(LockCommand::Lift { lock: first }))
        .unwrap();
    assert_eq!(world.peers(db, "ledger"), [], "two are left");
    world.lift_all();
    assert_eq!(
        world.peers(db, "ledger"),
        [app, forensics]
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_locked_perimeter_or_label_opens_nothing_also_to_who_comes_later() {
    for text in ["perimeter:ledger", "label:role=db"] {
        let (mut world, db, app) = World::with_database();
        world.lock(text, &[], None).unwrap();
        assert!(world.peers(db, "ledger").is_empty() && world.peers(app, "ledger").is_empty());

        let late = world.enroll("db-2", "role=db");
        world.register(late, "ledger").unwrap();
        assert_eq!(world.peers(late, "ledger"), [], "{text}");
        world
            .admin(apply(&database("ledger").replace("5432", "5433")))
            .unwrap();
        assert_eq!(world.peers(app, "ledger"), [], "{text}");

        world.lift_all();
        assert_eq!(world.peers(app, "ledger").len(), 2, "{text}");
    }
}

#[test]
fn a_perimeter_that_is_removed_and_made_again_is_still_locked() {
    let (mut world, _, app) = World::with_database();
    world.lock("perimeter:ledger", &[], None).unwrap();
    world
        .admin(Command::RemovePerimeter { name: name("ledger") })
        .unwrap();
    world.admin(apply(&database("ledger"))).unwrap();

    assert_eq!(world.peers(app, "ledger"), []);
    assert_eq!(
        world
            .controller
            .compiled(&name("ledger"))
            .unwrap()
            .openings()
            .len(),
        0
    );
}

#[test]
fn a_lock_ends_by_itself_at_its_moment_and_once() {
    let (mut world, db, app) = World::with_database();
    let ttl = Duration::from_mins(5);
    world.lock("node:db", &[], Some(ttl)).unwrap();
    assert_eq!(
        world.controller.poll_timeout(),
        Some(world.wall.saturating_add(ttl))
    );
    world.pass(Duration::from_millis(299_999));
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);

    world.pass(Duration::from_millis(1));
    let change = world.system(Command::Tick).unwrap();

    assert!(matches!(
        &change.events[..],
        [Event::Locks(LockEvent::LockExpired { .. })]
    ));
    assert_eq!(world.peers(db, "ledger"), [app]);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
}

#[test]
fn a_locked_person_is_out_under_any_name_and_logs_in_nowhere() {
    let mut world = World::new();
    let laptop = world.enroll("laptop", "");
    let start = |world: &World, name: &str| {
        let login = crate::VerifiedLogin {
            name: name.into(),
            email: Some(name.into()),
            ..login("alice", world.wall)
        };
        Command::People(PeopleCommand::StartSession {
            node: laptop,
            login,
            length: Duration::from_hours(1),
        })
    };
    let first = start(&world, "alice@example.com");
    world.system(first.clone()).unwrap();

    let change = world.lock("user:Alice@Example.com", &[], None).unwrap();

    let ended = change.events.iter().any(|event| match event {
        Event::People(event) => matches!(
            event.as_ref(),
            PeopleEvent::SessionEnded {
                cause: SessionEnd::Locked,
                ..
            }
        ),
        _ => false,
    });
    assert!(ended && world.controller.sessions().count() == 0);
    for name in ["alice@example.com", "mallory@example.com"] {
        let refused = world.system(start(&world, name)).unwrap_err();
        assert!(
            matches!(refused, Refusal::UserLocked(_)) && refused.is_auditable(),
            "{name}: {refused}"
        );
    }
    world.lift_all();
    world.system(first).unwrap();
}

#[test]
fn a_locked_token_admits_nobody_and_says_so_to_who_has_its_secret_alone() {
    let mut world = World::new();
    let token = world.token("role=db", 2);
    world.lock(&format!("token:{token}"), &[], None).unwrap();

    assert_eq!(
        world.join(token, "db").unwrap_err(),
        Refusal::TokenLocked { token }
    );
    let forged = world.ask(&Actor::token(token, "r"), enroll(token, b"wrong", "db"));
    assert_eq!(forged.unwrap_err(), Refusal::TokenForged { token });
    world.lift_all();
    world.join(token, "db").unwrap();
}

#[test]
fn what_goes_for_good_takes_its_locks_along() {
    let (mut world, db, _) = World::with_database();
    world.lock("node:db", &[], None).unwrap();
    world.admin(Command::RemoveNode { node: db }).unwrap();
    assert_eq!(world.controller.locks().count(), 0);
}

#[test]
fn what_cannot_be_locked_is_refused() {
    let (mut world, db, app) = World::with_database();
    let target = |text: &str| world.controller.lock_target(text);
    assert!(matches!(target("db"), Err(LockTargetError::Shape(_))));
    assert!(matches!(target("host:db"), Err(LockTargetError::Shape(_))));
    assert!(matches!(target("node:nobody"), Err(LockTargetError::Nobody(_))));
    assert!(matches!(
        target("perimeter:A"),
        Err(LockTargetError::Perimeter(..))
    ));
    assert!(matches!(target("label:role"), Err(LockTargetError::Label(_))));
    assert!(matches!(target("token:x"), Err(LockTargetError::Token(_))));

    assert_eq!(
        world.lock("node:db", &[db], None).unwrap_err(),
        Refusal::KeepsItself
    );
    assert_eq!(
        world.lock("user:alice", &[db], None).unwrap_err(),
        Refusal::KeepsNobody
    );
    assert_eq!(
        world.lock("node:db", &[NodeId(7)], None).unwrap_err(),
        Refusal::NoNode(NodeId(7))
    );
    assert_eq!(
        world.lock("node:db", &[], Some(Duration::ZERO)).unwrap_err(),
        Refusal::LockTtl
    );
    let long = Command::Locks(LockCommand::Set {
        target: LockTarget::Node { node: db },
        keep: BTreeSet::new(),
        reason: "x".repeat(LOCK_REASON_BYTES_MAX + 1),
        ttl: None,
    });
    assert!(matches!(world.admin(long), Err(Refusal::Limit { .. })));
    let by_node = world.locking("node:db", &[], None);
    let refused = world.ask(&Actor::node(app, "r"), by_node).unwrap_err();
    assert!(matches!(refused, Refusal::NotPermitted { .. }));
}

#[test]
fn locks_come_back_from_the_log_and_are_said_in_explanations() {
    let (mut world, db, app, forensics) = World::with_forensics();
    world.lock("node:db", &[forensics], None).unwrap();
    let replayed = Controller::load(None, &world.log).unwrap();
    let ask = |from: &str| {
        let request = api::ExplainRequest {
            from: from.into(),
            to: "db".into(),
            service: "tcp/5432".parse().unwrap(),
            perimeter: None,
            as_if: None,
            at_ms: None,
        };
        replayed.explain(&request, world.wall).unwrap()
    };

    assert_eq!(replayed.state(), world.controller.state());
    assert_eq!(
        replayed.netmap(db, world.wall),
        world.controller.netmap(db, world.wall)
    );
    let denied = ask("app");
    assert_eq!(denied.verdict, api::Verdict::Deny);
    assert!(denied.perimeters[0].reason.contains("db is locked"), "{denied:?}");
    assert!(denied.perimeters[0].missing.is_empty(), "{denied:?}");
    assert_eq!(ask("forensics").verdict, api::Verdict::Allow);
    let flows = world.controller.compiled(&name("ledger")).unwrap().openings();
    assert!(flows.iter().all(|opening| opening.from != app));
}
