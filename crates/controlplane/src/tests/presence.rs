//! Presence and receipts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringfence_control::LANES_MAX;
use ringfence_model::{Candidate, CandidateKind, NodeId};

use super::world::*;
use crate::{CANDIDATES_MAX, Command, Connection};

pub(super) fn connect(world: &mut World, node: NodeId, id: u64) {
    let remote: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    let connection = Connection {
        id,
        remote,
        since: world.wall,
    };
    world.controller.connected(node, connection, "1.0");
}

fn host(address: &str) -> Candidate {
    Candidate {
        address: address.parse().unwrap(),
        kind: CandidateKind::Host,
    }
}

#[test]
fn a_receipt_counts_connected_nodes_and_times_the_slowest() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, app, 2);
    world
        .admin(apply(&database("ledger").replace("5432", "5433")))
        .unwrap();
    let revision = world.controller.revision();

    world.pass(Duration::from_millis(20));
    world.controller.enforced(db, revision, 150, world.wall);
    let half = world.controller.receipt_view(revision).unwrap();
    world.pass(Duration::from_millis(15));
    world.controller.enforced(app, revision, 90, world.wall);
    let whole = world.controller.receipt_view(revision).unwrap();

    assert_eq!(
        (half.complete, half.enforced, half.pending),
        (false, 1, vec![name("app")])
    );
    assert!(whole.complete && whole.pending.is_empty() && whole.absent.is_empty());
    let slowest = whole.slowest.unwrap();
    assert_eq!(
        (slowest.node, slowest.after_ms, slowest.took_us),
        (name("app"), 35, 90)
    );
    assert_eq!(whole.took_ms, Some(35));
}

#[test]
fn who_is_away_is_absent_and_does_not_hold_the_receipt() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, app, 2);
    world.controller.disconnected(app, 2, world.wall);
    let revision = world.controller.revision();
    world.controller.enforced(db, revision, 1, world.wall);

    let receipt = world.controller.receipt_view(revision).unwrap();

    assert!(receipt.complete);
    assert_eq!((receipt.connected, receipt.absent), (1, vec![name("app")]));
    assert!(world.controller.receipt_view(revision.next()).is_none());
}

#[test]
fn a_node_that_nothing_touched_enforces_what_came_after() {
    let (mut world, db, _) = World::with_database();
    connect(&mut world, db, 1);
    let revision = world.controller.revision();
    world.controller.enforced(db, revision, 1, world.wall);

    world.token("role=other", 1);
    let untouched = world.controller.receipt(world.controller.revision()).unwrap();
    world.enroll("app-2", "role=app");
    let touched = world.controller.receipt(world.controller.revision()).unwrap();

    assert!(untouched.is_complete());
    assert_eq!(touched.pending, [db]);
}

#[test]
fn a_node_that_no_change_ever_touched_does_not_hold_the_receipt() {
    let (mut world, _, _) = World::with_database();
    let web = world.enroll("web", "role=web");
    // As after a restart of the controller, which forgets who was touched when.
    world.controller = crate::Controller::load(Some(world.controller.snapshot()), []).unwrap();
    connect(&mut world, web, 1);
    let greeted = world.controller.revision();
    let before = world.controller.receipt(greeted).unwrap();
    world.controller.enforced(web, greeted, 1, world.wall);

    world
        .admin(apply(&database("ledger").replace("5432", "5433")))
        .unwrap();

    assert_eq!(before.pending, [web]);
    let after = world.controller.receipt(world.controller.revision()).unwrap();
    assert!(after.is_complete() && world.controller.revision() > greeted);
}

#[test]
fn a_perimeter_is_not_in_force_before_its_members_have_keys() {
    let mut world = World::new();
    let db = world.enroll("db", "role=db");
    connect(&mut world, db, 1);
    world.admin(apply(&database("ledger"))).unwrap();
    world
        .controller
        .enforced(db, world.controller.revision(), 1, world.wall);

    let before = world.controller.receipt(world.controller.revision()).unwrap();
    world.register(db, "ledger").unwrap();
    world
        .controller
        .enforced(db, world.controller.revision(), 1, world.wall);
    let after = world.controller.receipt(world.controller.revision()).unwrap();

    assert_eq!(before.pending, [db], "nobody can reach it yet");
    assert!(after.is_complete());
}

#[test]
fn a_node_cannot_claim_a_revision_that_has_not_been_nor_take_one_back() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, app, 2);
    let revision = world.controller.revision();

    world.controller.enforced(db, revision.next(), 1, world.wall);
    let ahead = world.controller.presence(db).unwrap().enforced;
    world.controller.enforced(db, revision, 1, world.wall);
    world
        .controller
        .enforced(db, ringfence_model::Revision { term: 1, n: 1 }, 1, world.wall);

    assert_eq!(ahead, None);
    assert_eq!(
        world.controller.presence(db).unwrap().enforced.unwrap().revision,
        revision
    );
}

#[test]
fn a_late_close_does_not_end_a_newer_connection() {
    let (mut world, db, _) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, db, 2);

    world.controller.disconnected(db, 1, world.wall);
    assert_eq!(world.controller.connected_nodes().collect::<Vec<_>>(), [db]);
    world.controller.disconnected(db, 2, world.wall);

    assert_eq!(world.controller.connected_nodes().count(), 0);
    assert_eq!(world.controller.presence(db).unwrap().last_seen, Some(world.wall));
}

#[test]
fn candidates_reach_those_who_may_talk_to_the_node_and_nobody_else() {
    let (mut world, db, app) = World::with_database();
    let stranger = world.enroll("web", "role=web");

    let told = world.controller.set_candidates(db, &[host("10.0.0.5:51820")]);
    let again = world.controller.set_candidates(db, &[host("10.0.0.5:51820")]);

    assert_eq!(told.into_iter().collect::<Vec<_>>(), [app]);
    assert!(again.is_empty(), "nothing new is told to nobody");
    assert_eq!(
        world.controller.candidates_for(app)[&db].candidates,
        [host("10.0.0.5:51820")]
    );
    assert!(world.controller.candidates_for(stranger).is_empty());
}

#[test]
fn a_node_that_has_lost_its_sessions_is_told_of_again() {
    let (mut world, db, app) = World::with_database();
    let at = [host("10.0.0.5:51820")];
    let mut told = Vec::new();
    for (connection, epoch) in [(1, 7), (2, 7), (3, 8)] {
        connect(&mut world, db, connection);
        world.controller.begin_epoch(db, connection, epoch);
        told.push(world.controller.set_candidates(db, &at).len());
    }
    world.controller.begin_epoch(db, 2, 7);

    assert_eq!(told, [1, 0, 1], "a connection alone loses no session");
    let news = &world.controller.candidates_for(app)[&db];
    assert_eq!((news.epoch, &news.candidates[..]), (8, &at[..]));
}

#[test]
fn peers_are_told_of_a_nodes_lanes_and_again_when_it_comes_back_with_others() {
    let (mut world, db, app) = World::with_database();
    let at = [host("10.0.0.5:51820")];
    let mut told = Vec::new();
    for (connection, lane_ports) in [(1, &[51821, 51822][..]), (2, &[51821, 51822]), (3, &[])] {
        connect(&mut world, db, connection);
        world.controller.set_lane_ports(db, connection, lane_ports);
        let listeners = world.controller.set_candidates(db, &at);
        let news = world.controller.candidates_for(app)[&db].clone();
        told.push((listeners.len(), news.lane_ports));
    }

    assert_eq!(
        told,
        [(1, vec![51821, 51822]), (0, vec![51821, 51822]), (1, vec![])]
    );
}

#[test]
fn a_node_may_not_claim_lanes_without_end() {
    let (mut world, db, _) = World::with_database();
    connect(&mut world, db, 1);

    world.controller.set_lane_ports(db, 1, &[7; 1000]);
    world.controller.set_lane_ports(db, 9, &[8]);

    let presence = world.controller.presence(db).unwrap();
    assert_eq!(
        presence.lane_ports,
        [7; LANES_MAX - 1],
        "of another connection nothing counts"
    );
}

#[test]
fn candidates_are_told_once_both_have_a_key() {
    let mut world = World::new();
    world.admin(apply(&database("ledger"))).unwrap();
    let (db, app) = (world.enroll("db", "role=db"), world.enroll("app", "role=app"));
    world.register(app, "ledger").unwrap();

    let early = world.controller.set_candidates(db, &[host("10.0.0.5:51820")]);
    let before = world.controller.candidates_for(app);
    world.register(db, "ledger").unwrap();
    let after = world.controller.candidates_for(app);

    assert!(
        early.is_empty() && before.is_empty(),
        "app would forget them: db is no peer yet"
    );
    assert_eq!(after[&db].candidates, [host("10.0.0.5:51820")]);
}

#[test]
fn a_node_is_told_again_of_what_has_changed_alone_and_of_a_peer_that_went_and_came_back() {
    let (mut world, db, app) = World::with_database();
    let other = world.enroll("app-2", "role=app");
    world.register(other, "ledger").unwrap();
    for (node, at) in [(app, "10.0.0.5:1"), (other, "10.0.0.6:1")] {
        connect(&mut world, node, 1);
        world.controller.set_candidates(node, &[host(at)]);
    }
    let mut told = BTreeMap::new();
    let mut tell = |world: &World| {
        let news = world.controller.news_beyond(&world.netmap(db), &mut told);
        let peers: Vec<_> = news.iter().map(|news| news.peer).collect();
        told.extend(news.into_iter().map(|news| (news.peer, news)));
        peers
    };

    let mut both = vec![app, other];
    both.sort_unstable();
    assert_eq!(tell(&world), both);
    assert_eq!(tell(&world), [], "nothing is new");
    world.controller.set_candidates(app, &[host("10.0.0.7:1")]);
    assert_eq!(tell(&world), [app]);
    world.controller.set_lane_ports(app, 1, &[7]);
    world.controller.set_candidates(app, &[host("10.0.0.7:1")]);
    assert_eq!(tell(&world), [app]);
    world.admin(relabel(other, "role=none", &[])).unwrap();
    assert_eq!(tell(&world), [], "it is no peer now");
    world.admin(relabel(other, "role=app", &[])).unwrap();
    world.register(other, "ledger").unwrap();
    assert_eq!(tell(&world), [other]);
}

#[test]
fn candidates_are_bounded_and_aim_at_one_machine() {
    let (mut world, db, app) = World::with_database();
    let mut many: Vec<_> = (1..40).map(|n| host(&format!("10.0.0.{n}:51820"))).collect();
    for nowhere in [
        "0.0.0.0:1",
        "224.0.0.1:1",
        "127.0.0.1:1",
        "10.0.0.1:0",
        "255.255.255.255:1",
        "[::]:1",
        "[ff02::1]:1",
    ] {
        many.insert(0, host(nowhere));
    }

    world.controller.set_candidates(db, &many);

    let kept = &world.controller.candidates_for(app)[&db].candidates;
    assert_eq!((kept.len(), kept[0]), (CANDIDATES_MAX, host("10.0.0.1:51820")));
}

#[test]
fn presence_of_a_removed_node_is_forgotten() {
    let (mut world, db, _) = World::with_database();
    connect(&mut world, db, 1);

    world.admin(Command::RemoveNode { node: db }).unwrap();

    assert!(world.controller.presence(db).is_none());
    connect(&mut world, db, 2);
    assert!(world.controller.presence(db).is_none());
}

#[test]
fn word_of_an_older_connection_that_comes_late_changes_nothing() {
    let (mut world, db, _) = World::with_database();
    connect(&mut world, db, 2);

    // Two connections raced to the core: the older one speaks last, and ends because it was replaced.
    connect(&mut world, db, 1);
    world.controller.disconnected(db, 1, world.wall);

    let held = world.controller.presence(db).unwrap().connection;
    assert_eq!(held.map(|connection| connection.id), Some(2));
}

#[test]
fn one_address_is_one_candidate_whatever_it_is_called() {
    let (mut world, db, _) = World::with_database();
    let address = "192.0.2.1:51820".parse().unwrap();
    let both = [CandidateKind::Host, CandidateKind::ServerReflexive].map(|kind| Candidate { address, kind });

    world.controller.set_candidates(db, &both);

    assert_eq!(world.controller.presence(db).unwrap().candidates, both[..1]);
}
