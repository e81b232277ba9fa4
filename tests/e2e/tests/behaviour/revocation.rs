//! What policy no longer allows ends at once: live connections are reset, idle peers lose their keys.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_e2e::{Device, Live, Postgres, Session, Stranger};
use serde_json::json;

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow, policy};

#[test]
fn a_removed_rule_resets_live_connections_and_takes_idle_peers_keys() {
    let both = [
        API_TO_DB,
        allow("web", "db", "tcp/443"),
        allow("web", "api", "tcp/443"),
    ];
    let shop = Shop::open("removedrule", &both);
    let (db, api) = (Shop::at(&shop.db), Shop::at(&shop.api));
    let live = shop.live();
    let untouched = Live::open(shop.web.host(), shop.api.host(), api.v6.into(), 443).unwrap();
    // The web server has a session with the database, and nothing on it.
    drop(Live::open(shop.web.host(), shop.db.host(), db.v4.into(), 443).unwrap());

    let answer = shop.mesh.api().unwrap().apply(&policy(&both[2..])).unwrap();

    live.cut_by(&answer).unwrap();
    let receipt = shop.mesh.wait_enforced().unwrap();
    assert_eq!(receipt["complete"], true, "{receipt}");
    assert_eq!(
        (&receipt["connected"], &receipt["enforced"]),
        (&json!(3), &json!(3)),
        "{receipt}"
    );
    assert!(
        receipt["took_ms"].is_u64() && receipt["slowest"]["node"].is_string(),
        "{receipt}"
    );
    assert_eq!(shop.db.segment(SHOP).unwrap()["peers"], json!([]));
    let shown = shop
        .db
        .host()
        .command("wg")
        .args(["show", "rf-shop", "peers"])
        .text()
        .unwrap();
    assert_eq!(shown, "", "no key is left");
    for node in [&shop.api, &shop.web] {
        let (key, at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());
        let mut old = Stranger::new(node.host(), node.private_key(SHOP).unwrap(), &key, at).unwrap();
        assert!(
            !old.shake(BRIEFLY).unwrap(),
            "the key of {} still opens a session",
            node.name()
        );
    }
    untouched.exchange(SOON).unwrap();
}

#[test]
fn a_changed_label_resets_live_connections() {
    let shop = Shop::open("label", &[API_TO_DB]);
    let db = Shop::at(&shop.db);
    let live = Live::open(shop.api.host(), shop.db.host(), db.v6.into(), 5432).unwrap();

    let change = json!({ "set_labels": { "role": "retired" } });
    let api = shop.mesh.api().unwrap();
    let answer = api
        .request("PATCH", "/api/v1/nodes/api", Some(&change))
        .unwrap()
        .ok()
        .unwrap();

    live.cut_by(&answer).unwrap();
    shop.mesh.wait_enforced().unwrap();
    assert!(shop.api.segment(SHOP).is_err(), "who is no member has no segment");
    assert!(shop.db.peer(SHOP, "api").unwrap().is_none());
}

#[test]
fn a_removed_node_loses_its_connections_and_its_place() {
    let shop = Shop::open("removednode", &[API_TO_DB]);
    let live = shop.live();
    let key = shop.api.private_key(SHOP).unwrap();

    let api = shop.mesh.api().unwrap();
    let answer = api
        .request("DELETE", "/api/v1/nodes/api", None)
        .unwrap()
        .ok()
        .unwrap();

    live.cut_by(&answer).unwrap();
    shop.mesh.wait_enforced().unwrap();
    assert!(shop.db.peer(SHOP, "api").unwrap().is_none());
    let (db_key, db_at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());
    let mut old = Stranger::new(shop.api.host(), key, &db_key, db_at).unwrap();
    assert!(!old.shake(BRIEFLY).unwrap());
    let links = shop
        .api
        .host()
        .command("ip")
        .args(["-br", "link"])
        .text()
        .unwrap();
    assert!(
        !links.contains("rf-"),
        "a removed node keeps no interface: {links}"
    );
}

#[test]
fn a_removed_perimeter_resets_live_connections() {
    let shop = Shop::open("removedperimeter", &[API_TO_DB]);
    let live = shop.live();

    let api = shop.mesh.api().unwrap();
    let answer = api
        .request("DELETE", "/api/v1/perimeters/shop", None)
        .unwrap()
        .ok()
        .unwrap();

    live.cut_by(&answer).unwrap();
    shop.mesh.wait_enforced().unwrap();
    for node in [&shop.db, &shop.api, &shop.web] {
        assert_eq!(node.status().unwrap()["segments"], json!([]));
    }
}

#[test]
fn a_removed_device_is_reset_too() {
    let mut shop = Shop::open("removeddevice", &[allow("device", "db", "tcp/5432")]);
    let host = shop.mesh.bare_host("device").unwrap();
    let device = Device::add(&shop.mesh, &host, "device", SHOP, &["role=device"]).unwrap();
    shop.mesh.wait_enforced().unwrap();
    device.up().unwrap();
    let live = Live::open(&host, shop.db.host(), Shop::at(&shop.db).v4.into(), 5432).unwrap();

    let api = shop.mesh.api().unwrap();
    let answer = api
        .request("DELETE", "/api/v1/peers/device", None)
        .unwrap()
        .ok()
        .unwrap();

    live.cut_by(&answer).unwrap();
    assert!(shop.db.peer(SHOP, "device").unwrap().is_none());
    assert_ne!(
        host.try_tcp(Shop::at(&shop.db).v4(5432), BRIEFLY),
        ringfence_lab::Reach::Open
    );
}

#[test]
fn a_device_and_a_rule_that_expire_are_cut_when_they_do() {
    let mut shop = Shop::start("expiry");
    let until = shop
        .db
        .host()
        .command("date")
        .args(["-u", "-d", "+8 sec", "+%Y-%m-%dT%H:%M:%SZ"])
        .text()
        .unwrap();
    let expiring = policy(&[API_TO_DB, allow("device", "db", "tcp/22")]);
    let first_rule = "ports = [\"tcp/5432\"]\n";
    let expiring = expiring.replace(first_rule, &format!("{first_rule}expires = {}\n", until.trim()));
    shop.mesh.apply_and_wait(&expiring).unwrap();
    let live = shop.live();
    let host = shop.mesh.bare_host("device").unwrap();
    let key = host.command("wg").arg("genkey").text().unwrap();
    let public_key = host.command("wg").arg("pubkey").input(&key).text().unwrap();
    let add = [
        "peer",
        "add",
        "guest",
        "--perimeter",
        SHOP,
        "--label",
        "role=device",
        "--expires",
        "3s",
    ];
    shop.mesh
        .cli(add)
        .unwrap()
        .args(["--public-key", public_key.trim()])
        .text()
        .unwrap();
    shop.db.wait_peer(SHOP, "guest").unwrap();

    ringfence_lab::wait_until(SOON, "the guest to be gone", || {
        shop.db.peer(SHOP, "guest").is_ok_and(|peer| peer.is_none())
    })
    .unwrap();
    assert_eq!(shop.mesh.json(["peer", "ls"]).unwrap()["peers"], json!([]));
    assert!(live.is_open(), "the rule still has time");

    // From here on the nodes are alone: a rule ends by their own clocks.
    shop.mesh.kill_controller();
    let (client, server) = live.wait_cut(SOON).unwrap();
    assert!(client.is_reset() && server.is_reset(), "{client:?} {server:?}");
    assert_ne!(
        shop.api.host().try_tcp(Shop::at(&shop.db).v4(5432), BRIEFLY),
        ringfence_lab::Reach::Open
    );
}

#[test]
fn a_datagram_flow_that_is_revoked_is_told_so() {
    let shop = Shop::open("udp", &[allow("api", "db", "udp/5353"), API_TO_DB]);
    let mut sockets = Vec::new();
    for at in Shop::at(&shop.db).both(5353) {
        let any: SocketAddr = if at.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let server = shop.db.host().serve(at).unwrap();
        let socket = shop.api.host().udp_bind(any).unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send(b"before").unwrap();
        socket.recv(&mut [0; 16]).unwrap();
        sockets.push((at, socket, server));
    }

    shop.enforce(&[API_TO_DB]);

    for (at, socket, server) in sockets {
        let told = socket.recv(&mut [0; 16]).unwrap_err();
        let (unreachable, prohibited) = (113, 13);
        assert!(
            matches!(told.raw_os_error(), Some(code) if code == unreachable || code == prohibited),
            "{at}: {told:?}"
        );
        let before = server.datagrams();
        let _ = socket.send(b"after");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.datagrams(), before, "{at}");
    }
}

#[test]
fn a_database_session_ends_when_its_rule_does() {
    let shop = Shop::open("psql", &[API_TO_DB]);
    let _postgres = Postgres::start(shop.db.host()).unwrap();
    let db = Shop::at(&shop.db);
    assert_eq!(
        Postgres::query(shop.api.host(), db.v4.into(), "SELECT amount FROM ledger").unwrap(),
        "42"
    );
    let session = Session::open(shop.api.host(), db.v6.into(), "psql").unwrap();

    let answer = shop.mesh.api().unwrap().apply(&policy(&[])).unwrap();

    let cut = session.wait_cut(SOON).unwrap();
    let late = cut.saturating_duration_since(answer.at);
    assert!(
        late < Duration::from_secs(1),
        "psql noticed after {late:?}: {}",
        session.log()
    );
    assert!(Postgres::query(shop.api.host(), db.v4.into(), "SELECT 1").is_err());
}
