//! What time ends, and terms.

use ringfence_model::{Revision, UnixMillis};

use super::world::*;
use crate::{Actor, Command, Controller, Event, Refusal, Snapshot, TokenState};

/// [`database`] with a rule that ends at the start of 2024.
fn ending() -> String {
    database("ledger") + "expires = 2024-01-01T00:00:00Z\n"
}

const END: UnixMillis = UnixMillis(1_704_067_200_000);

#[test]
fn a_rule_that_expires_takes_its_peers_along() {
    let mut world = World::new();
    world.admin(apply(&ending())).unwrap();
    let db = world.enroll("db", "role=db");
    let app = world.enroll("app", "role=app");
    world.register(db, "ledger").unwrap();
    world.register(app, "ledger").unwrap();
    assert_eq!(world.controller.poll_timeout(), Some(END));
    assert_eq!(
        world.netmap(db).segments[&name("ledger")].rules[0].expires,
        Some(END)
    );

    world.wall = END;
    let change = world.system(Command::Tick).unwrap();

    assert!(matches!(&change.events[..], [Event::RulesExpired { rules, .. }] if rules.len() == 1));
    assert!(world.peers(db, "ledger").is_empty() && world.peers(app, "ledger").is_empty());
    assert_eq!(world.pushes.len(), 2);
    assert_eq!(world.controller.poll_timeout(), None);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
}

#[test]
fn a_rule_that_expires_just_before_another_change_takes_its_peers_along_all_the_same() {
    let mut world = World::new();
    world.admin(apply(&ending())).unwrap();
    let [db, app, other] = [("db", "role=db"), ("app", "role=app"), ("app-2", "role=app")]
        .map(|(called, labels)| world.enroll(called, labels));
    for node in [db, app, other] {
        world.register(node, "ledger").unwrap();
    }

    // The removal concerns neither db nor app in each other's eyes; what has expired does.
    world.wall = END;
    world.admin(Command::RemoveNode { node: other }).unwrap();
    let change = world.system(Command::Tick).unwrap();

    assert!(matches!(&change.events[..], [Event::RulesExpired { .. }]));
    let told: Vec<_> = world.pushes.iter().map(|push| push.node).collect();
    assert!(told.contains(&db) && told.contains(&app), "{told:?}");
    assert!(world.peers(db, "ledger").is_empty());
}

#[test]
fn a_clock_set_back_brings_no_rule_to_life() {
    let mut world = World::new();
    world.admin(apply(&ending())).unwrap();
    let db = world.enroll("db", "role=db");
    let app = world.enroll("app", "role=app");
    world.register(db, "ledger").unwrap();
    world.register(app, "ledger").unwrap();
    world.wall = END;
    world.system(Command::Tick).unwrap();

    world.wall = UnixMillis(END.0 - 1_000_000);
    world.enroll("app-2", "role=app");

    assert!(world.peers(db, "ledger").is_empty());
}

#[test]
fn a_token_expires_by_clock_and_by_tick() {
    let mut world = World::new();
    let token = world.token("role=db", 3);
    let ends = world.controller.token(token).unwrap().expires;
    assert_eq!(world.controller.poll_timeout(), Some(ends));

    world.wall = ends;
    assert!(matches!(
        world.join(token, "db").unwrap_err(),
        Refusal::TokenExpired { .. }
    ));
    let change = world.system(Command::Tick).unwrap();

    assert_eq!(change.events, [Event::TokenExpired { token, before: 3 }]);
    assert_eq!(world.controller.token(token).unwrap().state, TokenState::Expired);
    assert_eq!(world.controller.poll_timeout(), None);
    world.wall = UnixMillis(0);
    assert!(matches!(
        world.join(token, "db").unwrap_err(),
        Refusal::TokenExpired { .. }
    ));
}

#[test]
fn a_new_term_is_newer_than_all_before() {
    let (mut world, db, _) = World::with_database();
    let before = world.controller.revision();

    world.system(Command::StartTerm).unwrap();

    let after = world.controller.revision();
    assert_eq!(
        after,
        Revision {
            term: world.wall.0,
            n: before.n + 1
        }
    );
    assert_eq!(world.netmap(db).revision, after);
    assert_eq!(world.pushes.len(), 2, "every node is told");
}

#[test]
fn two_restores_of_one_backup_start_different_terms() {
    let (mut world, _, _) = World::with_database();
    let backup = world.controller.snapshot().to_bytes();
    let restored = || Controller::load(Some(Snapshot::from_bytes(&backup).unwrap()), []).unwrap();
    let first = start_term(&mut restored(), world.wall);

    world.wall = UnixMillis(world.wall.0 + 1);
    let second = start_term(&mut restored(), world.wall);

    assert!(second > first, "{second} is not newer than {first}");
}

#[test]
fn terms_go_up_whatever_the_clock_says() {
    let (mut world, _, _) = World::with_database();
    let mut last = world.controller.revision();
    for wall in [u64::MAX, 0, END.0, u64::MAX] {
        let next = start_term(&mut world.controller, UnixMillis(wall));
        assert!(next.term > last.term, "{next} is not newer than {last}");
        last = next;
    }
}

fn start_term(controller: &mut Controller, wall: UnixMillis) -> Revision {
    let actor = Actor::system("operator", "new-term");
    let change = controller
        .propose(&actor, Command::StartTerm, wall, [7; 32])
        .unwrap();
    controller.apply(&change).unwrap();
    controller.revision()
}
