//! Policy files: applied whole or not at all, tested by their own expectations, removed everywhere.

use super::world::*;
use crate::{Actor, ApplyOptions, Command, Event, Refusal};

#[test]
fn an_apply_is_all_files_or_none() {
    let mut world = World::new();
    let command = Command::ApplyPerimeters {
        files: vec![
            file(&database("one")),
            file("[perimeter]\nnmae = \"two\"\n"),
            file("oops"),
        ],
        prune: false,
        base: None,
    };

    let Refusal::Policy(found) = world.admin(command).unwrap_err() else {
        panic!("not refused for its policy");
    };

    assert!(found.len() >= 2, "all errors of all files are told: {found:?}");
    assert_eq!(world.controller.perimeter_names().count(), 0);
    assert_eq!(world.log.len(), 1);
}

#[test]
fn two_files_for_one_perimeter_are_refused() {
    let mut world = World::new();
    let command = Command::ApplyPerimeters {
        files: vec![file(&database("one")), file(&database("one"))],
        prune: false,
        base: None,
    };

    assert!(world.admin(command).unwrap_err().to_string().contains("also in"));
}

#[test]
fn a_failing_expectation_refuses_the_file() {
    let (mut world, db, app) = World::with_database();
    let opens_too_much = database("ledger").replace(r#"["tcp/5432"]"#, r#"["any"]"#)
        + "[[expect]]\nfrom = \"app\"\nto = \"db\"\nport = \"tcp/22\"\nverdict = \"deny\"\n";

    let Refusal::Policy(found) = world.admin(apply(&opens_too_much)).unwrap_err() else {
        panic!("not refused for its policy");
    };

    assert_eq!(found.len(), 1);
    assert!(found[0].line > 0 && found[0].file == "policy.toml");
    let rules = &world.netmap(db).segments[&name("ledger")].rules;
    assert_eq!(rules[0].services.len(), 1);
    assert_eq!(world.peers(db, "ledger"), [app]);
}

#[test]
fn a_stale_base_is_refused_and_unrelated_changes_do_not_make_one() {
    let mut world = World::new();
    world.admin(apply(&database("one"))).unwrap();
    let base = world.controller.revision();
    world.enroll("db", "role=db");
    let with_base = |text: &str, base| Command::ApplyPerimeters {
        files: vec![file(text)],
        prune: false,
        base: Some(base),
    };

    world.admin(with_base(&database("two"), base)).unwrap();
    let stale = world.admin(with_base(&database("three"), base)).unwrap_err();
    let future = world.controller.revision().next();
    let unborn = world.admin(with_base(&database("three"), future)).unwrap_err();

    assert!(matches!(stale, Refusal::Stale { base: b, .. } if b == base));
    assert!(matches!(unborn, Refusal::FutureBase { .. }));
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let mut world = World::new();
    world.admin(apply(&database("one"))).unwrap();

    assert_eq!(
        world.admin(apply(&database("one"))).unwrap_err(),
        Refusal::Unchanged
    );
}

#[test]
fn a_removed_perimeter_closes_everywhere() {
    let (mut world, db, app) = World::with_database();
    let before = world.netmap(db).segments[&name("ledger")].clone();

    world
        .admin(Command::RemovePerimeter { name: name("ledger") })
        .unwrap();

    assert!(world.netmap(db).segments.is_empty() && world.netmap(app).segments.is_empty());
    let told: Vec<_> = world.pushes.iter().map(|push| push.node).collect();
    assert!(told.contains(&db) && told.contains(&app));
    // One of the same name is another perimeter: other prefixes, and every key is asked for anew.
    world.admin(apply(&database("ledger"))).unwrap();
    let after = world.netmap(db).segments[&name("ledger")].clone();
    assert_ne!(after.prefixes.v6, before.prefixes.v6);
    assert_ne!(after.prefixes.v4, before.prefixes.v4);
    assert_eq!(after.public_key, None);
    world
        .register_key(db, "ledger", before.public_key.unwrap())
        .unwrap();
}

#[test]
fn prune_removes_what_no_file_names() {
    let mut world = World::new();
    world.admin(apply(&database("one"))).unwrap();
    world.admin(apply(&database("two"))).unwrap();

    let plan = world.controller.plan_apply(
        &Actor::admin("ada", "r"),
        vec![file(&database("two"))],
        ApplyOptions {
            prune: true,
            base: None,
        },
        world.wall,
    );
    let plan = plan.unwrap();
    world.controller.apply(&plan.change.unwrap()).unwrap();

    assert_eq!(plan.report.removed, [name("one")]);
    assert_eq!(
        world.controller.perimeter_names().collect::<Vec<_>>(),
        [&name("two")]
    );
}

#[test]
fn a_plan_tells_which_flows_open_and_close_and_changes_nothing() {
    let (mut world, db, _) = World::with_database();
    let before = world.controller.revision();
    let other_port = database("ledger").replace("5432", "5433");
    let actor = Actor::admin("ada", "r");

    let plan = world.controller.plan_apply(
        &actor,
        vec![file(&other_port)],
        ApplyOptions::default(),
        world.wall,
    );

    let flows: Vec<String> = plan
        .unwrap()
        .report
        .changes
        .iter()
        .map(|flow| format!("{:?} {}->{} {}", flow.change, flow.from, flow.to, flow.service))
        .collect();
    assert_eq!(flows, ["Closes app->db tcp/5432", "Opens app->db tcp/5433"]);
    assert_eq!(world.controller.revision(), before);
    let removal = Command::RemoveNode { node: db };
    let change = world
        .controller
        .propose(&actor, removal.clone(), world.wall, [1; 32])
        .unwrap();
    assert_eq!(world.controller.flow_changes(&change).listed.len(), 1);
    world.admin(removal).unwrap();
}

#[test]
fn the_log_holds_the_policy_before_and_after() {
    let mut world = World::new();
    world.admin(apply(&database("one"))).unwrap();
    let new_text = database("one").replace("5432", "5433");

    let change = world.admin(apply(&new_text)).unwrap();

    let [Event::PerimeterChanged { before, after, .. }] = change.events.as_slice() else {
        panic!("{change:?}");
    };
    assert_eq!(
        (before.text.as_str(), after.text.as_str()),
        (database("one").as_str(), new_text.as_str())
    );
    assert_eq!(
        (change.actor.name.as_str(), change.method.as_str()),
        ("ada", "perimeter.apply")
    );
}

#[test]
fn a_node_is_in_at_most_64_perimeters() {
    let mut world = World::new();
    world.enroll("db", "role=db");
    let files: Vec<_> = (0..65).map(|n| file(&database(&format!("p-{n}")))).collect();
    let all = |files: &[crate::PolicyFile]| Command::ApplyPerimeters {
        files: files.to_vec(),
        prune: false,
        base: None,
    };

    let refused = world.admin(all(&files)).unwrap_err();
    world.admin(all(&files[..64])).unwrap();
    let one_more = world.admin(all(&files[64..])).unwrap_err();

    assert!(matches!(refused, Refusal::TooManySegments { .. }), "{refused}");
    assert!(
        matches!(one_more, Refusal::TooManySegments { count: 65, .. }),
        "{one_more}"
    );
    let token = world.token("role=db", 1);
    world.join(token, "db-2").unwrap();
}

#[test]
fn one_file_may_take_away_the_segment_that_another_gives() {
    let mut world = World::new();
    world.enroll("db", "role=db");
    let files = (0..64).map(|n| file(&database(&format!("p-{n}")))).collect();
    let apply_all = |files| Command::ApplyPerimeters {
        files,
        prune: false,
        base: None,
    };
    world.admin(apply_all(files)).unwrap();
    let closed = file(&database("p-0").replace("role=db", "role=none"));

    world
        .admin(apply_all(vec![file(&database("p-64")), closed]))
        .unwrap();

    assert_eq!(world.controller.node_views()[0].perimeters.len(), 64);
}

#[test]
fn a_full_block_is_followed_by_another_and_addresses_stay() {
    let mut world = World::new();
    world.admin(apply(&database("ledger"))).unwrap();
    let token = world.token("role=app", 1_100);
    let first = enrolled(&world.join(token, "n-0").unwrap());
    let before = world.netmap(first).segments[&name("ledger")].clone();

    let mut last = first;
    for n in 1..1_100 {
        last = enrolled(&world.join(token, &format!("n-{n}")).unwrap());
    }

    let segment = world.netmap(last).segments[&name("ledger")].clone();
    assert_eq!(segment.prefixes.v4.len(), 2);
    assert!(segment.prefixes.v4[1].contains(segment.addresses.v4));
    let first_now = world.netmap(first).segments[&name("ledger")].clone();
    assert_eq!(first_now.addresses, before.addresses);
    assert_eq!(
        first_now.prefixes, segment.prefixes,
        "everyone is told of the new block"
    );
}

#[test]
fn renaming_reaches_the_peers_and_names_are_unique() {
    let (mut world, db, app) = World::with_database();
    let rename = |to: &str| Command::UpdateNode {
        node: app,
        name: Some(name(to)),
        set: labels(""),
        remove: Vec::new(),
    };

    let taken = world.admin(rename("db")).unwrap_err();
    world.admin(rename("api")).unwrap();

    assert!(matches!(taken, Refusal::NameTaken { holder, .. } if holder == db));
    assert_eq!(
        world.netmap(db).segments[&name("ledger")].peers[&app].name,
        name("api")
    );
    assert_eq!(world.netmap(app).name, name("api"));
}

#[test]
fn a_change_that_only_closes_flows_takes_access_away_and_no_other_does() {
    let (world, ..) = World::with_database();
    let plan = |text: String| {
        let actor = Actor::admin("alice", "test");
        let options = ApplyOptions::default();
        let files = vec![file(&text)];
        world
            .controller
            .plan_apply(&actor, files, options, world.wall)
            .unwrap()
    };
    let closing = database("ledger").split("[[allow]]").next().unwrap().to_owned();
    let moving = database("ledger").replace("5432", "5433");
    let naming = database("ledger").replace("alice@", "bob@");

    assert!(plan(closing).only_closes);
    assert!(!plan(moving).only_closes);
    assert!(!plan(naming).only_closes);
}
