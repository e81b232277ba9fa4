//! Networks between nodes as they are: they lose, double and reorder, and their links are of different sizes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ringfence_e2e::{Cable, DatagramPair, Faults, Mesh, Node, NodeOptions, StreamPair};
use ringfence_lab::{Host, wait_until};

use crate::stage::{SHOP, Shop, allow, policy};

const PORT: u16 = 5432;
/// Where nodes listen.
const NODE_PORT: u16 = 51820;

/// A database beside the controller, and an application at the other end of something.
struct Apart {
    // Programs end before the lab does.
    cable: Option<Cable>,
    api: Node,
    db: Node,
    between: Host,
    mesh: Mesh,
}

impl Apart {
    /// With a cable between them that is good for now.
    fn by_cable(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let between = mesh.lab().host("cable").unwrap();
        between.sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
        let far = mesh.lab().network("far").unwrap();
        between.join(mesh.lan(), &[]).unwrap();
        between.join(&far, &[]).unwrap();
        let host = mesh.lab().host("api").unwrap();
        host.join(&far, &["10.77.0.200/24", "fd77::200/64"]).unwrap();
        let db = mesh.bare_host("db").unwrap();
        for host in [mesh.host(), &host, &db] {
            Cable::plug(host).unwrap();
        }
        let cable = Some(Cable::lay(&between, Faults::default()).unwrap());
        Self::joined(mesh, between, cable, &host, &db)
    }

    /// With a router between them, beyond which links are smaller.
    fn by_router(name: &str, mtu_bytes: u32) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let between = mesh.lab().router("router").unwrap();
        let far = mesh.lab().network("far").unwrap();
        between.join(mesh.lan(), &["10.77.0.2/24", "fd77::2/64"]).unwrap();
        between.join(&far, &["10.78.0.1/24", "fd78::1/64"]).unwrap();
        let host = mesh.lab().host("api").unwrap();
        host.join(&far, &["10.78.0.2/24", "fd78::2/64"]).unwrap();
        host.route("default", "10.78.0.1").unwrap();
        host.route("default", "fd78::1").unwrap();
        for end in [&between, &host] {
            end.set_mtu(&far, mtu_bytes).unwrap();
        }
        let db = mesh.bare_host("db").unwrap();
        for host in [mesh.host(), &db] {
            host.route("10.78.0.0/24", "10.77.0.2").unwrap();
            host.route("fd78::/64", "fd77::2").unwrap();
        }
        // The application sends into the small link itself and knows it; the database must be told.
        Self::joined(mesh, between, None, &host, &db)
    }

    fn joined(mesh: Mesh, between: Host, cable: Option<Cable>, api: &Host, db: &Host) -> Self {
        let node = |host, name: &str| {
            let role = format!("role={name}");
            mesh.node_on(host, name, &[&role], NodeOptions::default())
                .unwrap()
        };
        let (db, api) = (node(db, "db"), node(api, "api"));
        mesh.apply_and_wait(&policy(&[allow("api", "db", "any")]))
            .unwrap();
        Self {
            cable,
            api,
            db,
            between,
            mesh,
        }
    }

    /// Changes what the cable does to datagrams between nodes.
    fn relay(&mut self, faults: Faults) {
        self.suffered("passed");
        let faults = Faults {
            to_port: Some(NODE_PORT),
            ..faults
        };
        self.cable = Some(Cable::lay(&self.between, faults).unwrap());
    }

    /// Ends the cable and gives how many datagrams suffered this.
    fn suffered(&mut self, what: &str) -> u64 {
        self.cable.take().unwrap().end(what).unwrap()
    }

    fn datagrams(&self) -> DatagramPair {
        let at = self.db.overlay(SHOP).unwrap().v4(PORT);
        DatagramPair::open(self.api.host(), self.db.host(), at).unwrap()
    }

    /// Streams, and datagrams around the size that a link between takes.
    fn exchange_all_sizes(&self) {
        self.exchange_streams(4 << 20);
        let sizes: Vec<usize> = (1300..1380).step_by(3).chain([5000, 20_000]).collect();
        self.datagrams().exchange(&sizes).unwrap();

        assert!(self.mesh.controller().is_running());
    }

    fn exchange_streams(&self, bytes: usize) {
        let db = self.db.overlay(SHOP).unwrap();
        thread::scope(|scope| {
            for at in db.both(PORT) {
                scope.spawn(move || {
                    let stream = StreamPair::open(self.api.host(), self.db.host(), at).unwrap();
                    stream.exchange(bytes, 100_000).unwrap();
                });
            }
        });
    }
}

/// Sends numbered datagrams through the tunnel, no more at once than a socket's buffer holds; gives those that came, in
/// order.
fn send_numbered(pair: &DatagramPair, count: u32) -> Vec<u32> {
    let timeout = Some(Duration::from_secs(1));
    pair.server.set_read_timeout(timeout).unwrap();
    let arrived = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                let mut datagram = [0; 200];
                datagram[..4].copy_from_slice(&number.to_be_bytes());
                pair.client.send(&datagram).unwrap();
                // Those that were lost are not waited for long.
                let _ = wait_until(Duration::from_millis(100), "room", || {
                    number.saturating_sub(arrived.load(Ordering::Relaxed)) < 150
                });
            }
        });
        let mut came = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(200) = pair.server.recv(&mut buffer) {
            came.push(u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]));
            arrived.fetch_add(1, Ordering::Relaxed);
        }
        came
    })
}

/// Runs `traffic` while `ip link` gives the interface one MTU after the other; it ends with the second.
fn while_mtu_changes(host: &Host, interface: &str, mtus: [&str; 2], traffic: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let traffic = scope.spawn(traffic);
        while !traffic.is_finished() {
            for mtu in mtus {
                set_mtu(host, interface, mtu);
                thread::sleep(Duration::from_millis(30));
            }
        }
    });
}

fn set_mtu(host: &Host, interface: &str, mtu: &str) {
    let link = host.command("ip").args(["link", "set", interface, "mtu", mtu]);
    link.text().unwrap();
}

#[test]
fn a_datagram_that_a_thousand_have_overtaken_is_taken() {
    let mut apart = Apart::by_cable("overtaken");
    let pair = apart.datagrams();
    apart.relay(Faults {
        held: 20,
        overtaken_by: 1000,
        ..Faults::default()
    });

    let came = send_numbered(&pair, 6000);

    assert!(apart.suffered("held") > 50);
    let refused = apart.db.drops("replayed").unwrap();
    let late = (0..)
        .zip(&came)
        .map(|(place, number): (u32, &u32)| place.saturating_sub(*number));
    let most = late.max().unwrap();
    assert!(most > 900, "the cable lets a thousand pass first: {most}");
    assert_eq!(
        (came.len(), refused),
        (6000, 0),
        "arrived, and refused as replayed"
    );
    assert_eq!(came.iter().collect::<BTreeSet<_>>().len(), 6000);
}

#[test]
fn a_doubled_datagram_arrives_once() {
    let mut apart = Apart::by_cable("doubled");
    let pair = apart.datagrams();
    apart.relay(Faults {
        doubled: 200,
        ..Faults::default()
    });

    let came = send_numbered(&pair, 2000);

    let doubled = apart.suffered("doubled");
    assert!(doubled > 200, "{doubled}");
    assert_eq!(came, (0..2000).collect::<Vec<_>>());
    assert_eq!(apart.db.drops("replayed").unwrap(), doubled);
}

#[test]
fn transfers_complete_where_the_network_loses_doubles_and_reorders() {
    let mut apart = Apart::by_cable("rough");
    apart.relay(Faults {
        lost: 10,
        doubled: 10,
        held: 20,
        overtaken_by: 20,
        ..Faults::default()
    });

    apart.exchange_streams(1 << 20);

    assert!(apart.suffered("lost") > 0);
}

#[test]
fn transfers_complete_where_the_path_takes_less_than_the_tunnel_sends() {
    Apart::by_router("smallpath", 1400).exchange_all_sizes();
}

#[test]
fn transfers_complete_where_no_router_tells_what_the_path_takes() {
    let apart = Apart::by_router("blackhole", 1400);
    let rules = "add table inet mute
        add chain inet mute told { type filter hook output priority 0; }
        add rule inet mute told icmp type destination-unreachable drop
        add rule inet mute told icmpv6 type packet-too-big drop";
    let mute = apart.between.command("nft").args(["-f", "-"]).input(rules);
    mute.text().unwrap();

    apart.exchange_all_sizes();
}

#[test]
fn the_mtu_of_the_tunnel_and_of_the_link_below_may_change_under_traffic() {
    let shop = Shop::open("mtu", &[allow("api", "db", "any")]);
    let (api, db) = (shop.api.host(), shop.db.host());
    let at = Shop::at(&shop.db);
    for at in at.both(PORT) {
        let stream = StreamPair::open(api, db, at).unwrap();
        let exchange = || stream.exchange(6 << 20, 200_000).unwrap();

        while_mtu_changes(api, "rf-shop", ["1408", "1280"], exchange);
        while_mtu_changes(db, "eth0", ["1450", "1500"], exchange);
        let datagrams = DatagramPair::open(api, db, at).unwrap();
        datagrams.exchange(&[1200, 1360, 1380, 5000]).unwrap();
    }
}

#[test]
fn what_is_longer_than_the_tunnel_takes_is_told_and_adapts() {
    let shop = Shop::open("toobig", &[allow("api", "db", "any")]);
    let (api, db) = (shop.api.host(), shop.db.host());
    for host in [api, db] {
        set_mtu(host, "rf-shop", "9000");
    }

    for at in Shop::at(&shop.db).both(PORT) {
        let before = shop.api.drops("too_big").unwrap();
        let stream = StreamPair::open(api, db, at).unwrap();
        stream.exchange(4 << 20, 200_000).unwrap();
        assert!(shop.api.drops("too_big").unwrap() > before, "{at}: it was told");
        DatagramPair::open(api, db, at)
            .unwrap()
            .exchange(&[5000, 20_000])
            .unwrap();
    }
}
