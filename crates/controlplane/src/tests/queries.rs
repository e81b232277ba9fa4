//! What people ask.

use ringfence_control::api;
use ringfence_model::UnixMillis;

use super::world::*;
use crate::{AskError, Command, LockCommand, LockTarget, PostureCommand, audit_entry};

fn question(from: &str, to: &str, service: &str) -> api::ExplainRequest {
    api::ExplainRequest {
        from: from.into(),
        to: to.into(),
        service: service.parse().unwrap(),
        perimeter: None,
        as_if: None,
        at_ms: None,
    }
}

#[test]
fn explain_names_the_rule_or_what_is_missing() {
    let (mut world, ..) = World::with_database();
    world.enroll("web", "role=web");
    let ask = |from, to, service| world.controller.explain(&question(from, to, service), world.wall);

    let allowed = ask("node:app", "db", "tcp/5432").unwrap();
    let wrong_port = ask("app", "db", "tcp/22").unwrap();
    let outsider = ask("web", "db", "tcp/5432").unwrap();
    let strangers = ask("web", "web", "tcp/5432").unwrap();

    assert_eq!(allowed.verdict, api::Verdict::Allow);
    let explained = &allowed.perimeters[0];
    assert_eq!(
        (explained.perimeter.clone(), explained.rule.unwrap().0),
        (name("ledger"), 1)
    );
    assert!(explained.line.is_some() && explained.file.as_deref() == Some("policy.toml"));
    assert_eq!(wrong_port.verdict, api::Verdict::Deny);
    assert!(!wrong_port.perimeters[0].missing.is_empty());
    assert_eq!(outsider.verdict, api::Verdict::Deny);
    assert!(strangers.perimeters.is_empty());
    assert_eq!(
        ask("nobody", "db", "icmp").unwrap_err(),
        AskError::Nobody("nobody".into())
    );
}

#[test]
fn explain_answers_what_would_be_if_more_were_known_and_changes_nothing() {
    let mut world = World::new();
    let asks = "require = { mfa = \"1h\", posture = [\"healthy\"], source = [\"10.1.0.0/16\"] }\n";
    let people = database("ledger").replace("{ nodes = \"role=app\" }", "{ users = \"group=dba\" }") + asks;
    let check = "[[check]]\nname = \"healthy\"\nfirewall.active = true\n";
    world
        .admin(Command::Posture(PostureCommand::Apply {
            file: file(check),
            may_close: false,
        }))
        .unwrap();
    world.admin(apply(&people)).unwrap();
    world.enroll("db", "role=db");
    world.enroll("laptop", "role=laptop");
    let ask = |as_if: Option<api::AsIf>| {
        let question = api::ExplainRequest {
            as_if,
            ..question("laptop", "db", "tcp/5432")
        };
        let report = world.controller.explain(&question, world.wall).unwrap();
        (report.verdict, report.perimeters[0].missing.join("\n"))
    };
    let person = api::AsIf {
        groups: vec!["dba".into()],
        ..api::AsIf::default()
    };
    let proved = api::AsIf {
        mfa_ms: Some(60_000),
        ..person.clone()
    };
    let everything = api::AsIf {
        posture: vec![name("healthy")],
        source: Some([10, 1, 2, 3].into()),
        ..proved.clone()
    };

    assert!(ask(None).1.contains("nobody is logged in at laptop"));
    assert!(ask(Some(person)).1.contains("log in again with a second factor"));
    let (verdict, missing) = ask(Some(proved));
    assert_eq!(verdict, api::Verdict::Deny);
    assert!(missing.contains("posture check healthy does not pass") && !missing.contains("second factor"));
    assert_eq!(ask(Some(everything.clone())).0, api::Verdict::Allow);
    let two_hours_later = api::AsIf {
        mfa_ms: Some(2 * 3_600_000),
        ..everything
    };
    assert_eq!(ask(Some(two_hours_later)).0, api::Verdict::Deny);
    assert_eq!(ask(None).0, api::Verdict::Deny, "nothing of it is true");
}

#[test]
fn explain_supposes_labels_and_moments_and_no_lock_away() {
    let mut world = World::new();
    let in_time = database("ledger") + "expires = 2023-11-15T00:00:00Z\n";
    world.admin(apply(&in_time)).unwrap();
    let db = world.enroll("db", "role=db");
    world.enroll("web", "role=web");
    let ask = |world: &World, as_if: api::AsIf| {
        let question = api::ExplainRequest {
            as_if: Some(as_if),
            ..question("web", "db", "tcp/5432")
        };
        world.controller.explain(&question, world.wall).unwrap()
    };
    let labelled = api::AsIf {
        labels: labels("role=app"),
        ..api::AsIf::default()
    };

    let allowed = ask(&world, labelled.clone());
    let later = ask(
        &world,
        api::AsIf {
            time_ms: Some(UnixMillis(1_700_100_000_000)),
            ..labelled.clone()
        },
    );
    let lock = LockCommand::Set {
        target: LockTarget::Node { node: db },
        keep: [].into(),
        reason: "odd".into(),
        ttl: None,
    };
    world.admin(Command::Locks(lock)).unwrap();
    let locked = ask(&world, labelled);

    assert_eq!(allowed.verdict, api::Verdict::Allow);
    assert_eq!(later.verdict, api::Verdict::Deny, "the rule is over by then");
    assert_eq!(locked.verdict, api::Verdict::Deny);
    assert!(locked.perimeters[0].reason.contains("db is locked"), "{locked:?}");
}

#[test]
fn members_are_found_by_name_and_id() {
    let (world, db, _) = World::with_database();

    assert_eq!(world.controller.find("db"), Some(db));
    assert_eq!(world.controller.find("node:db"), Some(db));
    assert_eq!(world.controller.find(&db.to_string()), Some(db));
    assert_eq!(world.controller.find("00000000000000ff"), None);
    assert_eq!(world.controller.find("../etc"), None);
}

#[test]
fn a_perimeter_in_full_shows_groups_members_and_rules() {
    let (world, ..) = World::with_database();

    let detail = world.controller.perimeter_detail(&name("ledger")).unwrap();

    assert_eq!((detail.summary.members, detail.summary.rules), (2, 1));
    assert_eq!(
        detail
            .members
            .iter()
            .map(|m| (m.name.as_str(), m.peers))
            .collect::<Vec<_>>(),
        [("app", 1), ("db", 1)]
    );
    assert_eq!(detail.groups.len(), 2);
    assert_eq!(
        (detail.rules[0].line > 1, &detail.rules[0].inactive),
        (true, &None)
    );
    assert_eq!(detail.file.text, database("ledger"));
}

#[test]
fn a_rule_that_needs_people_grants_nothing_and_says_so() {
    let (mut world, db, _) = World::with_database();
    let with_people = database("ledger").replace(
        r#"app = { nodes = "role=app" }"#,
        r#"app = { users = "group=dba" }"#,
    );

    world.admin(apply(&with_people)).unwrap();

    assert!(world.peers(db, "ledger").is_empty());
    let detail = world.controller.perimeter_detail(&name("ledger")).unwrap();
    assert!(detail.rules[0].inactive.is_some());
}

#[test]
fn an_audit_entry_says_who_what_and_when_in_words() {
    let (mut world, db, _) = World::with_database();
    let change = world.admin(relabel(db, "role=app", &[])).unwrap();

    let entry = audit_entry(&change);

    assert_eq!(
        (entry.actor.kind.as_str(), entry.actor.name.as_str()),
        ("admin", "ada")
    );
    assert_eq!(entry.at_ms, world.wall);
    assert!(
        entry.summary.contains("from [role=db] to [role=app]"),
        "{}",
        entry.summary
    );
    assert_eq!(entry.events[0]["event"], "node-labelled");
    assert_eq!(entry.events[0]["before"]["role"], "db");
    for event in &change.events {
        assert_eq!(serde_json::to_value(event).unwrap()["event"], event.kind());
    }
}

#[test]
fn an_audit_entry_of_a_token_has_no_hash_of_its_secret() {
    let mut world = World::new();
    world.token("role=db", 1);

    let entry = audit_entry(world.log.last().unwrap());

    assert_eq!(entry.events[0]["token"]["uses"], 1);
    assert!(!serde_json::to_string(&entry).unwrap().contains("secret_hash"));
}

#[test]
fn listings_are_in_order_of_name() {
    let (world, ..) = World::with_database();

    let nodes = world.controller.node_views();

    assert_eq!(
        nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
        ["app", "db"]
    );
    assert_eq!(nodes[0].perimeters, [name("ledger")]);
    assert_eq!(world.controller.token_views(world.wall).len(), 2);
    assert_eq!(
        world.controller.perimeter_summaries()[0].owners,
        ["alice@example.com"]
    );
}
