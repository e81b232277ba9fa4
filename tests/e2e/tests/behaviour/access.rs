//! Access on request, asked for by an administrator for a node: it opens nothing before it is granted, and what it opened
//! ends with it. What people ask for at their own machines is among the tests of people.

use std::time::{Duration, Instant};

use ringfence_e2e::{Answer, Live};
use ringfence_lab::{Reach, wait_until};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, BRIEFLY, SOON, Shop, policy};

/// A perimeter whose members may break the glass.
fn breakable() -> String {
    policy(&[API_TO_DB]).replace("criticality", "break_glass = \"review\"\ncriticality")
}

/// `ringfence access request` for the web server, as JSON.
fn request(shop: &Shop, more: &[&str]) -> Value {
    let args = [
        "access",
        "request",
        "--node",
        "web",
        "--perimeter",
        "shop",
        "--to",
        "db",
    ];
    let why = ["--port", "tcp/22", "--reason", "the shop is down"];
    let args = [&args[..], &why[..], more].concat();
    shop.mesh.json(args).unwrap()["access"].clone()
}

fn standings(shop: &Shop) -> Vec<Value> {
    let list = shop.mesh.json(["access", "ls"]).unwrap();
    let each = list["access"].as_array().unwrap().iter();
    each.map(|access| access["standing"].clone()).collect()
}

fn post(shop: &Shop, access: &Value, word: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/access/{}/{word}", access["id"]);
    shop.mesh.api().unwrap().post(&path, body).unwrap()
}

/// What was granted lets a connection through.
fn live(shop: &Shop) -> Live {
    shop.mesh.wait_enforced().unwrap();
    let at = Shop::at(&shop.db).v4(22);
    let server = shop.db.host().serve(at).unwrap();
    wait_until(SOON, "what was granted to open", || {
        shop.web.host().try_tcp(at, BRIEFLY) == Reach::Open
    })
    .unwrap();
    drop(server);
    Live::open(shop.web.host(), shop.db.host(), at.ip(), 22).unwrap()
}

fn assert_shut(shop: &Shop) {
    let at = Shop::at(&shop.db).v4(22);
    let _server = shop.db.host().serve(at).unwrap();
    assert_ne!(shop.web.host().try_tcp(at, BRIEFLY), Reach::Open);
}

#[test]
fn what_is_asked_for_opens_nothing_and_who_asked_cannot_approve_it() {
    let shop = Shop::start("accessasked");
    shop.mesh.apply_and_wait(&breakable()).unwrap();

    let asked = request(&shop, &["--for", "2h"]);

    assert_eq!(
        (&asked["standing"], &asked["ports"]),
        (&json!("waiting"), &json!(["tcp/22"]))
    );
    shop.mesh.wait_enforced().unwrap();
    assert_shut(&shop);
    let own = post(&shop, &asked, "approve", &json!({}));
    assert_eq!(
        (own.status, &own.json().unwrap()["type"]),
        (403, &json!("urn:ringfence:problem:own-access"))
    );
    assert_shut(&shop);
    let audit = shop.mesh.cli(["audit"]).unwrap().text().unwrap();
    assert!(
        audit.contains("the shop is down") && audit.contains("is your own"),
        "{audit}"
    );
    shop.mesh
        .cli(["access", "deny", "1", "--reason", "no"])
        .unwrap()
        .text()
        .unwrap();
    assert_eq!(standings(&shop), [] as [Value; 0]);
    assert_shut(&shop);
}

#[test]
fn a_broken_glass_opens_at_once_ends_by_a_word_and_is_listed_until_somebody_else_reviews_it() {
    let shop = Shop::start("accessglass");
    shop.mesh.apply_and_wait(&breakable()).unwrap();
    assert_shut(&shop);

    let opened = request(&shop, &["--for", "1h", "--break-glass"]);

    assert_eq!(opened["standing"], "open", "{opened}");
    assert!(opened["review_by_ms"].is_u64(), "{opened}");
    let ordinary = shop.live();
    let granted = live(&shop);
    let answer = post(&shop, &opened, "end", &Value::Null).ok().unwrap();
    granted.cut_by(&answer).unwrap();
    let report = answer.json().unwrap();
    assert_eq!(report["changes"][0]["change"], "closes", "{report}");
    let revision = report["revision"].as_str().unwrap();
    let receipt = shop.mesh.json(["receipt", revision, "--wait"]).unwrap();
    assert_eq!(receipt["complete"], true, "{receipt}");
    assert_shut(&shop);
    ordinary.exchange(SOON).unwrap();
    assert_eq!(standings(&shop), [json!("closed")]);
    let own = post(&shop, &opened, "review", &json!({ "reason": "all is well" }));
    assert_eq!(own.status, 403);
    assert_eq!(standings(&shop), [json!("closed")]);
}

#[test]
fn what_is_granted_ends_by_the_clock_and_cuts_what_is_live() {
    let shop = Shop::start("accessclock");
    shop.mesh.apply_and_wait(&breakable()).unwrap();
    let asked_at = Instant::now();
    request(&shop, &["--for", "1m", "--break-glass"]);
    let granted = live(&shop);
    let ordinary = shop.live();

    let (client, server) = granted.wait_cut(MINUTE + SOON).unwrap();

    assert!(client.is_reset() && server.is_reset(), "{client:?}, {server:?}");
    for cut in [client, server] {
        let after = cut.at.duration_since(asked_at);
        assert!(MINUTE_OR_SO.contains(&after), "cut after {after:?}");
    }
    assert_shut(&shop);
    ordinary.exchange(SOON).unwrap();
    assert_eq!(standings(&shop), [json!("closed")]);
}

const MINUTE: Duration = Duration::from_mins(1);
/// It ends with a whole second, so up to one early.
const MINUTE_OR_SO: std::ops::Range<Duration> = Duration::from_secs(59)..Duration::from_secs(62);
