//! A netmap that no message holds: the change that would make it is refused, and what takes away never is.

use std::time::Duration;

use ringfence_control::{NETMAP_WEIGHT_MAX, written_bytes};
use ringfence_model::NodeId;

use super::sessions::login;
use super::world::{World, apply, database, enrolled, identity, labels, name, relabel};
use crate::draft::Draft;
use crate::weight::weights;
use crate::{Actor, Command, Event, Node, PeopleCommand, Refusal, membership};

/// Apps reach apps by so many rules, each of as many services as a rule can have. A rule weighs some 2 kB.
fn wordy(perimeter: &str, rules: usize) -> Command {
    let services: Vec<String> = (0..64).map(|n| format!("\"tcp/{}-60000\"", 10_000 + n)).collect();
    let rule = format!(
        "[[allow]]\nfrom = \"app\"\nto = \"app\"\nports = [{}]\n",
        services.join(",")
    );
    let head = format!(
        "[perimeter]\nname = \"{perimeter}\"\nowners = [\"alice@example.com\"]\n[members]\napp = {{ nodes = \"role=app\" }}\n"
    );
    apply(&(head + &rule.repeat(rules)))
}

/// Four perimeters of apps, whose rules weigh some 5.5 MiB together.
fn wordy_mesh() -> World {
    let mut world = World::new();
    for perimeter in FOUR {
        world.admin(wordy(perimeter, 650)).unwrap();
    }
    world
}

/// Enrols past the check, as a controller before this one could have.
fn force(world: &mut World, called: &str) -> NodeId {
    let token = world.token("role=app", 1);
    let entropy = world.entropy();
    let mut draft = Draft::new(
        world.controller.state(),
        &Actor::system("old", "r9"),
        world.wall,
        entropy,
    );
    let id = draft.draw_member_id();
    let node = Node {
        id,
        name: name(called),
        labels: labels("role=app"),
        identity: identity(called),
        enrolled_at: world.wall,
        admission: crate::Admission::Token { token },
        certificate: None,
        perimeters: std::collections::BTreeSet::new(),
        source: None,
    };
    draft.record(Event::NodeEnrolled { node });
    membership::settle_node(&mut draft, id).unwrap();
    let change = draft.seal(world.controller.state(), "node.enroll").unwrap();
    world.controller.apply(&change).unwrap();
    id
}

#[test]
fn a_file_that_makes_a_node_too_heavy_is_refused_and_with_fewer_rules_passes() {
    let mut world = wordy_mesh();
    let app = world.enroll("app-7", "role=app");
    world.enroll("app-8", "role=app");
    let before = world.controller.revision();

    let refused = world.admin(wordy("fifth", 650)).unwrap_err();

    let Refusal::TooHeavy {
        node,
        perimeter,
        file,
        bytes,
    } = &refused
    else {
        panic!("{refused:?}")
    };
    assert!(["app-7", "app-8"].contains(&node.as_str()), "{node}");
    assert_eq!((perimeter.as_str(), file.as_str()), ("fifth", "policy.toml"));
    assert!(*bytes > NETMAP_WEIGHT_MAX, "{bytes}");
    let told = refused.to_string();
    for part in [node.as_str(), "fifth", "policy.toml", "6144", "narrow", "split"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(world.controller.revision(), before, "nothing of it has happened");

    world.admin(wordy("fifth", 100)).unwrap();
    let (netmap, too_long) = world.netmap(app).or_closed();
    assert_eq!((netmap.segments.len(), too_long), (5, None));
}

#[test]
fn rules_weigh_nothing_until_there_is_somebody_they_are_about() {
    let mut world = wordy_mesh();

    world.admin(wordy("fifth", 650)).unwrap();

    let token = world.token("role=app", 2);
    world.join(token, "alone").unwrap();
    let refused = world.join(token, "app").unwrap_err();
    assert!(matches!(refused, Refusal::TooHeavy { .. }), "{refused:?}");
    let other = world.enroll("other", "role=other");
    let refused = world.admin(relabel(other, "role=app", &[])).unwrap_err();
    assert!(matches!(refused, Refusal::TooHeavy { .. }), "{refused:?}");
    assert!(world.netmap(other).segments.is_empty());
}

#[test]
fn enrolment_of_one_too_many_is_refused_and_one_that_goes_makes_room() {
    let mut world = wordy_mesh();
    let app = world.enroll("app", "role=app");
    world.enroll("twin", "role=app");
    for perimeter in FOUR {
        world.register(app, perimeter).unwrap();
    }
    world.admin(wordy("fifth", 1)).unwrap();
    let first = written_bytes(&world.netmap(app));
    world.admin(wordy("fifth", 2)).unwrap();
    let second = written_bytes(&world.netmap(app));
    // A peer in five perimeters weighs less than a kilobyte.
    let rules = 2 + (NETMAP_WEIGHT_MAX - second - 10_000) / (second - first);
    world.admin(wordy("fifth", rules)).unwrap();
    let token = world.token("role=app", 100);

    let mut admitted = Vec::new();
    let refused = loop {
        match world.join(token, &format!("app-{}", admitted.len())) {
            Ok(change) => admitted.push(enrolled(&change)),
            Err(refused) => break refused,
        }
        for perimeter in FOUR.into_iter().chain(["fifth"]) {
            world.register(*admitted.last().unwrap(), perimeter).unwrap();
        }
    };

    assert!(matches!(refused, Refusal::TooHeavy { .. }), "{refused:?}");
    assert!((3..30).contains(&admitted.len()), "{}", admitted.len());
    let weight = written_bytes(&world.netmap(app));
    assert!(
        (NETMAP_WEIGHT_MAX - 6_000..=NETMAP_WEIGHT_MAX).contains(&weight),
        "as many as fit, and no more: {weight}"
    );
    let goes = Command::RemoveNode { node: admitted[0] };
    world.admin(goes).unwrap();
    world.join(token, "late").unwrap();
}

#[test]
fn what_takes_away_is_never_refused_and_a_heavy_node_is_in_nobodys_way() {
    let mut world = wordy_mesh();
    world.admin(wordy("fifth", 650)).unwrap();
    let heavy = force(&mut world, "heavy");
    force(&mut world, "stays");
    let (gone, relabelled) = (force(&mut world, "gone"), force(&mut world, "relabelled"));
    assert!(world.netmap(heavy).or_closed().1.is_some());

    let one_more = world.admin(wordy("fifth", 651)).unwrap_err();
    assert!(matches!(one_more, Refusal::TooHeavy { .. }), "{one_more:?}");
    world
        .admin(apply(&database("ledger").replace("role=app", "role=web")))
        .unwrap();
    world.admin(relabel(heavy, "floor=3", &[])).unwrap();
    world.enroll("elsewhere", "role=db");

    world.admin(relabel(relabelled, "", &["role"])).unwrap();
    world.admin(Command::RemoveNode { node: gone }).unwrap();
    world.admin(wordy("fifth", 649)).unwrap();
    assert!(
        world.netmap(heavy).or_closed().1.is_some(),
        "lighter, and still too heavy"
    );
    let removed = Command::RemovePerimeter { name: name("fifth") };
    world.admin(removed).unwrap();
    assert_eq!(world.netmap(heavy).or_closed().1, None);
}

/// Someone logs in at a node, who has just proved a second factor.
fn log_in(world: &mut World, node: NodeId, number: usize) {
    let mut login = login(&format!("user-{number}"), world.wall);
    login.mfa_at = Some(world.wall);
    let length = Duration::from_hours(12);
    let started = PeopleCommand::StartSession { node, login, length };
    world.system(Command::People(started)).unwrap();
}

#[test]
fn a_rule_that_ends_for_each_apart_weighs_the_same_whoever_is_there_and_that_is_what_is_written_at_worst() {
    let mut world = World::new();
    let once = "[[allow]]\nfrom = \"app\"\nto = \"db\"\nports = [\"tcp/22\"]\n";
    let factor = "require = { mfa = \"8h\" }\n";
    world
        .admin(apply(&format!("{}{factor}{once}{factor}", database("ledger"))))
        .unwrap();
    let db = world.enroll("db", "role=db");
    world.register(db, "ledger").unwrap();
    let apps: Vec<NodeId> = (0..APPS)
        .map(|number| world.enroll(&format!("app-{number}"), "role=app"))
        .collect();
    for app in &apps {
        world.register(*app, "ledger").unwrap();
    }
    let weighed = weights(&world.controller, db).unwrap();
    assert!(written_bytes(&world.netmap(db)) < 1_000, "nobody is there");

    for (number, app) in apps.iter().enumerate() {
        world.pass(Duration::from_secs(1));
        log_in(&mut world, *app, number);
    }
    assert_eq!(weights(&world.controller, db), Some(weighed));
    let apart = world.netmap(db);
    assert_eq!(apart.segments[&name("ledger")].rules.len(), 2 * APPS);
    let real = written_bytes(&apart);
    let [by_seats, by_groups, written, _] = weighed;
    assert!(
        real <= written && written <= by_groups && by_groups <= by_seats,
        "{real}, {weighed:?}"
    );
    // Each part is weighed as a list of its own, and the group as a whole besides, which nobody is told.
    assert!(written < real * 4 / 3, "{real}, {weighed:?}");

    for (number, app) in apps.iter().enumerate() {
        log_in(&mut world, *app, number);
    }
    assert_eq!(weights(&world.controller, db), Some(weighed));
    let together = world.netmap(db);
    assert_eq!(together.segments[&name("ledger")].rules.len(), 2);
    assert!(written_bytes(&together) < real);
}

/// In the perimeter of those that a rule ends for one by one.
const APPS: usize = 40;
const FOUR: [&str; 4] = ["first", "second", "third", "fourth"];
