//! What an owner may shut.

use std::collections::BTreeSet;

use super::world::*;
use crate::{Change, Command, Event, LockCommand, LockEvent, LockTarget, Refusal};

#[test]
fn an_owner_shuts_their_perimeter_and_opens_it_again_and_nothing_that_others_shut() {
    let (mut world, ..) = World::with_two();
    let alice = world.owner_of("ledger", "alice@example.com");
    let set = |target| {
        Command::Locks(LockCommand::Set {
            target,
            keep: BTreeSet::new(),
            reason: String::new(),
            ttl: None,
        })
    };
    let perimeter = |of: &str| LockTarget::Perimeter { perimeter: name(of) };
    let lock_of = |change: Change| match &change.events[..] {
        [Event::Locks(LockEvent::LockSet { lock })] => lock.id,
        other => panic!("{other:?}"),
    };
    let lift = |lock| Command::Locks(LockCommand::Lift { lock });

    let own = lock_of(world.ask(&alice, set(perimeter("ledger"))).unwrap());
    assert_eq!(
        world.ask(&alice, set(perimeter("vault"))).unwrap_err(),
        Refusal::NoPerimeter(name("vault"))
    );
    let refused = world.ask(&alice, set(LockTarget::User { user: "x".into() }));
    assert!(
        matches!(refused, Err(Refusal::NotPermitted { .. })),
        "{refused:?}"
    );
    let of_admin = lock_of(world.admin(set(perimeter("ledger"))).unwrap());
    let refused = world.ask(&alice, lift(of_admin));
    assert!(
        matches!(refused, Err(Refusal::NotPermitted { .. })),
        "{refused:?}"
    );
    let elsewhere = lock_of(world.admin(set(perimeter("vault"))).unwrap());
    assert_eq!(
        world.ask(&alice, lift(elsewhere)).unwrap_err(),
        Refusal::NoLock(elsewhere)
    );
    world.ask(&alice, lift(own)).unwrap();
}
