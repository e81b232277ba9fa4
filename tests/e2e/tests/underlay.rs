//! What neighbours on the underlay can do to a node around its tunnels, and what a node without tunnels lets out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringfence_e2e::{Allow, Mesh, Node, Overlay, perimeter};
use ringfence_lab::{Host, Reach, wait_until};

/// An application that may ask a database, and a neighbour on the same network who is in no perimeter.
struct Pair {
    api: Node,
    db: Node,
    neighbour: Host,
    mesh: Mesh,
}

impl Pair {
    fn start(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let pair = Self {
            api: mesh.node("api", &["role=api"]).unwrap(),
            db: mesh.node("db", &["role=db"]).unwrap(),
            neighbour: mesh.bare_host("neighbour").unwrap(),
            mesh,
        };
        let groups = [("api", "role=api"), ("db", "role=db")];
        let rules = ["tcp/5432", "udp/5432"].map(|port| Allow {
            from: "api",
            to: "db",
            port,
        });
        pair.mesh
            .apply_and_wait(&perimeter(PERIMETER, "10m", &groups, &rules))
            .unwrap();
        pair
    }

    fn at(node: &Node) -> Overlay {
        node.overlay(PERIMETER).unwrap()
    }

    /// Makes the neighbour send what is for `destinations` to `node`.
    fn route_through(&self, node: &Node, destinations: Overlay) {
        let gateways = [
            IpAddr::from(node.host().ipv4().unwrap()),
            node.host().ipv6().unwrap().into(),
        ];
        for (destination, gateway) in destinations.both(0).iter().zip(gateways) {
            self.neighbour
                .route(&prefix(destination.ip()), &gateway.to_string())
                .unwrap();
        }
    }
}

#[test]
fn a_neighbour_cannot_reach_overlay_addresses_around_the_tunnel() {
    let pair = Pair::start("around");
    let db = Pair::at(&pair.db);
    let servers = db.both(5432).map(|at| pair.db.host().serve(at).unwrap());
    pair.route_through(&pair.db, db);

    for at in db.both(5432) {
        assert_eq!(pair.neighbour.try_tcp(at, BRIEFLY), Reach::Silent, "{at}");
    }

    assert!(
        servers
            .iter()
            .all(|server| server.connections() + server.datagrams() == 0)
    );
    for at in db.both(5432) {
        assert_eq!(pair.api.host().try_tcp(at, SOON), Reach::Open, "{at}");
    }
}

#[test]
fn a_node_that_forwards_lends_its_identity_to_nobody() {
    let pair = Pair::start("forwards");
    let (api, db) = (Pair::at(&pair.api), Pair::at(&pair.db));
    let servers = db.both(5432).map(|at| pair.db.host().serve(at).unwrap());
    pair.api.host().sysctl("ipv4/ip_forward", "1").unwrap();
    pair.api.host().sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    // The neighbour takes the node's overlay addresses, and the node for its router.
    pair.route_through(&pair.api, db);
    for (own, to) in api.both(4444).into_iter().zip(db.both(5432)) {
        let add = pair.neighbour.command("ip").args(["address", "add"]);
        add.args([&prefix(own.ip()), "dev", "lo"]).text().unwrap();
        wait_until(SOON, "the address to count", || {
            pair.neighbour.udp_bind(own).is_ok()
        })
        .unwrap();
        let socket = pair.neighbour.udp_bind(SocketAddr::new(own.ip(), 0)).unwrap();
        for _ in 0..3 {
            socket.send_to(b"as if I were the application", to).unwrap();
        }
    }

    // What the node itself sends comes after, and arrives.
    for at in db.both(5432) {
        assert_eq!(pair.api.host().try_udp(at, SOON), Reach::Open, "{at}");
    }

    for server in &servers {
        assert_eq!(server.datagrams(), 1);
    }
}

#[test]
fn a_killed_node_lets_nothing_out_in_clear_and_a_stopped_one_leaves_nothing() {
    let mut pair = Pair::start("killed");
    let db = Pair::at(&pair.db);
    let _servers = db.both(5432).map(|at| pair.db.host().serve(at).unwrap());
    let router = pair.mesh.address().ip().to_string();
    pair.api.host().route("default", &router).unwrap();

    pair.api.kill();

    for at in db.both(5432) {
        let asked = pair
            .api
            .host()
            .command("ip")
            .args(["route", "get", &at.ip().to_string()])
            .run()
            .unwrap();
        assert!(!asked.status.success(), "{at} would leave by {}", asked.stdout);
        assert_eq!(pair.api.host().try_tcp(at, BRIEFLY), Reach::Unreachable, "{at}");
    }

    pair.api.start().unwrap();
    for at in db.both(5432) {
        assert_eq!(pair.api.host().try_tcp(at, SOON), Reach::Open, "{at}");
    }

    pair.api.stop().unwrap();
    for family in ["-4", "-6"] {
        let ours = pair.api.host().command("ip");
        let ours = ours
            .args([family, "route", "show", "proto", "82"])
            .text()
            .unwrap();
        assert_eq!(ours.trim(), "");
    }
}

#[test]
fn a_node_removed_while_it_was_away_closes_and_stays_closed() {
    let mut pair = Pair::start("away");
    pair.api.stop().unwrap();
    pair.mesh.cli(["node", "remove", "api"]).unwrap().text().unwrap();

    pair.api.launch().unwrap();

    let closed = || {
        pair.api.segment(PERIMETER).is_ok_and(|segment| {
            segment["lease_seconds"] == 0 && segment["peers"].as_array().is_some_and(Vec::is_empty)
        })
    };
    wait_until(SOON, "the segment to close", closed).unwrap();

    // Nor does a restart without the controller open it again.
    pair.api.stop().unwrap();
    pair.mesh.stop_controller().unwrap();
    pair.api.launch().unwrap();
    let segment = pair.api.segment(PERIMETER).unwrap();
    assert_eq!(segment["lease_seconds"], 0, "{segment}");
    assert_eq!(segment["peers"].as_array().map(Vec::len), Some(0), "{segment}");
}

fn prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{v4}/32"),
        IpAddr::V6(v6) => format!("{v6}/128"),
    }
}

const PERIMETER: &str = "shop";
const SOON: Duration = Duration::from_secs(10);
const BRIEFLY: Duration = Duration::from_millis(1500);
