//! Only what policy allows passes; whoever has nothing allowed does not even get an answer to a handshake.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use ringfence_e2e::{Allow, Mesh, MeshOptions, NodeOptions, Stranger, perimeter, random_bytes};
use ringfence_lab::{Lab, Percent, Reach};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow, policy};

/// Both directions of initiation between two nodes, every protocol, and a pair with nothing between them.
const RULES: [Allow; 5] = [
    API_TO_DB,
    allow("api", "db", "udp/5353"),
    allow("api", "db", "icmp"),
    allow("db", "api", "tcp/8080"),
    allow("web", "api", "udp/443"),
];
const PORTS: [u16; 4] = [5432, 5353, 8080, 443];

#[test]
fn only_the_allowed_flows_pass() {
    let shop = Shop::open("flows", &RULES);
    let nodes = [("db", &shop.db), ("api", &shop.api), ("web", &shop.web)];
    let overlays: BTreeMap<&str, _> = nodes.iter().map(|(name, node)| (*name, Shop::at(node))).collect();
    let mut servers = Vec::new();
    for (name, node) in nodes {
        for port in PORTS {
            for at in overlays[name].both(port) {
                servers.push((name, at, node.host().serve(at).unwrap()));
            }
        }
    }

    let results = thread::scope(|scope| {
        let mut tries = Vec::new();
        for (from, source) in nodes {
            for (to, overlay) in overlays.iter().filter(|(to, _)| **to != from) {
                tries.push(scope.spawn(move || attempts(from, source.host(), to, *overlay)));
            }
        }
        tries
            .into_iter()
            .flat_map(|tried| tried.join().unwrap())
            .collect::<Vec<_>>()
    });

    assert_eq!(results.len(), 6 * (PORTS.len() * 2 + 1) * 2);
    for (what, at, reach) in &results {
        if is_allowed(what) {
            assert_eq!(*reach, Reach::Open, "{what:?} at {at}");
        } else {
            assert_eq!(
                *reach,
                Reach::Unreachable,
                "{what:?} at {at}: refused by policy, and told so"
            );
        }
    }
    // What the senders' own nodes refuse must not have reached anybody: the servers have the last word.
    for (to, at, server) in &servers {
        let opened = |protocol: &str| {
            results
                .iter()
                .filter(|(what, dst, _)| what.to == *to && dst == at && what.service.starts_with(protocol))
                .filter(|(what, ..)| is_allowed(what))
                .count()
        };
        assert_eq!(server.connections(), opened("tcp"), "connections to {to} at {at}");
        assert_eq!(
            server.datagrams() > 0,
            opened("udp") > 0,
            "datagrams to {to} at {at}"
        );
    }
    // No rule between db and web: neither knows that the other exists.
    assert!(shop.db.peer(SHOP, "web").unwrap().is_none());
    assert!(shop.web.peer(SHOP, "db").unwrap().is_none());
}

#[derive(Debug)]
struct What {
    from: String,
    to: String,
    service: String,
}

fn is_allowed(what: &What) -> bool {
    RULES
        .iter()
        .any(|rule| (rule.from, rule.to, rule.port) == (&what.from, &what.to, &what.service))
}

fn attempts(
    from: &str,
    host: &ringfence_lab::Host,
    to: &str,
    overlay: ringfence_e2e::Overlay,
) -> Vec<(What, SocketAddr, Reach)> {
    let what = |service: String| What {
        from: from.to_owned(),
        to: to.to_owned(),
        service,
    };
    let mut results = Vec::new();
    for port in PORTS {
        for at in overlay.both(port) {
            results.push((what(format!("tcp/{port}")), at, host.try_tcp(at, SOON)));
            results.push((what(format!("udp/{port}")), at, host.try_udp(at, BRIEFLY)));
        }
    }
    for at in overlay.both(0) {
        results.push((what("icmp".to_owned()), at, host.try_ping(at.ip(), BRIEFLY)));
    }
    results
}

#[test]
fn whoever_is_not_on_the_allowlist_gets_no_answer_to_a_handshake() {
    let mut shop = Shop::open("silence", &[API_TO_DB, allow("web", "api", "tcp/443")]);
    let intruder = shop.mesh.node("intruder", &["role=intruder"]).unwrap();
    let groups = [("intruder", "role=intruder"), ("api", "role=api")];
    let elsewhere = perimeter("elsewhere", "10m", &groups, &[allow("intruder", "api", "any")]);
    shop.mesh.apply_and_wait(&elsewhere).unwrap();
    intruder.wait_peer("elsewhere", "api").unwrap();
    let outside = shop.mesh.bare_host("outside").unwrap();
    let (db_key, db_at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());

    let keys = [
        ("a key nobody knows", random_bytes().unwrap()),
        (
            "the key of a member without a rule",
            shop.web.private_key(SHOP).unwrap(),
        ),
        (
            "a key of another perimeter",
            intruder.private_key("elsewhere").unwrap(),
        ),
        (
            "an allowed node's key of another perimeter",
            shop.api.private_key("elsewhere").unwrap(),
        ),
        ("the node's own key", shop.db.private_key(SHOP).unwrap()),
    ];
    for (whose, key) in keys {
        for host in [&outside, intruder.host()] {
            let mut stranger = Stranger::new(host, key, &db_key, db_at).unwrap();
            assert!(!stranger.shake(BRIEFLY).unwrap(), "{whose} was answered");
        }
    }
    assert!(
        shop.db.drops("unknown_key").unwrap() > 0,
        "{}",
        shop.db.status().unwrap()
    );

    // The same hand with the one key that is on the allowlist is answered: the silence above is no accident.
    let key = shop.api.private_key(SHOP).unwrap();
    let mut api = Stranger::new(&outside, key, &db_key, db_at).unwrap();
    assert!(api.shake(SOON).unwrap(), "the allowed key got no answer");
}

#[test]
fn tunnels_run_over_ipv6_alone() {
    let options = MeshOptions {
        advertise: "[fd77::1]:7443",
        ..MeshOptions::default()
    };
    let mesh = Mesh::start_with(Lab::new("sixonly").unwrap(), options).unwrap();
    let node = |name: &str, at: &str| {
        let host = mesh.lab().host(name).unwrap();
        host.join(mesh.lan(), &[at]).unwrap();
        mesh.node_on(&host, name, &[&format!("role={name}")], NodeOptions::default())
            .unwrap()
    };
    let (db, api) = (node("db", "fd77::21/64"), node("api", "fd77::22/64"));
    mesh.apply_and_wait(&policy(&[API_TO_DB])).unwrap();

    for at in Shop::at(&db).both(5432) {
        let _server = db.host().serve(at).unwrap();
        assert_eq!(api.host().try_tcp(at, SOON), Reach::Open, "{at}");
    }
    let peer = api.peer(SHOP, "db").unwrap().unwrap();
    assert!(
        peer["endpoint"].as_str().unwrap().starts_with("[fd77::21]"),
        "{peer}"
    );
}

#[test]
fn large_transfers_and_fragmented_datagrams_arrive_intact() {
    let shop = Shop::open("large", &[API_TO_DB, allow("api", "db", "udp/5353")]);
    // Some of it is lost on the way, as on a real network.
    shop.api.host().set_loss(Percent(1)).unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();

    for at in Shop::at(&shop.db).both(5432) {
        let _server = shop.db.host().serve(at).unwrap();
        let stream = shop.api.host().tcp_connect(at, SOON).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut got = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| (&stream).write_all(&sent).unwrap());
            (&stream).read_exact(&mut got).unwrap();
        });
        assert!(got == sent, "a megabyte there and back over {at}");
    }

    shop.api.host().set_loss(Percent(0)).unwrap();
    for at in Shop::at(&shop.db).both(5353) {
        let _server = shop.db.host().serve(at).unwrap();
        let any: SocketAddr = if at.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let socket = shop.api.host().udp_bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut got = vec![0; 9000];
        for size in [1280, 1400, 1500, 8000] {
            socket.send_to(&sent[..size], at).unwrap();
            let (length, _) = socket.recv_from(&mut got).unwrap();
            assert!(got[..length] == sent[..size], "{size} bytes over {at}");
        }
    }
}
