//! Devices with a stock WireGuard client.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_control::PeerKind;
use ringfence_model::{Candidate, CandidateKind, UnixMillis};

use super::world::*;
use crate::{Command, Connection, Refusal};

fn add(called: &str, labels_text: &str, expires: Option<UnixMillis>) -> Command {
    Command::AddDevice {
        name: name(called),
        perimeter: name("ledger"),
        public_key: public_key(5_000 + called.len() as u64),
        labels: labels(labels_text),
        expires,
    }
}

#[test]
fn a_device_is_on_the_allowlist_of_whom_it_may_reach_and_nobody_else() {
    let (mut world, db, app) = World::with_database();

    world.admin(add("tablet", "role=app", None)).unwrap();

    let id = world.controller.device(&name("tablet")).unwrap().id;
    let peer = world.netmap(db).segments[&name("ledger")].peers[&id].clone();
    assert_eq!((peer.kind, peer.name), (PeerKind::Device, name("tablet")));
    assert_eq!(world.peers(app, "ledger"), [db]);
    assert!(
        world.pushes.iter().all(|push| push.node != id),
        "a device has no control channel"
    );
    assert!(world.pushes.iter().any(|push| push.node == db));
}

#[test]
fn the_configuration_is_complete() {
    let (mut world, db, _) = World::with_database();
    let remote: SocketAddr = "192.0.2.1:51820".parse().unwrap();
    world.controller.connected(
        db,
        Connection {
            id: 1,
            remote,
            since: world.wall,
        },
        "1.0",
    );
    let host = Candidate {
        address: "10.0.0.5:51820".parse().unwrap(),
        kind: CandidateKind::Host,
    };
    let seen = Candidate {
        address: remote,
        kind: CandidateKind::ServerReflexive,
    };
    world.controller.set_candidates(db, &[host, seen]);
    world.admin(add("tablet", "role=app", None)).unwrap();
    world.enroll("db-2", "role=db");

    let text = world
        .controller
        .device_config(&name("tablet"))
        .unwrap()
        .to_string();

    let segment = world.netmap(db).segments[&name("ledger")].clone();
    assert!(text.contains("[Interface]\nPrivateKey = REPLACE"), "{text}");
    assert!(
        text.contains(&format!("PublicKey = {}", segment.public_key.unwrap())),
        "{text}"
    );
    let allowed = format!(
        "AllowedIPs = {}/32, {}/128",
        segment.addresses.v4, segment.addresses.v6
    );
    assert!(
        text.contains(&allowed) && text.contains("Endpoint = 192.0.2.1:51820"),
        "{text}"
    );
    assert!(text.contains("# db-2 has no key yet"), "{text}");
    assert_eq!(text.matches("[Peer]").count(), 1);
    assert_eq!(
        world.controller.device_views()[0].reaches,
        [name("db"), name("db-2")]
    );
}

#[test]
fn a_device_is_refused_that_could_reach_nobody_or_takes_anothers_place() {
    let (mut world, ..) = World::with_database();
    let past = Some(world.wall);
    let db_key = world
        .controller
        .perimeter_detail(&name("ledger"))
        .unwrap()
        .members[0]
        .public_key
        .unwrap();
    let with_key_of_db = Command::AddDevice {
        name: name("x"),
        perimeter: name("ledger"),
        public_key: db_key,
        labels: labels("role=app"),
        expires: None,
    };

    assert!(matches!(
        world.admin(add("x", "role=none", None)).unwrap_err(),
        Refusal::NoGroup { .. }
    ));
    assert!(matches!(
        world.admin(add("db", "role=app", None)).unwrap_err(),
        Refusal::NameTaken { .. }
    ));
    assert_eq!(
        world.admin(add("x", "role=app", past)).unwrap_err(),
        Refusal::ExpiryPast
    );
    assert_eq!(world.admin(with_key_of_db).unwrap_err(), Refusal::KeyTaken);
}

#[test]
fn a_device_ends_when_its_time_comes() {
    let (mut world, db, app) = World::with_database();
    let ends = world.wall.saturating_add(Duration::from_mins(1));
    world.admin(add("tablet", "role=app", Some(ends))).unwrap();
    assert_eq!(world.controller.poll_timeout(), Some(ends));
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);

    world.pass(Duration::from_mins(1));
    world.system(Command::Tick).unwrap();

    assert_eq!(world.peers(db, "ledger"), [app]);
    assert!(world.controller.device(&name("tablet")).is_none());
    world.admin(add("tablet", "role=app", None)).unwrap();
}

#[test]
fn removing_a_device_or_its_perimeter_frees_its_key_and_name() {
    let (mut world, db, app) = World::with_database();
    world.admin(add("tablet", "role=app", None)).unwrap();

    world
        .admin(Command::RemoveDevice { name: name("tablet") })
        .unwrap();
    assert_eq!(world.peers(db, "ledger"), [app]);
    world.admin(add("tablet", "role=app", None)).unwrap();
    world
        .admin(Command::RemovePerimeter { name: name("ledger") })
        .unwrap();

    assert_eq!(world.controller.devices().count(), 0);
    world.admin(apply(&database("ledger"))).unwrap();
    world.admin(add("tablet", "role=app", None)).unwrap();
}

#[test]
fn a_device_that_the_policy_drops_comes_back_as_it_was() {
    let (mut world, db, _) = World::with_database();
    world.admin(add("tablet", "role=app,site=hq", None)).unwrap();
    let before = world.controller.device_view(&name("tablet")).unwrap();
    let narrower = database("ledger").replace("role=app", "role=app, site=lab");

    world.admin(apply(&narrower)).unwrap();
    let dropped = world.controller.device_view(&name("tablet")).unwrap();
    assert!(world.peers(db, "ledger").is_empty());
    world.admin(apply(&database("ledger"))).unwrap();

    assert!(dropped.addresses.is_empty() && dropped.reaches.is_empty());
    assert_eq!(world.controller.device_view(&name("tablet")).unwrap(), before);
    assert!(world.peers(db, "ledger").contains(&before.id));
}
