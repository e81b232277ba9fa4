//! Machines come in by the word of their platform: once for each token, as the issuer's file says, and never past it.

use std::sync::Arc;
use std::time::Duration;

use ringfence_control::api;
use ringfence_model::UnixMillis;
use ringfence_policy::WorkloadIssuer;
use serde_json::{Value, json};

use super::world::{World, database, enrolled, file, identity, name};
use crate::limit::JWTS_REMEMBERED_MAX;
use crate::*;

const FILE: &str = r#"
[issuer]
name = "prod"
url = "https://kubernetes.example.com"
audience = "ringfence"

[[admit]]
claims = { "kubernetes.io" = { namespace = "payments" }, sub = "system:serviceaccount:*:ledger" }
labels = { role = "db" }
name = 'db-{"kubernetes.io".pod.name}'

[[admit]]
claims.sub = "system:serviceaccount:payments:*"
labels = { role = "app" }
"#;

/// A mesh with the perimeter of [`database`], an app in it, and the issuer of [`FILE`].
fn world() -> (World, ringfence_model::NodeId) {
    let mut world = World::new();
    world.admin(super::world::apply(&database("ledger"))).unwrap();
    let app = world.enroll("app", "role=app");
    world.admin(set(FILE)).unwrap();
    (world, app)
}

fn set(text: &str) -> Command {
    Command::Workloads(WorkloadCommand::Set { file: file(text) })
}

fn remove() -> Command {
    Command::Workloads(WorkloadCommand::Remove { name: name("prod") })
}

/// What the shell verified: a token of this pod, number `jwt` of its.
fn pod(world: &World, account: &str, jwt: u8) -> VerifiedWorkload {
    let claims = json!({
        "sub": format!("system:serviceaccount:payments:{account}"),
        "kubernetes.io": { "namespace": "payments", "pod": { "name": format!("{account}-{jwt}") } },
        "secret-looking": "not looked at",
    });
    VerifiedWorkload {
        issuer: Arc::new(WorkloadIssuer::parse("policy.toml", FILE).unwrap()),
        subject: format!("system:serviceaccount:payments:{account}"),
        claims: claims.as_object().unwrap().clone(),
        expires: world.wall.saturating_add(Duration::from_hours(1)),
        jwt: JwtHash::of_signed(&[jwt]),
    }
}

fn admit(world: &mut World, verified: VerifiedWorkload, called: &str) -> Result<Change, Refusal> {
    let actor = Actor::workload(&name("prod"), "r9");
    let command = WorkloadCommand::Admit {
        verified: Box::new(verified),
        name: name(called),
        identity: identity(called),
    };
    world.ask(&actor, Command::Workloads(command))
}

#[test]
fn a_workload_comes_in_as_its_claims_say_and_the_log_says_why() {
    let (mut world, app) = world();

    let verified = pod(&world, "ledger", 1);
    let change = admit(&mut world, verified, "whatever").unwrap();

    let node = enrolled(&change);
    let view = world.controller.node_view(node).unwrap();
    assert_eq!(
        (view.name.as_str(), view.labels.to_string()),
        ("db-ledger-1", "role=db".to_owned())
    );
    assert_eq!(view.perimeters, [name("ledger")]);
    assert_eq!(
        view.admitted_by,
        Some(api::AdmissionView::Workload {
            issuer: name("prod"),
            subject: "system:serviceaccount:payments:ledger".to_owned(),
            rule: 1,
        })
    );
    world.register(app, "ledger").unwrap();
    world.register(node, "ledger").unwrap();
    assert_eq!(world.peers(app, "ledger"), [node]);
    let entry = audit_entry(&change);
    assert!(
        entry.summary.contains("rule 1 of workload issuer prod"),
        "{}",
        entry.summary
    );
    let admitted = entry
        .events
        .iter()
        .find(|event| event["event"] == "workload-admitted")
        .unwrap();
    assert_eq!(admitted["claims"]["\"kubernetes.io\".namespace"], "payments");
    assert!(!serde_json::to_string(&entry).unwrap().contains("not looked at"));
    assert_eq!(entry.actor.kind, "workload");
}

#[test]
fn where_the_rule_names_nobody_the_machine_is_called_what_it_asks_for() {
    let (mut world, _) = world();
    let verified = pod(&world, "api", 1);

    let node = enrolled(&admit(&mut world, verified, "api-1").unwrap());

    assert_eq!(world.controller.name_of(node), Some(&name("api-1")));
    let taken = pod(&world, "api", 2);
    assert!(matches!(
        admit(&mut world, taken, "api-1"),
        Err(Refusal::NameTaken { .. })
    ));
    let twin = pod(&world, "ledger", 3);
    assert!(matches!(
        admit(&mut world, twin, "api-1"),
        Err(Refusal::IdentityTaken(_))
    ));
}

#[test]
fn a_token_lets_in_once_whatever_becomes_of_everything_else() {
    let (mut world, _) = world();
    let verified = pod(&world, "api", 1);
    let node = enrolled(&admit(&mut world, verified.clone(), "one").unwrap());
    let again = |world: &mut World| admit(world, verified.clone(), "two").unwrap_err();

    let used = again(&mut world);
    assert_eq!(used, WorkloadRefusal::Used.into());
    assert!(used.is_auditable());
    // Neither its node's end nor its issuer's brings it back.
    world.admin(Command::RemoveNode { node }).unwrap();
    assert_eq!(again(&mut world), WorkloadRefusal::Used.into());
    world.admin(remove()).unwrap();
    assert_eq!(
        again(&mut world),
        WorkloadRefusal::IssuerGone(name("prod")).into()
    );
    world.admin(set(FILE)).unwrap();
    assert_eq!(again(&mut world), WorkloadRefusal::Used.into());
    // Nor a restart, from the log or from a snapshot.
    let snapshot = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    world.controller = Controller::load(None, &world.log).unwrap();
    assert!(world.controller.snapshot() == snapshot);
    assert_eq!(again(&mut world), WorkloadRefusal::Used.into());
    // Nor another that is let in at its last moment, when what is over is forgotten.
    world.wall = UnixMillis(verified.ends().0 - 1);
    let other = pod(&world, "api", 2);
    admit(&mut world, other, "three").unwrap();
    assert_eq!(again(&mut world), WorkloadRefusal::Used.into());
    world.pass(Duration::from_millis(1));
    assert_eq!(again(&mut world), WorkloadRefusal::Expired.into());
}

#[test]
fn a_clock_that_is_set_back_does_not_bring_a_token_back() {
    let (mut world, _) = world();
    let verified = pod(&world, "api", 1);
    admit(&mut world, verified.clone(), "one").unwrap();

    world.wall = verified.ends().saturating_add(Duration::from_mins(50));
    let other = pod(&world, "api", 2);
    admit(&mut world, other, "two").unwrap();
    world.wall = UnixMillis(verified.expires.0 - 1);

    assert_eq!(
        admit(&mut world, verified, "three").unwrap_err(),
        WorkloadRefusal::Used.into()
    );
}

#[test]
fn without_room_to_remember_a_token_nobody_is_let_in() {
    let (mut world, _) = world();
    let until = world.wall.saturating_add(Duration::from_mins(30));
    let held: Vec<JwtHash> = (0..JWTS_REMEMBERED_MAX)
        .map(|n| JwtHash::of_signed(&n.to_be_bytes()))
        .collect();
    let used = Arc::make_mut(&mut world.controller.state.workloads.used);
    used.extend(held.iter().map(|jwt| (*jwt, until)));

    let verified = pod(&world, "api", 1);
    let full = admit(&mut world, verified.clone(), "one").unwrap_err();
    assert_eq!(full.kind(), RefusalKind::Limit);
    world.wall = until;
    admit(&mut world, verified, "one").unwrap();

    assert_eq!(
        world.controller.state.workloads.used.len(),
        1,
        "what is over is forgotten"
    );
}

#[test]
fn a_lock_on_the_issuer_or_a_change_of_it_lets_nobody_in() {
    let (mut world, _) = world();
    let verified = pod(&world, "api", 1);
    let target = world.controller.lock_target("workload:prod").unwrap();
    let lock = Command::Locks(LockCommand::Set {
        target: target.clone(),
        keep: [].into(),
        reason: "leak".to_owned(),
        ttl: Some(Duration::from_mins(5)),
    });
    world.admin(lock).unwrap();

    let locked = admit(&mut world, verified.clone(), "one").unwrap_err();
    assert_eq!(locked, WorkloadRefusal::IssuerLocked(name("prod")).into());
    assert!(world.controller.workload_issuer_views()[0].locked);
    let test = world.controller.test_workload(&verified, world.wall);
    assert!(!test.admitted && test.why[0].contains("locked"), "{test:?}");
    world.pass(Duration::from_mins(5));
    world.system(Command::Tick).unwrap();
    world
        .admin(set(&FILE.replace("role = \"app\"", "role = \"db\"")))
        .unwrap();
    // It was verified against what the file said before.
    let changed = admit(&mut world, verified, "one").unwrap_err();

    assert_eq!(changed, WorkloadRefusal::IssuerChanged(name("prod")).into());
    assert_eq!(target.to_string(), "workload:prod");
}

#[test]
fn claims_that_match_nothing_let_nobody_in_and_the_test_says_why() {
    let (mut world, _) = world();
    let mut verified = pod(&world, "api", 1);
    verified.subject = "system:serviceaccount:staging:api".to_owned();
    verified
        .claims
        .insert("sub".to_owned(), Value::String(verified.subject.clone()));

    let refused = admit(&mut world, verified.clone(), "one").unwrap_err();

    assert_eq!(refused.code(), "workload-no-rule");
    assert!(refused.is_auditable() && refused.to_string().contains("staging:api"));
    let test = world.controller.test_workload(&verified, world.wall);
    assert_eq!((test.admitted, test.why.len()), (false, 2));
    assert!(
        test.why[1].starts_with("rule 2: sub is system:serviceaccount:staging:api"),
        "{test:?}"
    );
    let good = world
        .controller
        .test_workload(&pod(&world, "ledger", 2), world.wall);
    assert_eq!(
        (good.admitted, good.rule, good.name),
        (true, Some(1), Some(name("db-ledger-2")))
    );
    // A test uses nothing.
    let verified = pod(&world, "ledger", 2);
    admit(&mut world, verified, "two").unwrap();
}

#[test]
fn only_an_administrator_says_whose_word_counts_and_only_that_issuer_speaks_for_its_workloads() {
    let (mut world, app) = world();
    let verified = pod(&world, "api", 1);
    let admit = Command::Workloads(WorkloadCommand::Admit {
        verified: Box::new(verified),
        name: name("one"),
        identity: identity("one"),
    });
    let strangers = [
        Actor::node(app, "r"),
        Actor::workload(&name("other"), "r"),
        Actor::admin("ada", "r"),
        Actor::system("clock", "r"),
    ];
    for actor in &strangers {
        let refused = world.ask(actor, admit.clone()).unwrap_err();
        assert_eq!(refused.code(), "not-permitted", "{actor:?}");
    }
    for actor in [&strangers[0], &strangers[1], &Actor::workload(&name("prod"), "r")] {
        for command in [set(FILE), remove()] {
            let refused = world.ask(actor, command).unwrap_err();
            assert_eq!(refused.code(), "not-permitted", "{actor:?}");
        }
    }
    assert_eq!(world.admin(set(FILE)).unwrap_err(), Refusal::Unchanged);
    world.admin(remove()).unwrap();
    assert_eq!(world.admin(remove()).unwrap_err().code(), "no-workload-issuer");
    let bad = world.admin(set("[issuer]")).unwrap_err();
    assert_eq!(bad.code(), "policy");
}

/// Logs written before there were workloads read, and keep their hashes.
#[test]
fn a_node_with_a_join_token_is_written_as_ever() {
    let (world, app) = world();
    let node = world.controller.node(app).unwrap();

    let written = serde_json::to_string(node).unwrap();

    let Admission::Token { token } = node.admission else {
        panic!("{node:?}");
    };
    assert!(
        written.contains(&format!(",\"token\":\"{token}\",\"certificate\":null,")),
        "{written}"
    );
    assert_eq!(serde_json::from_str::<Node>(&written).unwrap(), *node);
}
