//! Nodes that mute the controller: their peers close to them when their lease ends.

use std::time::Duration;

use ringfence_model::NodeId;

use super::presence::connect;
use super::world::*;
use crate::{Change, Command, Controller, Event, LapseEvent, Refusal, Snapshot};

impl World {
    /// With a database and an app that are connected, and the lease they have.
    fn with_connected_database() -> (Self, NodeId, NodeId, Duration) {
        let (mut world, db, app) = Self::with_database();
        world.controller.begin(world.wall);
        connect(&mut world, db, 1);
        connect(&mut world, app, 2);
        let lease = world.controller.policy(&name("ledger")).unwrap().lease;
        (world, db, app, lease)
    }

    /// As the shell does: a tick when one is due, and not before.
    fn tick_if_due(&mut self) -> Option<Change> {
        let due = self.controller.poll_timeout();
        if due.is_none_or(|due| due > self.wall) {
            assert_eq!(self.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
            return None;
        }
        Some(self.system(Command::Tick).unwrap())
    }
}

fn lapses(change: &Change) -> Vec<&LapseEvent> {
    let lapses = change.events.iter().filter_map(|event| match event {
        Event::Lapse(event) => Some(event),
        _ => None,
    });
    lapses.collect()
}

#[test]
fn who_is_silent_for_its_lease_is_nobodys_peer_until_it_is_back() {
    let (mut world, db, app, lease) = World::with_connected_database();
    world.pass(lease * 3);
    assert!(world.tick_if_due().is_none(), "both are connected");

    world.controller.disconnected(app, 2, world.wall);
    world.pass(lease.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(world.tick_if_due().is_none());
    assert_eq!(world.peers(db, "ledger"), [app]);

    world.pass(Duration::from_millis(1));
    let change = world.tick_if_due().expect("its lease is over");
    let expected = LapseEvent::MembersLapsed {
        perimeter: name("ledger"),
        nodes: vec![app],
    };
    assert_eq!(lapses(&change), [&expected]);
    assert!(world.peers(db, "ledger").is_empty());
    assert!(
        world.pushes.iter().any(|push| push.node == db),
        "its peer is told"
    );
    assert!(world.tick_if_due().is_none(), "it is said once");

    connect(&mut world, app, 3);
    let change = world.tick_if_due().expect("it is back");
    let expected = LapseEvent::MembersReturned {
        perimeter: name("ledger"),
        nodes: vec![app],
    };
    assert_eq!(lapses(&change), [&expected]);
    assert_eq!(world.peers(db, "ledger"), [app]);
    assert_eq!(world.peers(app, "ledger"), [db]);
}

#[test]
fn who_comes_back_in_time_has_missed_nothing() {
    let (mut world, db, app, lease) = World::with_connected_database();
    for round in 0..3 {
        world.controller.disconnected(app, 2 + round, world.wall);
        world.pass(lease / 2);
        connect(&mut world, app, 3 + round);
        assert!(world.tick_if_due().is_none());
    }
    assert_eq!(world.peers(db, "ledger"), [app]);
}

#[test]
fn a_restarted_controller_gives_everyone_a_lease_to_come_back_and_remembers_who_had_lapsed() {
    let (mut world, db, app, lease) = World::with_connected_database();
    let late = world.enroll("late", "role=app");
    world.register(late, "ledger").unwrap();
    connect(&mut world, late, 3);
    world.controller.disconnected(late, 3, world.wall);
    world.pass(lease);
    world.tick_if_due().unwrap();

    let stored = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    world.controller = Controller::load(Some(stored), &[]).unwrap();
    world.controller.begin(world.wall);
    assert_eq!(world.peers(db, "ledger"), [app], "as before");

    connect(&mut world, db, 4);
    world.pass(lease);
    let change = world.tick_if_due().unwrap();
    let expected = LapseEvent::MembersLapsed {
        perimeter: name("ledger"),
        nodes: vec![app],
    };
    assert_eq!(lapses(&change), [&expected]);
    assert!(world.peers(db, "ledger").is_empty());
}

#[test]
fn a_lease_that_an_administrator_shortens_counts_for_who_is_silent_already() {
    let (mut world, db, app, lease) = World::with_connected_database();
    world.controller.disconnected(app, 2, world.wall);
    world.pass(Duration::from_secs(20));
    assert!(lease > Duration::from_secs(20));
    assert!(world.tick_if_due().is_none());

    let shorter = database("ledger").replace("[members]", "lease = \"20s\"\n[members]");
    world.admin(apply(&shorter)).unwrap();

    world.tick_if_due().expect("it was silent for as long");
    assert!(world.peers(db, "ledger").is_empty());
}

#[test]
fn who_has_no_key_or_is_no_member_does_not_lapse() {
    let (mut world, _, app, lease) = World::with_connected_database();
    world.enroll("bare", "role=app");
    world.enroll("stranger", "role=printer");
    world.pass(lease * 2);
    assert!(world.tick_if_due().is_none());

    world.admin(relabel(app, "role=printer", &[])).unwrap();
    world.controller.disconnected(app, 2, world.wall);
    world.pass(lease * 2);
    assert!(world.tick_if_due().is_none());
}
