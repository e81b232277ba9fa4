//! The log: what replays it, what notices that it was touched.

use ringfence_model::Revision;

use super::world::*;
use crate::{ApplyError, ChainError, Change, Command, Controller, LoadError, Snapshot, verify_chain};

#[test]
fn every_alteration_of_an_entry_is_noticed() {
    let (world, ..) = World::with_database();
    verify_chain(&world.log).unwrap();

    for place in 0..world.log.len() {
        let json = serde_json::to_string(&world.log[place]).unwrap();
        for (from, to) in [
            ("\"ada\"", "\"eve\""),
            ("1700000000000", "1700000000001"),
            ("role", "rule"),
            ("r1", "r9"),
        ] {
            let altered = json.replacen(from, to, 1);
            if altered == json {
                continue;
            }
            let mut log = world.log.clone();
            log[place] = serde_json::from_str(&altered).unwrap();
            let revision = log[place].revision;
            assert_eq!(verify_chain(&log), Err(ChainError::Altered { revision }));
        }
    }
}

#[test]
fn a_dropped_swapped_or_rehashed_entry_breaks_the_chain() {
    let (world, ..) = World::with_database();
    let broken = |log: &[Change]| matches!(verify_chain(log), Err(ChainError::Broken { .. }));

    let mut dropped = world.log.clone();
    dropped.remove(2);
    let mut swapped = world.log.clone();
    swapped.swap(2, 3);
    let mut rehashed = world.log.clone();
    rehashed[2].actor.name = "eve".into();
    rehashed[2].hash = rehashed[2].content_hash();
    let headless = world.log[1..].to_vec();

    assert!(broken(&dropped) && broken(&swapped) && broken(&rehashed) && broken(&headless));
}

#[test]
fn a_hash_stays_what_it_was() {
    // Entries on disk keep their hash for ever: if this fails, the format has changed.
    let world = World::new();

    assert_eq!(
        world.log[0].hash.to_string(),
        "8d82fc731e0b548b013cd0fca4fbeb9e3c5324b744d014d4dca57744f700d6d7"
    );
}

#[test]
fn an_entry_reads_back_as_written() {
    let (world, ..) = World::with_database();

    for change in &world.log {
        let json = serde_json::to_vec(change).unwrap();
        assert_eq!(serde_json::from_slice::<Change>(&json).unwrap(), *change);
    }
}

#[test]
fn a_snapshot_and_the_entries_after_it_give_the_same_controller() {
    let (mut world, db, app) = World::with_database();
    let snapshot = world.controller.snapshot().to_bytes();
    let mark = world.log.len();
    world.admin(relabel(app, "role=db", &[])).unwrap();

    let snapshot = Snapshot::from_bytes(&snapshot).unwrap();
    let loaded = Controller::load(Some(snapshot.clone()), &world.log[mark..]).unwrap();

    assert!(loaded.snapshot() == world.controller.snapshot());
    assert!(Controller::load(None, &world.log).unwrap().snapshot() == loaded.snapshot());
    assert_eq!(
        loaded.netmap(db, world.wall),
        world.controller.netmap(db, world.wall)
    );
    world.admin(relabel(app, "role=app", &[])).unwrap();
    assert!(
        Controller::load(Some(snapshot), &world.log[mark + 1..]).is_err(),
        "an entry is missing"
    );
    assert!(Controller::load(None, &world.log[1..]).is_err());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let mut world = World::new();
    let token = world.token("role=db", 1);
    let mut future = world.log[1].clone();
    future.format = 99;

    assert!(matches!(Controller::load(None, []), Err(LoadError::Empty)));
    assert!(matches!(
        Snapshot::from_bytes(b"{"),
        Err(LoadError::Unreadable(_))
    ));
    assert!(matches!(
        Snapshot::from_bytes(b"{\"format\":99,\"x\":0}"),
        Err(LoadError::Format(99))
    ));
    let loaded = Controller::load(None, [&world.log[0], &future]);
    let Err(LoadError::Apply(ApplyError::Chain(ChainError::Format { format: 99, .. }))) = loaded else {
        panic!("{loaded:?}");
    };
    world.join(token, "db").unwrap();
}

#[test]
fn a_change_is_applied_once_and_in_order() {
    let mut world = World::new();
    let change = world.admin(apply(&database("one"))).unwrap();
    let revision = world.controller.revision();

    assert!(world.controller.apply(&change).is_err());

    assert_eq!(world.controller.revision(), revision);
    assert!(revision > Revision::ZERO);
}

#[test]
fn an_entry_that_does_not_fit_changes_nothing() {
    let (mut world, db, _) = World::with_database();
    let actor = crate::Actor::admin("ada", "r");
    let removal = world
        .controller
        .propose(&actor, Command::RemoveNode { node: db }, world.wall, [1; 32]);
    let mut twice = removal.unwrap();
    twice.events.extend(twice.events.clone());
    twice.hash = twice.content_hash();
    let before = world.controller.state().clone();

    let refused = world.controller.apply(&twice);

    assert!(
        matches!(refused, Err(ApplyError::Impossible { .. })),
        "{refused:?}"
    );
    assert_eq!(*world.controller.state(), before);
}

#[test]
fn no_secret_is_in_the_log() {
    let (world, ..) = World::with_database();
    let json = serde_json::to_string(&world.log).unwrap();

    assert!(!json.contains(std::str::from_utf8(SECRET).unwrap()) && !json.contains(&hex::encode(SECRET)));
}
