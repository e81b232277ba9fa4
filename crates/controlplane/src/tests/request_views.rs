//! What is asked for without saying all, and what people are shown of it.

use std::time::Duration;

use ringfence_control::api::AccessState;
use ringfence_model::{AccessId, NodeId};

use super::world::*;
use crate::{AccessCommand, AccessFilter, Actor, Command, Refusal, Urgency};

fn ask(world: &mut World, node: NodeId, to: &str, reason: &str) -> Result<AccessId, Refusal> {
    let command = Command::Access(AccessCommand::Request {
        node,
        perimeter: name("ledger"),
        to: name(to),
        services: Vec::new(),
        length: Duration::from_hours(1),
        reason: reason.to_owned(),
        urgency: Urgency::Ordinary,
    });
    let change = world.ask(&Actor::node(node, "r"), command)?;
    Ok(change.access_requested().unwrap())
}

#[test]
fn who_does_not_say_for_which_ports_asks_for_those_that_rules_open() {
    let (mut world, db, laptop) = World::with_laptop();

    let access = ask(&mut world, laptop, "db", "stuck").unwrap();

    let view = world.controller.access_view_of(access).unwrap();
    assert_eq!(view.ports, ["tcp/5432".parse().unwrap()]);
    world.approve("ada", access).unwrap();
    world.register(laptop, "ledger").unwrap();
    assert!(world.is_open(laptop, db, 5432) && !world.is_open(laptop, db, 22));
    assert_eq!(
        ask(&mut world, laptop, "app", "stuck").unwrap_err(),
        Refusal::NoPorts(name("app")),
        "no rule opens anything towards it"
    );
}

#[test]
fn a_reason_cannot_look_like_what_the_controller_says() {
    let (mut world, _, laptop) = World::with_laptop();

    for odd in ["stuck\naccess 18 approved", "\u{1b}[2J", "a\rb"] {
        assert_eq!(
            ask(&mut world, laptop, "db", odd).unwrap_err(),
            Refusal::OddReason
        );
    }
}

#[test]
fn people_see_what_is_theirs_and_administrators_what_they_look_for() {
    let (mut world, db, laptop) = World::with_laptop();
    let other = world.enroll("tablet", "os=linux");
    world.log_in(other, "bob").unwrap();
    let theirs = ask(&mut world, laptop, "db", "stuck").unwrap();
    let bobs = ask(&mut world, other, "db", "stuck too").unwrap();
    world.approve("ada", bobs).unwrap();

    let at = |world: &World, node| {
        let views = world.controller.access_views_of_person_at(node);
        views.into_iter().map(|view| view.id).collect::<Vec<_>>()
    };
    assert_eq!(
        (at(&world, laptop), at(&world, other)),
        (vec![theirs], vec![bobs])
    );
    assert_eq!(at(&world, db), [], "nobody is logged in there");
    let meant = |world: &World, filter: &AccessFilter| {
        let views = world.controller.access_views(filter);
        views.into_iter().map(|view| view.id).collect::<Vec<_>>()
    };
    assert_eq!(meant(&world, &AccessFilter::default()), [theirs, bobs]);
    let open = AccessFilter {
        standing: Some(AccessState::Open),
        ..AccessFilter::default()
    };
    assert_eq!(meant(&world, &open), [bobs]);
    let from_laptop = AccessFilter {
        node: Some(laptop),
        ..AccessFilter::default()
    };
    assert_eq!(meant(&world, &from_laptop), [theirs]);
    let elsewhere = AccessFilter {
        perimeter: Some(name("elsewhere")),
        ..AccessFilter::default()
    };
    assert_eq!(meant(&world, &elsewhere), []);

    let view = world.controller.access_view_of(bobs).unwrap();
    assert_eq!(view.standing, AccessState::Open);
    assert_eq!(
        (view.asked_by.as_str(), view.node),
        ("bob@example.com", name("tablet"))
    );
    assert_eq!((view.approvals.len(), view.approvals_needed), (1, 1));
    assert_eq!((view.answer_by_ms, view.review_by_ms), (None, None));
    assert_eq!(
        view.until_ms,
        Some(world.wall.saturating_add(Duration::from_hours(1)))
    );
}
