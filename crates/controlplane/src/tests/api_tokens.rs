//! API tokens: what each role may ask, what an owner sees, and when a token stops counting.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_control::api;
use ringfence_model::{AccessId, ApiTokenId, NodeId};

use super::presence::connect;
use super::world::*;
use crate::limit::{API_TOKEN_LIFE_MAX, API_TOKENS_MAX};
use crate::{
    AccessCommand, AccessFilter, Actor, ApiTokenCommand, ApiTokenEvent, ApiTokenRefusal, AskError, Change,
    Command, Controller, Event, LockCommand, PeopleCommand, PostureCommand, Refusal, Role, Snapshot,
    TokenHash, Urgency, audit_entry,
};

const DAY: Duration = Duration::from_hours(24);

impl World {
    /// Makes a token; whoever presents its secret.
    fn api_token(&mut self, called: &str, role: Role, address: Option<&str>) -> Actor {
        let change = self.admin(create(called, role, address, DAY)).unwrap();
        let id = created(&change);
        self.present(id, called).unwrap()
    }

    fn present(&self, id: ApiTokenId, secret: &str) -> Option<Actor> {
        let hash = TokenHash::of_secret(secret.as_bytes());
        self.controller.api_actor((id, &hash), self.wall, "r7")
    }

    pub(super) fn owner_of(&mut self, perimeter: &str, address: &str) -> Actor {
        self.api_token(perimeter, owner(&[perimeter]), Some(address))
    }

    /// The perimeters `ledger` and `vault`, of which each has a database and an app, and the nodes of `vault`.
    pub(super) fn with_two() -> (Self, NodeId, NodeId) {
        let (mut world, ..) = Self::with_database();
        let text = database("vault").replace("role=", "vault=");
        world.admin(apply(&text)).unwrap();
        let db = world.enroll("vault-db", "vault=db");
        let app = world.enroll("vault-app", "vault=app");
        world.register(db, "vault").unwrap();
        world.register(app, "vault").unwrap();
        (world, db, app)
    }
}

fn create(called: &str, role: Role, address: Option<&str>, ttl: Duration) -> Command {
    Command::ApiTokens(ApiTokenCommand::Create {
        name: name(called),
        role,
        stands_for: address.map(str::to_owned),
        ttl,
        secret_hash: TokenHash::of_secret(called.as_bytes()),
    })
}

fn created(change: &Change) -> ApiTokenId {
    let created = change.events.iter().find_map(|event| match event {
        Event::ApiTokens(event) => match event.as_ref() {
            ApiTokenEvent::ApiTokenCreated { token } => Some(token.id),
            _ => None,
        },
        _ => None,
    });
    created.unwrap()
}

fn revoke(token: ApiTokenId) -> Command {
    Command::ApiTokens(ApiTokenCommand::Revoke { token })
}

fn owner(perimeters: &[&str]) -> Role {
    Role::Owner {
        perimeters: perimeters.iter().map(|text| name(text)).collect(),
    }
}

fn narrower(perimeter: &str) -> Command {
    apply(&database(perimeter).replace("5432", "5433"))
}

fn is_denied(refused: &Refusal) -> bool {
    matches!(refused, Refusal::NotPermitted { .. })
}

#[test]
fn only_the_right_secret_of_a_token_that_counts_is_somebody() {
    let mut world = World::new();
    let change = world.admin(create("siem", Role::Auditor, None, DAY)).unwrap();
    let id = created(&change);

    let actor = world.present(id, "siem").unwrap();
    assert_eq!((actor.name.as_str(), actor.kind.as_str()), ("siem", "api-token"));
    assert_eq!(world.present(id, "other"), None);
    assert_eq!(world.present(ApiTokenId(1), "siem"), None);

    world.pass(DAY);
    assert_eq!(
        world.present(id, "siem"),
        None,
        "its time is over, whatever the clock's tick says"
    );
    assert_eq!(world.controller.poll_timeout(), Some(world.wall));
    let ended = world.system(Command::Tick).unwrap();
    assert!(matches!(&ended.events[..], [Event::ApiTokens(event)]
        if matches!(event.as_ref(), ApiTokenEvent::ApiTokenExpired { token, .. } if *token == id)));
    assert_eq!(world.controller.poll_timeout(), None);
    assert_eq!(world.controller.api_tokens().count(), 0);
}

#[test]
fn a_revoked_token_opens_nothing_also_to_who_came_in_before() {
    let mut world = World::new();
    let ops = world.api_token("ops", Role::Admin, None);
    world.ask(&ops, apply(&database("ledger"))).unwrap();
    let id = ops.api_token.unwrap();

    world.admin(revoke(id)).unwrap();

    assert_eq!(world.present(id, "ops"), None);
    assert!(world.controller.seen_by(&ops, world.wall).is_none());
    assert!(is_denied(&world.ask(&ops, narrower("ledger")).unwrap_err()));
    assert_eq!(
        world.admin(revoke(id)).unwrap_err(),
        ApiTokenRefusal::Unknown(id).into()
    );
    // The name is free again, and the old token is not the new one.
    world.api_token("ops", Role::Admin, None);
    assert!(is_denied(&world.ask(&ops, narrower("ledger")).unwrap_err()));
}

#[test]
fn an_auditor_changes_nothing_and_an_owner_the_files_of_their_perimeters_alone() {
    let (mut world, vault_db, _) = World::with_two();
    let auditor = world.api_token("siem", Role::Auditor, None);
    let alice = world.owner_of("ledger", "alice@example.com");
    let pruning = Command::ApplyPerimeters {
        files: vec![file(&database("ledger"))],
        prune: true,
        base: None,
    };
    let both = Command::ApplyPerimeters {
        files: vec![
            file(&database("ledger").replace("5432", "1")),
            file(&database("vault").replace("5432", "1")),
        ],
        prune: false,
        base: None,
    };
    let never = [
        Command::RemovePerimeter { name: name("ledger") },
        pruning,
        Command::CreateToken {
            labels: labels("role=db"),
            ttl: DAY,
            uses: 1,
            secret_hash: TokenHash::of_secret(SECRET),
        },
        relabel(vault_db, "role=db", &[]),
        Command::RemoveNode { node: vault_db },
        create("more", Role::Admin, None, DAY),
        revoke(auditor.api_token.unwrap()),
        Command::Locks(LockCommand::Set {
            target: world.controller.lock_target("label:role=db").unwrap(),
            keep: BTreeSet::new(),
            reason: "a test".into(),
            ttl: None,
        }),
        Command::Posture(PostureCommand::Apply {
            file: file("[[check]]\nname = \"x\"\nos.id = \"debian\"\n"),
            may_close: false,
        }),
        Command::People(PeopleCommand::EndSession {
            session: ringfence_model::SessionId(1),
        }),
        Command::StartTerm,
        Command::Tick,
    ];

    for actor in [&auditor, &alice] {
        for command in &never {
            let refused = world.ask(actor, command.clone()).unwrap_err();
            assert!(is_denied(&refused), "{} {command:?}: {refused}", actor.name);
        }
    }
    assert!(is_denied(&world.ask(&auditor, narrower("ledger")).unwrap_err()));
    // Another's perimeter, and one that is not there, are the same to them.
    for other in ["vault", "nowhere"] {
        assert_eq!(
            world.ask(&alice, narrower(other)).unwrap_err(),
            Refusal::NoPerimeter(name(other))
        );
    }
    assert_eq!(
        world.ask(&alice, both).unwrap_err(),
        Refusal::NoPerimeter(name("vault"))
    );
    let change = world.ask(&alice, narrower("ledger")).unwrap();
    assert_eq!(change.actor.name, "alice@example.com");
}

#[test]
fn a_token_must_be_one_that_can_be() {
    let (mut world, ..) = World::with_database();
    let siem = world.api_token("siem", Role::Auditor, None);
    let ops = world.api_token("ops", Role::Admin, None);
    let ask = |world: &mut World, command| world.admin(command).unwrap_err();

    for taken in ["siem", "admin", "00c0ffee00c0ffee"] {
        let refused = ask(&mut world, create(taken, Role::Admin, None, DAY));
        assert_eq!(refused, ApiTokenRefusal::Name(name(taken)).into());
    }
    for ttl in [Duration::ZERO, API_TOKEN_LIFE_MAX + Duration::from_secs(1)] {
        let refused = ask(&mut world, create("x", Role::Admin, None, ttl));
        assert_eq!(refused, ApiTokenRefusal::Life.into());
    }
    let refused = ask(&mut world, create("x", owner(&[]), None, DAY));
    assert_eq!(refused, ApiTokenRefusal::Perimeters.into());
    let refused = ask(&mut world, create("x", owner(&["vault"]), None, DAY));
    assert_eq!(refused, Refusal::NoPerimeter(name("vault")));
    let refused = ask(&mut world, create("x", Role::Admin, Some("alice"), DAY));
    assert_eq!(refused, ApiTokenRefusal::Address("alice".into()).into());
    // One for a day makes none for longer.
    let refused = world
        .ask(&ops, create("x", Role::Admin, None, DAY * 2))
        .unwrap_err();
    assert_eq!(refused, ApiTokenRefusal::Outlives.into());
    world.ask(&ops, create("x", Role::Auditor, None, DAY)).unwrap();
    assert!(is_denied(
        &world
            .ask(&siem, create("y", Role::Auditor, None, DAY))
            .unwrap_err()
    ));
}

#[test]
fn there_are_no_more_than_there_may_be() {
    let mut world = World::new();
    for n in 0..API_TOKENS_MAX {
        world
            .admin(create(&format!("t{n}"), Role::Auditor, None, DAY))
            .unwrap();
    }

    let refused = world.admin(create("more", Role::Auditor, None, DAY)).unwrap_err();

    assert!(matches!(
        refused,
        Refusal::Limit {
            max: API_TOKENS_MAX,
            ..
        }
    ));
    let tables = world.controller.tables();
    let table = tables.iter().find(|table| table.table == "API tokens").unwrap();
    assert_eq!((table.len, table.max), (API_TOKENS_MAX, API_TOKENS_MAX));
}

#[test]
fn an_owner_sees_nothing_of_another_perimeter() {
    let (mut world, vault_db, vault_app) = World::with_two();
    let ledger_db = world.controller.find("db").unwrap();
    for (n, node) in [vault_db, vault_app, ledger_db].into_iter().enumerate() {
        connect(&mut world, node, n as u64 + 1);
    }
    // A node in both.
    let both = world.enroll("bridge", "vault=app,role=app");
    world
        .admin(Command::Locks(LockCommand::Set {
            target: world.controller.lock_target("node:bridge").unwrap(),
            keep: [vault_db, ledger_db].into(),
            reason: "a test".into(),
            ttl: None,
        }))
        .unwrap();
    world.log_in(vault_db, "mallory").unwrap();
    let alice = world.owner_of("ledger", "alice@example.com");
    let revision = world.controller.revision();
    let seen = world.controller.seen_by(&alice, world.wall).unwrap();

    let names = |views: Vec<api::NodeView>| -> BTreeSet<String> {
        views.into_iter().map(|view| view.name.to_string()).collect()
    };
    assert_eq!(
        names(seen.node_views()),
        ["app", "bridge", "db"].map(str::to_owned).into()
    );
    let bridge = seen.node_view(both).unwrap();
    assert_eq!(bridge.perimeters, [name("ledger")]);
    assert_eq!(bridge.locks[0].keep, [name("db")]);
    assert_eq!(seen.lock_views()[0].keep, [name("db")]);
    assert!(seen.node_view(vault_db).is_none() && seen.name_of(vault_db).is_none());
    assert!(seen.find_node("vault-db").is_none() && seen.find_node(&vault_db.to_string()).is_none());
    assert!(seen.node_posture(vault_db, world.wall).is_none());
    let perimeters: Vec<_> = seen.perimeter_summaries().into_iter().map(|it| it.name).collect();
    assert_eq!(perimeters, [name("ledger")]);
    assert!(seen.perimeter_detail(&name("vault")).is_none());
    assert_eq!(seen.session_views(), []);
    let receipt = seen.receipt_view(revision).unwrap();
    assert_eq!(
        (receipt.connected, &receipt.absent[..]),
        (1, &[name("app"), name("bridge")][..])
    );
    let told = seen.revision_receipt(revision).unwrap();
    let vault = told.pending.iter().chain(told.offline.iter().map(|it| &it.node));
    assert!(
        vault.into_iter().all(|node| !node.as_str().starts_with("vault")),
        "{told:?}"
    );
}

#[test]
fn an_owner_is_explained_what_is_in_their_perimeter() {
    let (mut world, ..) = World::with_two();
    world.enroll("bridge", "vault=app,role=app");
    let alice = world.owner_of("ledger", "alice@example.com");
    let seen = world.controller.seen_by(&alice, world.wall).unwrap();
    for (from, to) in [("db", "vault-db"), ("vault-db", "db"), ("db", "nobody")] {
        let question = api::ExplainRequest {
            from: from.into(),
            to: to.into(),
            service: "tcp/5432".parse().unwrap(),
            perimeter: None,
            as_if: None,
            at_ms: None,
        };
        let other = if from == "db" { to } else { from };
        assert_eq!(
            seen.explain(&question, world.wall),
            Err(AskError::Nobody(other.into()))
        );
    }
    let between = |perimeter: Option<&str>| api::ExplainRequest {
        from: "bridge".into(),
        to: "db".into(),
        service: "tcp/5432".parse().unwrap(),
        perimeter: perimeter.map(name),
        as_if: None,
        at_ms: None,
    };
    let answer = seen.explain(&between(None), world.wall).unwrap();
    assert_eq!(answer.perimeters.len(), 1);
    assert_eq!(
        seen.explain(&between(Some("vault")), world.wall),
        Err(AskError::NoPerimeter(name("vault")))
    );
}

#[test]
fn an_owner_reads_in_the_log_what_happened_in_their_perimeter() {
    let (mut world, _, _) = World::with_two();
    world.enroll("bridge", "vault=app,role=app");
    let alice = world.owner_of("ledger", "alice@example.com");
    let seen = world.controller.seen_by(&alice, world.wall).unwrap();

    let entries: Vec<api::AuditEntry> = world.log.iter().filter_map(|it| seen.audit_entry(it)).collect();

    let text = serde_json::to_string(&entries).unwrap();
    assert!(text.contains("bridge joined perimeter ledger"), "{text}");
    assert!(!text.contains("vault"), "{text}");
    let events = entries.iter().map(|entry| entry.events.len());
    assert!(events.min().unwrap() > 0);
    // Who sees all has the same entries as everybody had before.
    let auditor = world.api_token("siem", Role::Auditor, None);
    let seen = world.controller.seen_by(&auditor, world.wall).unwrap();
    for change in &world.log {
        assert_eq!(seen.audit_entry(change), Some(audit_entry(change)));
    }
}

#[test]
fn the_log_tells_nobody_the_hash_of_a_secret() {
    let mut world = World::new();
    world.api_token("siem", Role::Auditor, None);
    let hash: String = TokenHash::of_secret(b"siem").into();

    let entry = audit_entry(world.log.last().unwrap());

    assert_eq!(entry.summary, "created API token siem for an auditor");
    assert!(!serde_json::to_string(&entry).unwrap().contains(&hash));
    let views = world.controller.api_token_views(world.wall);
    assert!(!serde_json::to_string(&views).unwrap().contains(&hash));
}

#[test]
fn a_change_that_an_owner_makes_lists_flows_of_their_perimeters_alone() {
    let (mut world, ..) = World::with_two();
    let bridge = world.enroll("bridge", "vault=app,role=app");
    world.register(bridge, "ledger").unwrap();
    world.register(bridge, "vault").unwrap();
    let alice = world.owner_of("ledger", "alice@example.com");
    // Both perimeters are touched, of which one is hers.
    let entropy = world.entropy();
    let command = relabel(bridge, "spare=1", &["vault", "role"]);
    let change = world
        .controller
        .propose(&Actor::admin("ada", "r"), command, world.wall, entropy)
        .unwrap();

    let all = world.controller.flow_changes(&change);
    let hers = world.controller.flow_changes_for(&alice, &change, world.wall);

    assert_eq!((all.listed.len(), hers.listed.len()), (2, 1));
    assert_eq!(hers.listed[0].perimeter, name("ledger"));
    assert!(hers.only_closes() && hers.more == 0);
}

#[test]
fn with_a_perimeter_ends_what_its_owners_may_do_in_it() {
    let (mut world, ..) = World::with_two();
    let alice = world.api_token("alice", owner(&["ledger", "vault"]), None);
    world
        .admin(Command::RemovePerimeter { name: name("ledger") })
        .unwrap();
    world.admin(apply(&database("ledger"))).unwrap();

    assert_eq!(
        world.controller.role_of(&alice, world.wall),
        Some(&owner(&["vault"]))
    );
    assert_eq!(
        world.ask(&alice, narrower("ledger")).unwrap_err(),
        Refusal::NoPerimeter(name("ledger"))
    );
    let replayed = Controller::load(None, &world.log).unwrap();
    assert_eq!(replayed.snapshot(), world.controller.snapshot());
    let bytes = world.controller.snapshot().to_bytes();
    assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), world.controller.snapshot());
}

#[test]
fn a_token_of_a_person_counts_no_longer_than_they_may_log_in() {
    let (mut world, _, laptop) = World::with_laptop();
    let alice = world.owner_of("ledger", "Alice@Example.com");
    let bob = world.api_token("bob", Role::Auditor, Some("bob@example.com"));
    let counts = |world: &World, actor: &Actor| world.controller.role_of(actor, world.wall).is_some();
    let user = world.controller.session_at(laptop).unwrap().login.user.clone();

    world
        .admin(Command::People(PeopleCommand::DeactivateUser {
            user: user.clone(),
        }))
        .unwrap();
    assert!(!counts(&world, &alice) && counts(&world, &bob));
    world
        .admin(Command::People(PeopleCommand::ReactivateUser { user }))
        .unwrap();
    assert!(counts(&world, &alice));

    // Bob never logged in: his address alone says who he is.
    world
        .admin(Command::Locks(LockCommand::Set {
            target: world.controller.lock_target("user:bob@example.com").unwrap(),
            keep: BTreeSet::new(),
            reason: "left".into(),
            ttl: None,
        }))
        .unwrap();
    assert!(counts(&world, &alice) && !counts(&world, &bob));
}

fn ask_ledger(world: &mut World, laptop: NodeId, urgency: Urgency) -> AccessId {
    world
        .ask_for(laptop, 5432, Duration::from_hours(1), urgency)
        .unwrap()
}

fn approve(access: AccessId) -> Command {
    Command::Access(AccessCommand::Approve { access, reason: None })
}

#[test]
fn owners_answer_for_their_perimeters_and_nobody_for_themselves() {
    let (mut world, _, laptop) = World::with_laptop();
    world
        .admin(apply(&database("vault").replace("role=", "vault=")))
        .unwrap();
    let bob = world.owner_of("ledger", "bob@example.com");
    let eve = world.owner_of("vault", "eve@example.com");
    let alice = world.api_token("alice", Role::Admin, Some("ALICE@example.com"));
    let machine = world.api_token("machine", owner(&["ledger"]), None);
    let auditor = world.api_token("siem", Role::Auditor, Some("carol@example.com"));
    let access = ask_ledger(&mut world, laptop, Urgency::Ordinary);

    assert_eq!(
        world.ask(&eve, approve(access)).unwrap_err(),
        Refusal::NoAccess(access)
    );
    assert_eq!(
        world.ask(&eve, approve(AccessId(99))).unwrap_err(),
        Refusal::NoAccess(AccessId(99))
    );
    assert_eq!(
        world.ask(&alice, approve(access)).unwrap_err(),
        Refusal::OwnAccess(access)
    );
    assert_eq!(
        world.ask(&machine, approve(access)).unwrap_err(),
        ApiTokenRefusal::StandsForNobody.into()
    );
    assert!(is_denied(&world.ask(&auditor, approve(access)).unwrap_err()));
    let seen = |world: &World, actor: &Actor| {
        let seen = world.controller.seen_by(actor, world.wall).unwrap();
        seen.access_views(&AccessFilter::default()).len()
    };
    assert_eq!((seen(&world, &bob), seen(&world, &eve)), (1, 0));

    world.ask(&bob, approve(access)).unwrap();

    let db = world.controller.find("db").unwrap();
    assert!(world.is_open(laptop, db, 5432));
    world
        .ask(&bob, Command::Access(AccessCommand::End { access }))
        .unwrap();
    assert!(!world.is_open(laptop, db, 5432));
}

#[test]
fn two_tokens_of_one_person_are_one_approver() {
    let (mut world, db, laptop) = World::with_laptop();
    let first = world.api_token("first", Role::Admin, Some("bob@example.com"));
    let second = world.api_token("second", owner(&["ledger"]), Some("Bob@example.com"));
    let carol = world.api_token("third", owner(&["ledger"]), Some("carol@example.com"));
    let access = ask_ledger(&mut world, laptop, Urgency::BreakGlass);

    world.ask(&first, approve(access)).unwrap();
    assert_eq!(
        world.ask(&second, approve(access)).unwrap_err(),
        Refusal::Unchanged
    );
    assert!(!world.is_open(laptop, db, 5432));
    world.ask(&carol, approve(access)).unwrap();
    assert!(world.is_open(laptop, db, 5432));
}
