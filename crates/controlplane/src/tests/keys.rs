//! WireGuard keys: one for each segment, and only keyed members appear on allowlists.

use ringfence_model::{NodeId, PublicKey, TableSize};

use super::world::*;
use crate::limit::{OWN_ENTRIES_BURST, OWN_ENTRY_EVERY};
use crate::{Actor, Change, Command, Refusal};

#[test]
fn members_get_addresses_at_once_and_peers_with_their_key() {
    let mut world = World::new();
    world.admin(apply(&database("ledger"))).unwrap();
    let db = world.enroll("db", "role=db");
    let app = world.enroll("app", "role=app");
    let ledger = name("ledger");

    let waiting = world.netmap(app).segments[&ledger].clone();
    let db_key = world.register(db, "ledger").unwrap();
    let keyless_app = world.netmap(app).segments[&ledger].clone();
    let lonely_db = world.peers(db, "ledger");
    world.register(app, "ledger").unwrap();

    assert_eq!((waiting.public_key, waiting.peers.len()), (None, 0));
    assert!(
        keyless_app.peers.is_empty(),
        "who has no key cannot use anyone else's"
    );
    assert!(lonely_db.is_empty(), "who has no key is on nobody's allowlist");
    let peer = &world.netmap(app).segments[&ledger].peers[&db];
    assert_eq!((peer.public_key, peer.name.as_str()), (db_key, "db"));
    assert_eq!(world.peers(db, "ledger"), [app]);
}

#[test]
fn a_key_is_only_for_a_perimeter_the_node_is_in() {
    let (mut world, db, _) = World::with_database();
    let elsewhere = database("lab").replace("role=", "lab=");
    world.admin(apply(&elsewhere)).unwrap();

    let refused = world.register(db, "lab").unwrap_err();
    let nowhere = world.register(db, "nowhere").unwrap_err();

    assert_eq!(
        refused,
        Refusal::NotMember {
            node: db,
            perimeter: name("lab")
        }
    );
    assert_eq!(nowhere, Refusal::NoPerimeter(name("nowhere")));
}

#[test]
fn low_order_and_taken_keys_are_refused() {
    let (mut world, db, app) = World::with_database();
    world.admin(apply(&database("second"))).unwrap();
    let db_key = world.netmap(db).segments[&name("ledger")].public_key.unwrap();

    let low = world
        .register_key(app, "ledger", PublicKey::from_bytes([0; 32]))
        .unwrap_err();
    let others = world.register_key(app, "ledger", db_key).unwrap_err();
    let own_elsewhere = world.register_key(db, "second", db_key).unwrap_err();
    let again = world.register_key(db, "ledger", db_key).unwrap_err();

    assert_eq!(low, Refusal::LowOrderKey);
    assert_eq!((others, own_elsewhere), (Refusal::KeyTaken, Refusal::KeyTaken));
    assert_eq!(again, Refusal::Unchanged);
}

#[test]
fn a_new_key_replaces_the_old_one_at_the_peers() {
    let (mut world, db, app) = World::with_database();
    let old = world.netmap(db).segments[&name("ledger")].public_key.unwrap();

    let new = world.register(db, "ledger").unwrap();

    assert_eq!(
        world.netmap(app).segments[&name("ledger")].peers[&db].public_key,
        new
    );
    let told: Vec<_> = world.pushes.iter().map(|push| push.node).collect();
    assert!(told.contains(&db) && told.contains(&app));
    // The old key is nobody's now.
    world.register_key(app, "ledger", old).unwrap();
}

#[test]
fn who_leaves_a_perimeter_loses_the_key_and_keeps_the_addresses() {
    let (mut world, db, app) = World::with_database();
    let before = world.netmap(app).segments[&name("ledger")].clone();

    world.admin(relabel(app, "", &["role"])).unwrap();
    let away = world.netmap(app);
    let left = world.peers(db, "ledger");
    world.admin(relabel(app, "role=app", &[])).unwrap();
    let back = world.netmap(app).segments[&name("ledger")].clone();

    assert!(away.segments.is_empty() && left.is_empty());
    assert_eq!(back.addresses, before.addresses);
    assert_eq!(back.public_key, None, "a new membership needs a new key");
}

#[test]
fn addresses_of_the_departed_are_not_given_to_the_next() {
    let (mut world, _, app) = World::with_database();
    let ledger = name("ledger");
    let departed = world.netmap(app).segments[&ledger].addresses;

    world.admin(crate::Command::RemoveNode { node: app }).unwrap();
    let next = world.enroll("app-2", "role=app");

    let given = world.netmap(next).segments[&ledger].addresses;
    assert!(given.v4 != departed.v4 && given.v6 != departed.v6);
}

#[test]
fn a_node_cannot_fill_the_log_with_new_keys() {
    let (mut world, db, app) = World::with_database();

    let flood = (0..1_000)
        .filter(|_| world.register(db, "ledger").is_ok())
        .count();

    assert_eq!(flood, OWN_ENTRIES_BURST as usize);
    let refused = world.register(db, "ledger").unwrap_err();
    assert_eq!(refused, Refusal::TooOften(db));
    assert!(!refused.is_auditable(), "the refusal would fill it instead");
    world
        .register(app, "ledger")
        .expect("another node is not held up");
    world.pass(OWN_ENTRY_EVERY);
    world.register(db, "ledger").unwrap();
    assert_eq!(world.register(db, "ledger").unwrap_err(), Refusal::TooOften(db));
}

#[test]
fn certificates_and_refused_attempts_of_a_node_count_as_its_keys_do() {
    let (mut world, db, _) = World::with_database();
    let denied = Refusal::KeyTaken.record("key.register", "ledger");
    renew(&mut world, db).expect("the first one comes with the enrolment");

    let renewed = (0..1_000).filter(|_| renew(&mut world, db).is_ok()).count();

    assert_eq!(renewed, OWN_ENTRIES_BURST as usize);
    assert_eq!(world.register(db, "ledger").unwrap_err(), Refusal::TooOften(db));
    let record = world.ask(&Actor::node(db, "r"), denied);
    assert_eq!(record.unwrap_err(), Refusal::TooOften(db));
}

#[test]
fn a_first_key_is_free_however_often_an_administrator_makes_it_one() {
    let (mut world, _, app) = World::with_database();

    for _ in 0..2 * OWN_ENTRIES_BURST {
        world.admin(relabel(app, "", &["role"])).unwrap();
        world.admin(relabel(app, "role=app", &[])).unwrap();
        world.register(app, "ledger").unwrap();
    }
}

#[test]
fn a_clock_that_is_set_back_keeps_no_node_waiting() {
    let (mut world, db, _) = World::with_database();
    let early = world.wall;
    world.pass(OWN_ENTRY_EVERY * 10 * OWN_ENTRIES_BURST);
    while world.register(db, "ledger").is_ok() {}

    world.wall = early;

    world.register(db, "ledger").unwrap();
}

#[test]
fn no_account_is_kept_of_a_node_that_is_gone() {
    let (mut world, db, app) = World::with_database();
    for node in [db, app] {
        world.admin(Command::RemoveNode { node }).unwrap();
    }

    let late = Refusal::NoNode(db).record("key.register", "ledger");
    world.ask(&Actor::node(db, "r"), late).unwrap();

    let tables = world.controller.tables();
    assert!(tables.iter().all(TableSize::is_bounded), "{tables:?}");
}

fn renew(world: &mut World, node: NodeId) -> Result<Change, Refusal> {
    let command = Command::RecordCertificate {
        node,
        serial: "ab".to_owned(),
        not_after: world.wall.saturating_add(OWN_ENTRY_EVERY),
    };
    world.ask(&Actor::system("ca", "renewal"), command)
}
