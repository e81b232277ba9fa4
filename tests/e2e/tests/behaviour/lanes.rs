//! Nodes that use several cores: each lane has a port and sessions of its own, and together they are one node.

use std::time::{Duration, Instant};

use ringfence_e2e::{Allow, Live, Mesh, Node, NodeOptions};
use ringfence_lab::{Host, Reach, wait_until};

use crate::foreign::device;
use crate::stage::{BRIEFLY, SOON, Shop, allow, policy};

const API_TO_DB: Allow = allow("api", "db", "tcp/5400-5499");
const DEVICE_TO_DB: Allow = allow("device", "db", "tcp/5400-5499");

/// Enough that not all of them are in one of two lanes: one time in 32,768 they would be.
const CONNECTIONS: u16 = 16;

#[test]
fn conversations_spread_over_the_lanes_and_a_cut_ends_them_in_all() {
    let shop = shop_of_lanes("lanes", ["2", "2"], &[API_TO_DB]);
    let live = connections(&shop, CONNECTIONS);
    let before = [&shop.api, &shop.db].map(lanes);

    for connection in &live {
        connection.exchange(SOON).unwrap();
    }

    for (node, before) in [&shop.api, &shop.db].into_iter().zip(before) {
        let after = lanes(node);
        assert_eq!(after.len(), 2);
        for lane in 0..2 {
            assert!(after[lane].sent > before[lane].sent, "{before:?} {after:?}");
            assert!(
                after[lane].received > before[lane].received,
                "{before:?} {after:?}"
            );
        }
    }
    assert_eq!(shop.db.drops("not_allowed").unwrap(), 0);

    shop.enforce(&[]);
    for connection in live {
        let (client, server) = connection.wait_cut(SOON).unwrap();
        assert!(client.is_reset() && server.is_reset());
    }
    let _server = shop.db.host().serve(Shop::at(&shop.db).v4(5499)).unwrap();
    let reach = shop.api.host().try_tcp(Shop::at(&shop.db).v4(5499), BRIEFLY);
    assert_ne!(reach, Reach::Open);
}

#[test]
fn a_node_of_one_lane_and_a_stock_client_get_along_with_one_of_two() {
    for numbers in [["1", "2"], ["2", "1"]] {
        let name = format!("lanes-{}-{}", numbers[0], numbers[1]);
        let mut shop = shop_of_lanes(&name, numbers, &[API_TO_DB, DEVICE_TO_DB]);
        let device = device(&mut shop, "laptop");
        device.up().unwrap();

        let live = connections(&shop, CONNECTIONS);
        for connection in &live {
            connection.exchange(SOON).unwrap();
        }
        for port in 5480..5488 {
            let at = Shop::at(&shop.db).v4(port);
            let _server = shop.db.host().serve(at).unwrap();
            assert_eq!(device.host().try_tcp(at, SOON), Reach::Open, "{at}");
        }
    }
}

#[test]
fn a_lane_whose_port_is_blocked_gives_way_to_the_first() {
    let shop = shop_of_lanes("lanes-blocked", ["2", "2"], &[API_TO_DB]);
    let further = lanes(&shop.db)[1].port;
    block(shop.db.host(), further);

    let live = connections(&shop, CONNECTIONS);

    for connection in &live {
        connection.exchange(SOON).unwrap();
    }
    assert_eq!(lanes(&shop.db)[1].received, 0, "the other lane carries all");
}

#[test]
fn a_lane_whose_port_is_blocked_in_mid_session_gives_way_until_it_is_open_again() {
    let shop = shop_of_lanes("lanes-midway", ["2", "2"], &[API_TO_DB]);
    let live = connections(&shop, CONNECTIONS);
    let further = lanes(&shop.db)[1].port;
    block(shop.db.host(), further);
    let blocked_at = Instant::now();

    for connection in &live {
        // Fifteen seconds until it is noticed, then as long until TCP says it again.
        connection.exchange(Duration::from_secs(35)).unwrap();
    }
    assert!(
        blocked_at.elapsed() < Duration::from_mins(1),
        "they do not wait for each other, nor for the session's end"
    );
    let silent = lanes(&shop.db)[1].received;
    for connection in &live {
        connection.exchange(BRIEFLY).unwrap();
    }
    assert_eq!(lanes(&shop.db)[1].received, silent, "the other lane carries all");

    let open = ["delete", "table", "inet", "firewall"];
    shop.db.host().command("nft").args(open).text().unwrap();
    wait_until(Duration::from_secs(15), "the lane to carry again", || {
        let before = lanes(&shop.db)[1].received;
        talk(&live, BRIEFLY);
        lanes(&shop.db)[1].received > before + 1000
    })
    .unwrap();
    assert_eq!(shop.db.drops("not_allowed").unwrap(), 0);
}

#[test]
fn a_restart_without_a_controller_finds_its_ports_and_the_lanes_of_its_peers_again() {
    let mut mesh = Mesh::start("lanes-restart").unwrap();
    let api_host = mesh.bare_host("api").unwrap();
    // Somebody has the port that follows, for as long as the test lasts.
    let bind = "import socket, time; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 51821)); print('bound', flush=True); time.sleep(600)";
    let other = api_host
        .command("python3")
        .args(["-c", bind])
        .spawn("other")
        .unwrap();
    other.wait_for_log("bound", SOON).unwrap();
    let mut shop = Shop {
        db: node(&mut mesh, "db", "2"),
        api: node_on(&mut mesh, &api_host, "api", "2"),
        web: mesh.node("web", &["role=web"]).unwrap(),
        mesh,
    };
    shop.enforce(&[API_TO_DB]);
    drop(connections(&shop, CONNECTIONS));
    let port = lanes(&shop.api)[1].port;
    assert_ne!(port, 51821);

    shop.mesh.kill_controller();
    shop.api.stop().unwrap();
    shop.api.launch().unwrap();
    wait_until(SOON, "the device to be back", || {
        let reach = shop.api.host().try_tcp(Shop::at(&shop.db).v4(5499), BRIEFLY);
        reach == Reach::Refused
    })
    .unwrap();

    talk(&connections(&shop, CONNECTIONS), SOON);
    let further = &lanes(&shop.api)[1];
    assert_eq!(further.port, port);
    assert!(further.sent > 1000 && further.received > 1000, "{further:?}");
}

#[test]
fn a_node_that_loses_one_lane_ends_at_once_and_says_so() {
    for lane in [0, 1] {
        let shop = shop_of_lanes(&format!("lanes-lost-{lane}"), ["2", "2"], &[API_TO_DB]);
        drop(connections(&shop, CONNECTIONS));
        let port = lanes(&shop.db)[lane].port;

        // What an administrator may do to a socket.
        let filter = format!("sport = :{port}");
        let killed = shop.db.host().command("ss").args(["-HuanK", &filter]).text();
        assert!(!killed.unwrap().is_empty());

        let status = shop.db.running().wait(BRIEFLY).unwrap();
        assert_eq!(status.code(), Some(1), "{}", shop.db.log());
        let log = shop.db.log();
        assert!(log.contains("a packet loop has ended: the node stops"), "{log}");
        let links = shop.db.host().command("ip").args(["-br", "link"]).text().unwrap();
        assert!(!links.contains("rf-shop"), "{links}");
    }
}

#[test]
fn a_device_that_somebody_deletes_comes_back_with_a_queue_for_each_lane() {
    let shop = shop_of_lanes("lanes-device", ["2", "2"], &[API_TO_DB]);
    drop(connections(&shop, 1));
    let delete = ["link", "delete", "rf-shop"];
    shop.db.host().command("ip").args(delete).text().unwrap();
    wait_until(SOON, "the device to be back", || {
        let reach = shop.api.host().try_tcp(Shop::at(&shop.db).v4(5499), BRIEFLY);
        reach == Reach::Refused
    })
    .unwrap();

    let before = lanes(&shop.db);
    talk(&connections(&shop, CONNECTIONS), SOON);

    for (before, after) in before.iter().zip(lanes(&shop.db)) {
        assert!(after.sent > before.sent + 1000, "{before:?} {after:?}");
        assert!(after.received > before.received + 1000, "{before:?} {after:?}");
    }
}

#[test]
fn a_segment_that_goes_as_it_comes_leaves_no_device() {
    let shop = shop_of_lanes("lanes-brief", ["4", "4"], &[API_TO_DB]);
    let alone = policy(&[API_TO_DB]).replace("role=db", "role=nobody");
    for _ in 0..5 {
        shop.mesh.apply(&alone).unwrap();
        shop.mesh.apply(&policy(&[API_TO_DB])).unwrap();
    }

    shop.mesh.apply_and_wait(&alone).unwrap();

    wait_until(BRIEFLY, "the device to go", || {
        let links = shop.db.host().command("ip").args(["-br", "link"]).text();
        !links.unwrap().contains("rf-shop")
    })
    .unwrap();
}

/// The shop, whose application and database have so many lanes, with these rules in force.
fn shop_of_lanes(name: &str, [api, db]: [&str; 2], rules: &[Allow]) -> Shop {
    let mut mesh = Mesh::start(name).unwrap();
    let shop = Shop {
        db: node(&mut mesh, "db", db),
        api: node(&mut mesh, "api", api),
        web: mesh.node("web", &["role=web"]).unwrap(),
        mesh,
    };
    shop.enforce(rules);
    shop
}

fn node(mesh: &mut Mesh, name: &str, lanes: &str) -> Node {
    let host = mesh.bare_host(name).unwrap();
    node_on(mesh, &host, name, lanes)
}

fn node_on(mesh: &mut Mesh, host: &Host, name: &str, lanes: &str) -> Node {
    let options = NodeOptions {
        args: vec!["--lanes".to_owned(), lanes.to_owned()],
        ..NodeOptions::default()
    };
    mesh.node_on(host, name, &[&format!("role={name}")], options)
        .unwrap()
}

/// Connections from the application to the database, each to a port of its own.
fn connections(shop: &Shop, count: u16) -> Vec<Live> {
    let at = Shop::at(&shop.db).v4.into();
    (5400..5400 + count)
        .map(|port| Live::open(shop.api.host(), shop.db.host(), at, port).unwrap())
        .collect()
}

/// Has each connection say so much that a lane shows it even if it has only one of them: more than a handshake does.
fn talk(connections: &[Live], wait: Duration) {
    for _ in 0..8 {
        for connection in connections {
            connection.exchange(wait).unwrap();
        }
    }
}

#[derive(Debug)]
struct Lane {
    port: u16,
    received: u64,
    sent: u64,
}

/// What `ringfence status` says of a node's lanes.
fn lanes(node: &Node) -> Vec<Lane> {
    let status = node.status().unwrap();
    let lanes = status["lanes"].as_array().cloned().unwrap_or_default();
    let number = |lane: &serde_json::Value, key: &str| lane[key].as_u64().unwrap();
    lanes
        .iter()
        .map(|lane| Lane {
            port: number(lane, "port") as u16,
            received: number(lane, "rx_bytes"),
            sent: number(lane, "tx_bytes"),
        })
        .collect()
}

/// A firewall that nobody told of a lane's port.
fn block(host: &Host, port: u16) {
    let rules = format!(
        "table inet firewall {{\nchain in {{\ntype filter hook input priority 0\nudp dport {port} drop\n}}\n}}\n"
    );
    host.command("nft")
        .args(["-f", "-"])
        .input(&rules)
        .text()
        .unwrap();
}
