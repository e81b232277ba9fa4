//! Quarantine and locks: what exists is cut, what comes is refused, and when the lock goes all is as before.

use std::time::{Duration, Instant};

use ringfence_e2e::{Answer, Live, Mesh, Node, NodeOptions};
use ringfence_lab::{Reach, wait_until};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow};

fn lock(mesh: &Mesh, body: &Value) -> Answer {
    mesh.api()
        .unwrap()
        .post("/api/v1/locks", body)
        .unwrap()
        .ok()
        .unwrap()
}

/// A database that anyone may ask is not reached.
fn assert_shut(shop: &Shop) {
    let at = Shop::at(&shop.db).v6(5432);
    let _server = shop.db.host().serve(at).unwrap();
    assert_ne!(shop.api.host().try_tcp(at, BRIEFLY), Reach::Open);
}

/// Until a connection gets through: nothing was restarted meanwhile.
fn opens_again(shop: &Shop) {
    let at = Shop::at(&shop.db).v6(5432);
    let _server = shop.db.host().serve(at).unwrap();
    wait_until(SOON, "the way to be open again", || {
        shop.api.host().try_tcp(at, BRIEFLY) == Reach::Open
    })
    .unwrap();
}

#[test]
fn a_quarantined_node_is_cut_off_but_for_who_is_kept_and_comes_back_by_release() {
    let shop = Shop::open("quarantine", &[API_TO_DB, allow("web", "db", "tcp/22")]);
    let db = Shop::at(&shop.db);
    let live = shop.live();
    let kept = Live::open(shop.web.host(), shop.db.host(), db.v4.into(), 22).unwrap();

    let body = json!({ "target": "node:db", "keep": ["node:web"], "reason": "odd traffic" });
    let answer = lock(&shop.mesh, &body);

    live.cut_by(&answer).unwrap();
    shop.mesh.wait_enforced().unwrap();
    assert_shut(&shop);
    assert!(
        shop.db.peer(SHOP, "api").unwrap().is_none(),
        "its key is not told any more"
    );
    assert!(shop.api.peer(SHOP, "db").unwrap().is_none());
    assert!(shop.db.peer(SHOP, "web").unwrap().is_some());
    kept.exchange(SOON).unwrap();
    let shown = shop.mesh.json(["node", "show", "db"]).unwrap();
    assert_eq!(shown["locks"][0]["reason"], "odd traffic", "{shown}");
    assert_eq!(
        shop.mesh.json(["locks"]).unwrap()["locks"][0]["keep"],
        json!(["web"])
    );
    let revision = answer.json().unwrap()["revision"].as_str().unwrap().to_owned();
    let receipt = shop.mesh.json(["receipt", &revision, "--wait"]).unwrap();
    assert_eq!(
        (&receipt["complete"], &receipt["pending"]),
        (&json!(true), &json!([])),
        "{receipt}"
    );
    assert!(receipt["p99_ms"].as_u64().unwrap() <= receipt["max_ms"].as_u64().unwrap());
    assert!(
        receipt["enforced"]
            .as_array()
            .unwrap()
            .iter()
            .any(|ack| ack["node"] == "db")
    );

    wait_until(Duration::from_secs(20), "the receipt to be in the log", || {
        let audit = shop.mesh.cli(["audit"]).unwrap().text().unwrap();
        audit.contains(&format!("revision {revision} was enforced by"))
    })
    .unwrap();

    shop.mesh.cli(["release", "node:db"]).unwrap().text().unwrap();

    opens_again(&shop);
    kept.exchange(SOON).unwrap();
    assert_eq!(shop.mesh.json(["locks"]).unwrap()["locks"], json!([]));
    let again = shop.mesh.cli(["release", "node:db"]).unwrap().text();
    assert!(again.is_err(), "there is nothing to release");
}

#[test]
fn a_lock_on_a_perimeter_or_label_cuts_all_of_it_and_ends_by_itself() {
    let shop = Shop::open("locked", &[API_TO_DB, allow("web", "db", "tcp/22")]);
    for target in ["perimeter:shop", "label:role=api"] {
        let live = shop.live();
        let other = Live::open(shop.web.host(), shop.db.host(), Shop::at(&shop.db).v4.into(), 22).unwrap();
        let set_at = Instant::now();

        let answer = lock(&shop.mesh, &json!({ "target": target, "ttl_seconds": 5 }));

        live.cut_by(&answer).unwrap();
        match target {
            "perimeter:shop" => other.cut_by(&answer).unwrap(),
            _ => other.exchange(SOON).unwrap(),
        }
        assert_shut(&shop);
        opens_again(&shop);
        assert!(
            set_at.elapsed() >= Duration::from_secs(5),
            "{target} was opened early"
        );
        assert_eq!(shop.mesh.json(["locks"]).unwrap()["locks"], json!([]));
    }
}

#[test]
fn a_locked_join_token_admits_nobody_until_it_is_unlocked() {
    let mut shop = Shop::start("lockedtoken");
    let host = shop.mesh.bare_host("late").unwrap();
    let token = shop.mesh.token(&["role=api"]).unwrap();
    let newest = &shop.mesh.json(["token", "ls"]).unwrap()["tokens"][0]["id"];
    let target = format!("token:{}", newest.as_str().unwrap());
    shop.mesh
        .cli(["lock", &target, "--reason", "leaked"])
        .unwrap()
        .text()
        .unwrap();

    let refused = Node::enroll(&host, "late", &token, NodeOptions::default());

    let refused = format!("{:#}", refused.err().unwrap());
    assert!(refused.contains("is locked"), "{refused}");
    shop.mesh.cli(["unlock", &target]).unwrap().text().unwrap();
    Node::enroll(&host, "late", &token, NodeOptions::default()).unwrap();
}
