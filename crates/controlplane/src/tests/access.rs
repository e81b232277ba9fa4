//! Who may ask for what.

use ringfence_model::NodeId;

use super::world::*;
use crate::{AccessDenied, Actor, Command, Refusal};

#[test]
fn access_is_judged_by_mesh_id_and_key() {
    let (world, db, _) = World::with_database();
    let spki = identity("db");
    let authorize =
        |mesh: &str, node, spki: &[u8]| world.controller.authorize(&name(mesh), node, spki).map(|n| n.id);

    assert_eq!(authorize("acme", db, spki.spki()), Ok(db));
    assert_eq!(
        authorize("other", db, spki.spki()),
        Err(AccessDenied::OtherMesh(name("other")))
    );
    assert_eq!(
        authorize("acme", NodeId(1), spki.spki()),
        Err(AccessDenied::NoNode(NodeId(1)))
    );
    assert_eq!(
        authorize("acme", db, identity("app").spki()),
        Err(AccessDenied::OtherKey(db))
    );
}

#[test]
fn nodes_ask_for_themselves_alone_and_only_administrators_administer() {
    let (mut world, db, app) = World::with_database();
    let token = world.token("role=db", 1);
    let register = Command::RegisterKey {
        node: app,
        perimeter: name("ledger"),
        public_key: public_key(900),
    };
    let denied = [
        (Actor::node(db, "r"), register.clone()),
        (Actor::admin("ada", "r"), register),
        (Actor::node(db, "r"), relabel(db, "role=app", &[])),
        (Actor::node(db, "r"), Command::RemoveNode { node: app }),
        (Actor::node(db, "r"), apply(&database("ledger"))),
        (
            Actor::token(ringfence_model::TokenId(1), "r"),
            enroll(token, SECRET, "x"),
        ),
        (Actor::admin("ada", "r"), Command::StartTerm),
    ];

    for (actor, command) in denied {
        let refused = world.ask(&actor, command).unwrap_err();
        assert!(matches!(refused, Refusal::NotPermitted { .. }), "{refused}");
        assert!(refused.is_auditable());
    }
}

#[test]
fn a_token_cannot_be_printed_with_its_secret_hash() {
    let mut world = World::new();
    let token = world.token("role=db", 1);
    let hash: String = world.controller.token(token).unwrap().secret_hash.into();

    assert!(!format!("{:?}", world.controller.token(token)).contains(&hash));
}
