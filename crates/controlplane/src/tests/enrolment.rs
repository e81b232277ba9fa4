//! Join tokens and nodes: admitted once, refused clearly, ended at once.

use std::time::Duration;

use super::world::*;
use crate::{Actor, Command, Event, Refusal, RefusalKind, TokenHash, TokenState};

#[test]
fn one_token_admits_one_node_of_64_that_race() {
    let mut world = World::new();
    let token = world.token("role=db", 1);
    let racing: Vec<_> = (0..64)
        .map(|n| enroll(token, SECRET, &format!("node-{n}")))
        .collect();
    let actor = Actor::token(token, "race");

    // All propose against one state, as if at once; the store takes the first.
    let proposed: Vec<_> = (0..64)
        .map(|n| {
            world
                .controller
                .propose(&actor, racing[n].clone(), world.wall, [n as u8; 32])
                .unwrap()
        })
        .collect();
    world.controller.apply(&proposed[0]).unwrap();

    for late in &proposed[1..] {
        assert!(world.controller.apply(late).is_err());
    }
    for again in racing {
        let refused = world.controller.propose(&actor, again, world.wall, [9; 32]);
        assert_eq!(refused.unwrap_err(), Refusal::TokenUsed { token });
    }
    assert_eq!(world.controller.nodes().count(), 1);
}

#[test]
fn the_use_is_counted_in_the_change_that_enrols() {
    let mut world = World::new();
    let token = world.token("role=db,env=prod", 2);

    let first = world.join(token, "db-1").unwrap();
    world.join(token, "db-2").unwrap();

    assert!(first.events.contains(&Event::TokenUsed {
        token,
        before: 2,
        after: 1
    }));
    assert_eq!(
        world.join(token, "db-3").unwrap_err(),
        Refusal::TokenUsed { token }
    );
    assert_eq!(world.controller.token(token).unwrap().state, TokenState::Used);
    let node = world.controller.node(enrolled(&first)).unwrap();
    assert_eq!(node.labels, labels("env=prod,role=db"));
}

#[test]
fn used_expired_revoked_forged_and_unknown_tokens_are_told_apart() {
    let mut world = World::new();
    let [used, expired, revoked, good] = [1, 1, 1, 1].map(|uses| world.token("role=db", uses));
    world.join(used, "a").unwrap();
    world.admin(Command::RevokeToken { token: revoked }).unwrap();
    let unknown = ringfence_model::TokenId(42);

    let forged = world
        .ask(&Actor::token(good, "r"), enroll(good, b"guess", "b"))
        .unwrap_err();
    let forged_revoked = world
        .ask(&Actor::token(revoked, "r"), enroll(revoked, b"guess", "b"))
        .unwrap_err();
    let refused_used = world.join(used, "b").unwrap_err();
    let refused_revoked = world.join(revoked, "b").unwrap_err();
    let refused_unknown = world.join(unknown, "b").unwrap_err();
    world.pass(Duration::from_hours(1));
    let refused_expired = world.join(expired, "b").unwrap_err();

    assert_eq!(forged, Refusal::TokenForged { token: good });
    assert_eq!(
        forged_revoked,
        Refusal::TokenForged { token: revoked },
        "a guess learns nothing of the token"
    );
    assert_eq!(refused_used, Refusal::TokenUsed { token: used });
    assert_eq!(refused_revoked, Refusal::TokenRevoked { token: revoked });
    assert_eq!(refused_unknown, Refusal::NoToken(unknown));
    assert!(matches!(refused_expired, Refusal::TokenExpired { token, .. } if token == expired));
    let all = [
        forged,
        refused_used,
        refused_revoked,
        refused_unknown,
        refused_expired,
    ];
    let mut messages: Vec<String> = all.iter().map(ToString::to_string).collect();
    for refusal in &all {
        assert!(refusal.is_auditable() && refusal.kind() == RefusalKind::Denied);
    }
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), all.len());
}

#[test]
fn a_refusal_is_written_down_and_a_flood_of_them_is_not() {
    let mut world = World::new();
    let token = world.token("role=db", 1);
    let actor = Actor::token(token, "r-17");
    let refusal = world.ask(&actor, enroll(token, b"guess", "b")).unwrap_err();

    let change = world
        .ask(&actor, refusal.record("node.enroll", "b from 192.0.2.7"))
        .unwrap();

    let [
        Event::Refused {
            method,
            subject,
            reason,
        },
    ] = change.events.as_slice()
    else {
        panic!("{change:?}");
    };
    assert_eq!(
        (method.as_str(), subject.as_str()),
        ("node.enroll", "b from 192.0.2.7")
    );
    assert!(reason.contains("wrong") && change.actor.request_id == "r-17");
    for _ in 1..crate::limit::REFUSALS_PER_HOUR_MAX {
        world
            .ask(&actor, refusal.record("node.enroll", &"x".repeat(9_999)))
            .unwrap();
    }
    let last = world.log.last().unwrap();
    assert!(serde_json::to_vec(last).unwrap().len() < 4_096);
    let flood = world.ask(&actor, refusal.record("node.enroll", "b"));
    assert_eq!(flood.unwrap_err().kind(), RefusalKind::Limit);
    world.pass(Duration::from_hours(1));
    world.ask(&actor, refusal.record("node.enroll", "b")).unwrap();
}

#[test]
fn a_refused_enrolment_does_not_cost_the_token() {
    let mut world = World::new();
    world.enroll("db", "role=db");
    let token = world.token("role=db", 1);

    assert!(matches!(
        world.join(token, "db").unwrap_err(),
        Refusal::NameTaken { .. }
    ));

    world.join(token, "db-2").unwrap();
}

#[test]
fn an_identity_key_belongs_to_one_node() {
    let mut world = World::new();
    let first = world.enroll("db", "role=db");
    let token = world.token("role=db", 1);
    let command = Command::Enroll {
        token,
        secret_hash: TokenHash::of_secret(SECRET),
        name: name("other"),
        identity: identity("db"),
    };

    let refused = world.ask(&Actor::token(token, "r"), command);

    assert_eq!(refused.unwrap_err(), Refusal::IdentityTaken(first));
}

#[test]
fn tokens_have_bounds() {
    let mut world = World::new();
    let create = |ttl_seconds, uses| Command::CreateToken {
        labels: labels("role=db"),
        ttl: Duration::from_secs(ttl_seconds),
        uses,
        secret_hash: TokenHash::of_secret(SECRET),
    };

    assert_eq!(world.admin(create(60, 0)).unwrap_err(), Refusal::TokenUses(0));
    assert_eq!(
        world.admin(create(60, 10_001)).unwrap_err(),
        Refusal::TokenUses(10_001)
    );
    assert_eq!(world.admin(create(0, 1)).unwrap_err(), Refusal::TokenTtl);
    assert_eq!(
        world.admin(create(366 * 86_400, 1)).unwrap_err(),
        Refusal::TokenTtl
    );
}

#[test]
fn a_removed_node_loses_everything_at_once() {
    let (mut world, db, app) = World::with_database();
    let spki = identity("app");
    assert!(
        world
            .controller
            .authorize(&name("acme"), app, spki.spki())
            .is_ok()
    );
    let key = world.netmap(app).segments[&name("ledger")].public_key.unwrap();

    world.admin(Command::RemoveNode { node: app }).unwrap();

    assert!(
        world
            .controller
            .authorize(&name("acme"), app, spki.spki())
            .is_err()
    );
    assert!(world.controller.netmap(app, world.wall).is_none());
    assert_eq!(world.peers(db, "ledger"), []);
    assert!(world.netmap(db).segments[&name("ledger")].rules.is_empty());
    assert!(
        world
            .pushes
            .iter()
            .any(|push| push.node == db && push.kind == crate::PushKind::Netmap)
    );
    assert!(
        world
            .pushes
            .iter()
            .any(|push| push.node == app && push.kind == crate::PushKind::Removed)
    );
    // Name, identity and key are free again.
    let again = world.enroll("app", "role=app");
    assert_ne!(again, app);
    world.register_key(again, "ledger", key).unwrap();
    assert_eq!(world.peers(db, "ledger"), [again]);
}

#[test]
fn revoking_a_token_that_is_not_there_is_a_slip_and_no_attack() {
    let mut world = World::new();
    let refused = world
        .admin(Command::RevokeToken {
            token: ringfence_model::TokenId(9),
        })
        .unwrap_err();

    assert_eq!(refused.kind(), RefusalKind::NotFound);
    assert!(!refused.is_auditable());
}
