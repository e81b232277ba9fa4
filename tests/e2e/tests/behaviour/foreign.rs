//! Debian's own WireGuard, configured from what `ringfence peer add` printed and nothing else.

use std::time::Duration;

use ringfence_e2e::{Device, Live, Node, base64_of, random_bytes};
use ringfence_lab::{Host, Reach, wait_until};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow};

/// A device added, its interface not up yet.
pub(crate) fn device(shop: &mut Shop, name: &str) -> Device {
    let host = shop.mesh.bare_host(name).unwrap();
    let device = Device::add(&shop.mesh, &host, name, SHOP, &["role=device"]).unwrap();
    shop.mesh.wait_enforced().unwrap();
    device
}

/// The file of a device that never speaks first, at a port it keeps.
fn quiet(config: &str) -> String {
    config
        .replace("MTU = ", "ListenPort = 51999\nMTU = ")
        .replace("PersistentKeepalive = 25", "")
}

/// Has the node begin the next handshake: the device forgets its session and waits.
pub(crate) fn node_initiates(node: &Node, device: &Device) {
    device.up_with(device.private_key(), quiet).unwrap();
    assert_eq!(device.host().try_tcp(Shop::at(node).v4(5432), SOON), Reach::Open);
    device.down().unwrap();
    device.up_with(device.private_key(), quiet).unwrap();
    assert_eq!(
        device.latest_handshake().unwrap(),
        0,
        "the device has forgotten its session"
    );
    // What the node sends is not answered; after 15 s it starts anew (whitepaper 6.5).
    let at = device.overlay().unwrap().v4(9000);
    wait_until(Duration::from_secs(40), "the node to begin a handshake", || {
        node.host().try_udp(at, Duration::from_millis(500));
        device.latest_handshake().is_ok_and(|at| at > 0)
    })
    .unwrap();
}

#[test]
fn a_stock_client_shakes_hands_in_both_roles_and_carries_only_what_is_allowed() {
    let rules = [
        API_TO_DB,
        allow("device", "db", "tcp/5432"),
        allow("db", "device", "udp/9000"),
        allow("device", "db", "icmp"),
    ];
    let mut shop = Shop::open("stock", &rules);
    let device = device(&mut shop, "laptop");
    let (db, own) = (Shop::at(&shop.db), device.overlay().unwrap());
    assert!(
        device.config().contains(&shop.db.public_key(SHOP).unwrap()),
        "{}",
        device.config()
    );
    assert!(
        !device.config().contains(&shop.api.public_key(SHOP).unwrap()),
        "no rule, no key: {}",
        device.config()
    );
    let _open: Vec<_> = db.both(5432).map(|at| shop.db.host().serve(at).unwrap()).into();
    let closed: Vec<_> = db.both(22).map(|at| shop.db.host().serve(at).unwrap()).into();

    device.up().unwrap();

    for at in db.both(5432) {
        assert_eq!(device.host().try_tcp(at, SOON), Reach::Open, "{at}");
        assert_eq!(device.host().try_ping(at.ip(), SOON), Reach::Open, "{at}");
    }
    for at in db.both(22) {
        assert_eq!(device.host().try_tcp(at, BRIEFLY), Reach::Silent, "{at}");
        assert_eq!(device.host().try_udp(at, BRIEFLY), Reach::Silent, "{at}");
    }
    assert_eq!(
        closed
            .iter()
            .map(|server| server.connections() + server.datagrams())
            .sum::<usize>(),
        0
    );
    assert!(shop.db.drops("not_allowed").unwrap() > 0);
    for at in own.both(9000) {
        let _server = device.host().serve(at).unwrap();
        assert_eq!(shop.db.host().try_udp(at, SOON), Reach::Open, "{at}");
    }
    assert_eq!(device.listed(&shop.mesh).unwrap()["reaches"][0], "db");

    device.down().unwrap();
    node_initiates(&shop.db, &device);
    assert_eq!(device.host().try_tcp(db.v4(5432), SOON), Reach::Open);
}

#[test]
fn a_stock_client_keeps_its_connection_while_it_roams() {
    let mut shop = Shop::open("roams", &[allow("device", "db", "tcp/5432")]);
    let device = device(&mut shop, "laptop");
    device.up().unwrap();
    let live = Live::open(device.host(), shop.db.host(), Shop::at(&shop.db).v4.into(), 5432).unwrap();

    // Another port, as behind a router that has been restarted.
    device
        .host()
        .command("wg")
        .args(["set", "wg0", "listen-port", "51777"])
        .text()
        .unwrap();
    live.exchange(SOON).unwrap();
    assert_eq!(
        shop.db.peer(SHOP, "laptop").unwrap().unwrap()["endpoint"],
        "10.77.0.14:51777"
    );
    // Another address. Debian's wireguard-go sticks to the one that is gone until it shakes hands anew, 15 s later, and
    // TCP has become patient by then.
    device
        .host()
        .set_addresses(shop.mesh.lan(), &["10.77.0.199/24", "fd77::199/64"])
        .unwrap();
    live.exchange(Duration::from_mins(1)).unwrap();

    let peer = shop.db.peer(SHOP, "laptop").unwrap().unwrap();
    assert!(
        peer["endpoint"].as_str().unwrap().starts_with("10.77.0.199:"),
        "{peer}"
    );
}

#[test]
fn a_stock_client_with_a_key_that_is_not_on_the_allowlist_gets_silence() {
    let mut shop = Shop::open("wrongkey", &[allow("device", "db", "tcp/5432")]);
    let device = device(&mut shop, "laptop");
    let _server = shop.db.host().serve(Shop::at(&shop.db).v4(5432)).unwrap();

    device
        .up_with(&base64_of(random_bytes().unwrap()), str::to_owned)
        .unwrap();

    assert_eq!(
        device
            .host()
            .try_tcp(Shop::at(&shop.db).v4(5432), Duration::from_secs(6)),
        Reach::Silent
    );
    assert_eq!(device.latest_handshake().unwrap(), 0);
    let transfer = device.wg("transfer").unwrap();
    let words: Vec<&str> = transfer.split_whitespace().collect();
    assert_eq!(words[1], "0", "not one byte came back: {transfer}");
    assert_ne!(words[2], "0", "it did try: {transfer}");

    // The same machine with its own key is let in.
    device.down().unwrap();
    device.up().unwrap();
    assert_eq!(
        device.host().try_tcp(Shop::at(&shop.db).v4(5432), SOON),
        Reach::Open
    );
}

#[test]
fn wg_show_prints_our_interfaces() {
    let shop = Shop::open("wgshow", &[API_TO_DB]);
    let _live = shop.live();
    let db = Shop::at(&shop.db);

    let show = |host: &Host, what: &str| host.command("wg").args(["show", "rf-shop", what]).text().unwrap();
    assert_eq!(
        shop.db
            .host()
            .command("wg")
            .args(["show", "interfaces"])
            .text()
            .unwrap()
            .trim(),
        "rf-shop"
    );
    // `wg` would make the public key from the private one, which is told to nobody.
    assert_eq!(show(shop.db.host(), "private-key").trim(), "(none)");
    assert_eq!(show(shop.db.host(), "listen-port").trim(), "51820");
    let (handshakes, allowed) = (
        show(shop.api.host(), "latest-handshakes"),
        show(shop.api.host(), "allowed-ips"),
    );
    assert!(
        handshakes.starts_with(&shop.db.public_key(SHOP).unwrap()),
        "{handshakes}"
    );
    assert!(!handshakes.trim().ends_with("\t0"), "{handshakes}");
    assert!(
        allowed.contains(&format!("{}/32", db.v4)) && allowed.contains(&format!("{}/128", db.v6)),
        "{allowed}"
    );
    assert!(
        show(shop.api.host(), "transfer")
            .split_whitespace()
            .skip(1)
            .all(|bytes| bytes != "0")
    );
    let secret = base64_of(shop.db.private_key(SHOP).unwrap());
    let all = shop
        .db
        .host()
        .command("wg")
        .args(["show", "all", "dump"])
        .text()
        .unwrap();
    assert!(!all.contains(&secret), "the private key is nobody's business");
    // Nor can anybody set anything.
    let set = shop
        .db
        .host()
        .command("wg")
        .args(["set", "rf-shop", "peer", &base64_of([9; 32]), "remove"])
        .run()
        .unwrap();
    assert!(!set.status.success(), "{}", set.all());
}

/// A firewall in front of this host that lets in what was asked for, and nothing else.
fn let_answers_in_only(host: &Host) {
    let rules = "table inet gate {\nchain arriving {\ntype filter hook input priority 0;\n\
         meta l4proto udp ct state != established drop\n}\n}\n";
    host.command("nft").args(["-f", "-"]).input(rules).text().unwrap();
}

#[test]
fn a_host_with_two_addresses_answers_from_the_one_it_was_asked_at() {
    let mut shop = Shop::open("twoaddresses", &[allow("device", "db", "tcp/5432")]);
    let device = device(&mut shop, "laptop");
    let host = shop.db.host();
    let usual = host.addresses();
    for more in ["10.77.0.99/24", "fd77::99/64"] {
        host.command("ip")
            .args(["addr", "add", more, "dev", "eth0"])
            .text()
            .unwrap();
    }
    let db = Shop::at(&shop.db);
    let _open: Vec<_> = db.both(5432).map(|at| host.serve(at).unwrap()).into();
    let_answers_in_only(device.host());

    for asked in [usual[0].to_string(), "10.77.0.99".into(), "[fd77::99]".into()] {
        let edit = |config: &str| {
            let lines = config.lines().map(|line| match line.strip_prefix("Endpoint = ") {
                Some(endpoint) => {
                    let (_, port) = endpoint.rsplit_once(':').unwrap();
                    format!("Endpoint = {asked}:{port}\n")
                }
                None => format!("{line}\n"),
            });
            lines.collect()
        };
        device.up_with(device.private_key(), edit).unwrap();
        for at in db.both(5432) {
            assert_eq!(device.host().try_tcp(at, SOON), Reach::Open, "{at} by {asked}");
        }
        assert!(
            device.wg("endpoints").unwrap().contains(&asked),
            "it is where it was asked"
        );
        device.down().unwrap();
    }
}
