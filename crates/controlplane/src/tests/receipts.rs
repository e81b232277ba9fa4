//! Receipts of revisions.

use std::time::Duration;

use ringfence_control::api;

use super::presence::connect;
use super::world::*;
use crate::{Command, Controller, Event, ReceiptEvent, Refusal};

impl World {
    fn receipt(&self) -> api::RevisionReceipt {
        let newest = self.controller.revision();
        self.controller.revision_receipt(newest).unwrap()
    }
}

/// The rule's port moves: what is open is cut.
fn cut() -> Command {
    apply(&database("ledger").replace("5432", "5433"))
}

#[test]
fn a_receipt_says_who_enforces_a_change_and_after_how_long() {
    let (mut world, db, app) = World::with_database();
    let bystander = world.enroll("web", "role=web");
    for (id, node) in [db, app, bystander].into_iter().enumerate() {
        connect(&mut world, node, id as u64 + 1);
    }
    world.admin(cut()).unwrap();
    let (made, revision) = (world.wall, world.controller.revision());

    world.pass(Duration::from_millis(20));
    world.controller.enforced(db, revision, 150, world.wall);
    let half = world.receipt();
    world.pass(Duration::from_millis(15));
    world.controller.enforced(app, revision, 90, world.wall);
    let whole = world.receipt();

    assert_eq!((half.complete, half.pending), (false, vec![name("app")]));
    assert_eq!((half.p50_ms, half.max_ms), (Some(20), Some(20)));
    assert_eq!(
        (whole.told, whole.made_ms),
        (2, Some(made)),
        "the third has no part in it"
    );
    assert!(whole.complete && whole.pending.is_empty() && whole.offline.is_empty());
    let acks: Vec<_> = whole
        .enforced
        .iter()
        .map(|ack| (ack.node.as_str(), ack.after_ms, ack.took_us))
        .collect();
    assert_eq!(acks, [("app", 35, 90), ("db", 20, 150)]);
    assert_eq!(
        (whole.p50_ms, whole.p99_ms, whole.max_ms),
        (Some(20), Some(35), Some(35))
    );
    assert_eq!(whole.closed_by_ms, None);
}

#[test]
fn who_is_away_is_listed_with_the_end_of_its_lease_and_late_once_it_is_back() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, app, 2);
    world.controller.disconnected(app, 2, world.wall);
    let lease = world.controller.policy(&name("ledger")).unwrap().lease;
    let end = world.wall.saturating_add(lease);
    world.pass(Duration::from_secs(30));
    world.admin(cut()).unwrap();
    let revision = world.controller.revision();
    world.controller.enforced(db, revision, 1, world.wall);

    let away = world.receipt();
    world.pass(Duration::from_secs(30));
    connect(&mut world, app, 3);
    let back = world.receipt();
    world.controller.enforced(app, revision, 1, world.wall);
    let late = world.receipt();

    assert!(away.complete);
    assert_eq!(away.offline[0].node, name("app"));
    assert_eq!(
        (away.offline[0].closed_by_ms, away.closed_by_ms),
        (Some(end), Some(end))
    );
    assert_eq!(
        (back.complete, back.pending, back.offline.len()),
        (false, vec![name("app")], 0)
    );
    assert!(late.complete && late.enforced[0].was_away && late.enforced[0].after_ms == 30_000);
    assert_eq!(late.max_ms, Some(0), "who was away delayed nobody");
}

#[test]
fn who_leaves_a_perimeter_while_away_acts_by_the_lease_it_had_there() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    world.controller.begin(world.wall);
    let lease = world.controller.policy(&name("ledger")).unwrap().lease;
    let end = world.wall.saturating_add(lease);

    world.admin(relabel(app, "role=retired", &[])).unwrap();

    assert_eq!(world.controller.lease_of(app), Duration::ZERO);
    assert_eq!(world.receipt().closed_by_ms, Some(end));
}

#[test]
fn of_a_revision_from_before_a_restart_is_told_who_enforces_it() {
    let (mut world, db, app) = World::with_database();
    world.controller = Controller::load(Some(world.controller.snapshot()), []).unwrap();
    let unknown = world.receipt();
    connect(&mut world, db, 1);
    world
        .controller
        .enforced(db, world.controller.revision(), 1, world.wall);

    let receipt = world.receipt();

    assert_eq!(
        (unknown.offline.len(), unknown.closed_by_ms),
        (2, None),
        "it is not known when it began"
    );
    assert_eq!(
        (receipt.more_enforced, receipt.p50_ms, receipt.made_ms),
        (1, None, None)
    );
    assert_eq!(receipt.offline[0].id, app);
    assert!(
        world
            .controller
            .revision_receipt(world.controller.revision().next())
            .is_none()
    );
}

#[test]
fn the_log_has_the_receipt_of_what_was_taken_away_and_of_nothing_else() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, app, 2);
    world.controller.disconnected(app, 2, world.wall);
    let after = Duration::from_secs(10);
    world.pass(after);
    // What became known of nodes while the mesh was set up took nothing away.
    let _ = world.system(Command::RecordReceipts);
    world.token("role=db", 1);
    assert_eq!(
        world.controller.poll_receipts(),
        None,
        "a token takes nothing away"
    );
    world.admin(cut()).unwrap();
    let revision = world.controller.revision();
    world.pass(Duration::from_millis(20));
    world.controller.enforced(db, revision, 150, world.wall);
    assert_eq!(
        world.system(Command::RecordReceipts).unwrap_err(),
        Refusal::Unchanged,
        "it is not due"
    );

    world.pass(after);
    assert!(world.controller.poll_receipts().unwrap() <= world.wall);
    let change = world.system(Command::RecordReceipts).unwrap();

    let [Event::Receipts(event)] = &change.events[..] else {
        panic!("{:?}", change.events);
    };
    let ReceiptEvent::ReceiptsRecorded { receipts } = event.as_ref();
    let [receipt] = &receipts[..] else {
        panic!("{receipts:?}");
    };
    assert_eq!(
        (receipt.revision, receipt.told, receipt.enforced),
        (revision, 2, 1)
    );
    assert_eq!((receipt.p50_ms, receipt.max_ms), (20, 20));
    assert_eq!(receipt.pending, []);
    let [(away, Some(_))] = receipt.offline[..] else {
        panic!("{receipt:?}");
    };
    assert_eq!(away, app);
    let entry = crate::audit_entry(&change);
    let said = format!("revision {revision} was enforced by 1 of 2 nodes, after p50 20 ms");
    assert!(entry.summary.contains(&said), "{}", entry.summary);
    assert!(world.pushes.is_empty(), "nobody is told of it");
    assert_eq!(world.controller.poll_receipts(), None, "it is recorded once");
}

#[test]
fn receipts_make_one_entry_however_much_is_taken_away() {
    let (mut world, db, app) = World::with_database();
    connect(&mut world, db, 1);
    connect(&mut world, app, 2);
    for port in 6000..6040 {
        let text = database("ledger").replace("5432", &port.to_string());
        world.admin(apply(&text)).unwrap();
        world.pass(Duration::from_millis(100));
    }
    world.pass(Duration::from_secs(10));

    let change = world.system(Command::RecordReceipts).unwrap();

    let ReceiptEvent::ReceiptsRecorded { receipts } = match &change.events[..] {
        [Event::Receipts(event)] => event.as_ref(),
        other => panic!("{other:?}"),
    };
    assert!(receipts.len() >= 40, "{}", receipts.len());
    assert!(
        receipts
            .iter()
            .rev()
            .take(40)
            .all(|receipt| receipt.pending.len() == 2)
    );
    world.admin(cut()).unwrap();
    let next = world.controller.poll_receipts().unwrap();
    assert!(next >= change.at.saturating_add(Duration::from_secs(10)));
}
