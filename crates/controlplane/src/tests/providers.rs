//! Identity providers come and go, by administrators alone.

use super::world::*;
use crate::provider::tests::provider;
use crate::{Actor, Command, Controller, ProviderCommand, Refusal};

fn remove() -> Command {
    Command::Provider(ProviderCommand::Remove { name: name("corp") })
}

fn add() -> Command {
    Command::Provider(ProviderCommand::Add { provider: provider() })
}

#[test]
fn a_provider_is_there_from_its_entry_on_until_it_is_removed() {
    let mut world = World::new();

    world.admin(add()).unwrap();
    assert_eq!(world.controller.provider(&name("corp")), Some(&provider()));
    assert_eq!(world.admin(add()), Err(Refusal::ProviderTaken(name("corp"))));
    let replayed = Controller::load(None, &world.log).unwrap();
    assert_eq!(replayed.providers().count(), 1);

    world.admin(remove()).unwrap();
    assert_eq!(world.controller.providers().count(), 0);
    assert_eq!(world.admin(remove()), Err(Refusal::NoProvider(name("corp"))));
}

#[test]
fn nobody_but_an_administrator_says_whose_word_counts() {
    let (mut world, db, _) = World::with_database();

    for actor in [Actor::node(db, "r"), Actor::system("clock", "r")] {
        for command in [add(), remove()] {
            let refused = world.ask(&actor, command).unwrap_err();
            assert!(matches!(refused, Refusal::NotPermitted { .. }), "{refused}");
        }
    }
}
