//! Two perimeters on one node stay two networks, and a peer can only ever be itself.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_e2e::packet::{Tail, fragment, parse_udp, udp, udp_datagram, udp_fragments};
use ringfence_e2e::{Allow, Mesh, Node, Stranger, base64_of, perimeter, public_key_of, random_bytes};
use ringfence_lab::{Reach, Serving, wait_until};

use crate::stage::{BRIEFLY, SHOP, SOON, Shop, allow, policy};

/// A gateway in two perimeters, and a node in each.
struct Two {
    gate: Node,
    left: Node,
    right: Node,
    _mesh: Mesh,
}

impl Two {
    fn start(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let gate = mesh.node("gate", &["role=gate"]).unwrap();
        let left = mesh.node("left", &["role=left"]).unwrap();
        let right = mesh.node("right", &["role=right"]).unwrap();
        for side in ["left", "right"] {
            let selector = format!("role={side}");
            let groups = [("gate", "role=gate"), ("side", selector.as_str())];
            let rules = [allow("gate", "side", "any"), allow("side", "gate", "any")];
            mesh.apply_and_wait(&perimeter(side, "10m", &groups, &rules))
                .unwrap();
        }
        Self {
            gate,
            left,
            right,
            _mesh: mesh,
        }
    }
}

#[test]
fn a_node_in_two_perimeters_has_two_keys_and_two_interfaces() {
    let two = Two::start("twokeys");

    let (a, b) = (
        two.gate.segment("left").unwrap(),
        two.gate.segment("right").unwrap(),
    );
    for what in ["public_key", "interface", "addresses"] {
        assert_ne!(a[what], b[what], "{what}");
    }
    let links = two
        .gate
        .host()
        .command("ip")
        .args(["-br", "link"])
        .text()
        .unwrap();
    for (segment, side) in [(&a, &two.left), (&b, &two.right)] {
        let interface = segment["interface"].as_str().unwrap();
        assert!(
            links.contains(&format!("{interface} ")),
            "{interface} is not in {links}"
        );
        let name = side.name();
        assert_eq!(segment["peers"].as_array().unwrap().len(), 1, "{segment}");
        assert_eq!(segment["peers"][0]["node"], name);
        // Each peer knows the gateway by the key of their own perimeter.
        assert_eq!(
            side.peer(name, "gate").unwrap().unwrap()["public_key"],
            segment["public_key"]
        );
    }
    let (left, right) = (
        two.gate.private_key("left").unwrap(),
        two.gate.private_key("right").unwrap(),
    );
    assert_ne!(left, right);
    assert_eq!(public_key_of(left), a["public_key"].as_str().unwrap());
}

#[test]
fn a_packet_cannot_cross_from_one_perimeter_to_another() {
    let two = Two::start("cross");
    let right = two.right.overlay("right").unwrap();
    let (gate_left, gate_right) = (
        two.gate.overlay("left").unwrap(),
        two.gate.overlay("right").unwrap(),
    );
    let servers: Vec<_> = right
        .both(80)
        .map(|at| two.right.host().serve(at).unwrap())
        .into();
    for at in right.both(80) {
        assert_eq!(two.gate.host().try_tcp(at, SOON), Reach::Open);
    }
    let known = |server: &Serving| server.connections() + server.datagrams();
    wait_until(SOON, "the servers to have counted the gateway", || {
        servers.iter().all(|server| known(server) > 0)
    })
    .unwrap();
    let before: Vec<_> = servers.iter().map(known).collect();

    // The gateway forwards whatever it can, and the node on the left routes everything at it.
    two.gate.host().sysctl("ipv4/ip_forward", "1").unwrap();
    two.gate.host().sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    let device = two.left.segment("left").unwrap()["interface"]
        .as_str()
        .unwrap()
        .to_owned();
    for (at, via) in [(right.v4(80), gate_left.v4(0)), (right.v6(80), gate_left.v6(0))] {
        let prefix = format!("{}/{}", at.ip(), if at.is_ipv4() { 32 } else { 128 });
        two.left
            .host()
            .command("ip")
            .args([
                "route",
                "replace",
                &prefix,
                "via",
                &via.ip().to_string(),
                "dev",
                &device,
                "onlink",
            ])
            .text()
            .unwrap();
        assert_ne!(two.left.host().try_tcp(at, BRIEFLY), Reach::Open, "{at}");
        assert_ne!(two.left.host().try_udp(at, BRIEFLY), Reach::Open, "{at}");
        assert_ne!(two.left.host().try_ping(at.ip(), BRIEFLY), Reach::Open, "{at}");
    }

    // Nor does the gateway carry its address of one perimeter into the other.
    let left = two.left.overlay("left").unwrap();
    let dropped = two.gate.drops("source_not_ours").unwrap();
    for (src, dst) in [(gate_right.v4(0), left.v4(81)), (gate_right.v6(0), left.v6(81))] {
        let server = two.left.host().serve(dst).unwrap();
        let socket = two.gate.host().udp_bind(src).unwrap();
        for _ in 0..3 {
            let _ = socket.send_to(b"across", dst);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.datagrams(), 0, "{src} to {dst}");
    }
    assert!(two.gate.drops("source_not_ours").unwrap() > dropped);
    assert_eq!(servers.iter().map(known).collect::<Vec<_>>(), before);
}

#[test]
fn a_node_cannot_take_another_members_address() {
    let rules = [allow("api", "db", "udp/53"), allow("web", "db", "udp/54")];
    let shop = Shop::open("borrowed", &rules);
    let (db, api) = (Shop::at(&shop.db), Shop::at(&shop.api));
    let device = shop.web.segment(SHOP).unwrap()["interface"]
        .as_str()
        .unwrap()
        .to_owned();
    let ip = |words: &str| {
        let ip = shop.web.host().command("ip").args(words.split(' '));
        ip.text().unwrap()
    };
    // The web server has been broken into: it gives itself the application's addresses.
    ip(&format!("addr add {}/32 dev {device}", api.v4));
    ip(&format!("addr add {}/128 dev {device} nodad", api.v6));

    for (src, dst) in [(api.v4(0), db.v4(53)), (api.v6(0), db.v6(53))] {
        let server = shop.db.host().serve(dst).unwrap();
        let socket = shop.web.host().udp_bind(src).unwrap();
        for payload in [vec![1; 100], vec![2; 4000]] {
            let _ = socket.send_to(&payload, dst);
        }
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(server.datagrams(), 0, "{src} to {dst}");
    }
    assert!(
        shop.web.drops("source_not_ours").unwrap() > 0,
        "{}",
        shop.web.status().unwrap()
    );
}

const DEVICE_RULES: [Allow; 2] = [allow("device", "db", "udp/53"), allow("api", "db", "udp/5353")];

/// A device of the perimeter whose WireGuard is ours to abuse: it keeps no rule but the protocol's.
fn mallory(shop: &mut Shop) -> (Stranger, ringfence_e2e::Overlay) {
    let key = random_bytes().unwrap();
    let host = shop.mesh.bare_host("mallory").unwrap();
    let public_key = public_key_of(key);
    let add = [
        "peer",
        "add",
        "mallory",
        "--perimeter",
        SHOP,
        "--label",
        "role=device",
        "--public-key",
        &public_key,
    ];
    shop.mesh.cli(add).unwrap().text().unwrap();
    shop.mesh.wait_enforced().unwrap();
    let listed = shop.mesh.json(["peer", "ls"]).unwrap();
    let address = |at: usize| listed["peers"][0]["addresses"][at].as_str().unwrap().to_owned();
    let overlay = ringfence_e2e::Overlay {
        v4: address(0).parse().unwrap(),
        v6: address(1).parse().unwrap(),
    };
    shop.db.wait_peer(SHOP, "mallory").unwrap();
    let (db_key, db_at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());
    let mut stranger = Stranger::new(&host, key, &db_key, db_at).unwrap();
    assert!(
        stranger.shake(SOON).unwrap(),
        "a device with key {} is answered",
        base64_of(key)
    );
    (stranger, overlay)
}

#[test]
fn a_peer_cannot_wear_another_peers_address_fragmented_or_not() {
    let mut shop = Shop::open("spoof", &DEVICE_RULES);
    let (mut mallory, own) = mallory(&mut shop);
    let (db, api) = (Shop::at(&shop.db), Shop::at(&shop.api));
    let dropped = shop.db.drops("source_not_peers").unwrap();

    for (src, dst, honest) in [
        (api.v4(9999), db.v4(5353), (own.v4(9999), db.v4(53))),
        (api.v6(9999), db.v6(5353), (own.v6(9999), db.v6(53))),
    ] {
        let api_port = shop.db.host().serve(dst).unwrap();
        let own_port = shop.db.host().serve(honest.1).unwrap();
        mallory.send(&udp(src, dst, b"I am the api")).unwrap();
        for piece in udp_fragments(src, dst, &[7; 1000], 512) {
            mallory.send(&piece).unwrap();
        }
        // Its own first fragment does not carry somebody else's second.
        let [own_first, _] = udp_fragments(honest.0, honest.1, &[7; 1000], 512);
        let [_, api_second] = udp_fragments(src, dst, &[7; 1000], 512);
        mallory.send(&own_first).unwrap();
        mallory.send(&api_second).unwrap();

        // What it may say does arrive, so all of the above went the same way before it.
        mallory.send(&udp(honest.0, honest.1, b"me")).unwrap();
        let answer = mallory.receive(SOON).unwrap().unwrap();
        assert_eq!(parse_udp(&answer), Some((honest.1, honest.0, &b"me"[..])));
        assert_eq!(api_port.datagrams(), 0, "{src} to {dst}");
        assert_eq!(own_port.datagrams(), 1, "{src} to {dst}");
    }
    assert!(
        shop.db.drops("source_not_peers").unwrap() >= dropped + 8,
        "{}",
        shop.db.status().unwrap()
    );
}

#[test]
fn a_receiver_decides_by_its_own_rules() {
    let mut shop = Shop::open("receiver", &DEVICE_RULES);
    let (mut mallory, own) = mallory(&mut shop);
    let db = Shop::at(&shop.db);

    for (src, dst) in [(own.v4(9999), db.v4(0)), (own.v6(9999), db.v6(0))] {
        let to = |port: u16| SocketAddr::new(dst.ip(), port);
        let closed = shop.db.host().serve(to(5353)).unwrap();
        let open = shop.db.host().serve(to(53)).unwrap();

        mallory.send(&udp(src, to(5353), b"another's port")).unwrap();
        // A later fragment alone, one with a port it may not use, and a first one too short to show its port.
        for piece in udp_fragments(src, to(5353), &[7; 1000], 512).iter().rev() {
            mallory.send(piece).unwrap();
        }
        // Pieces that overlap would write port 5353 over port 53 when the kernel puts them together.
        let (honest, forged) = (
            udp_datagram(src, to(53), &[7; 64]),
            udp_datagram(src, to(5353), &[7; 64]),
        );
        mallory
            .send(&fragment(src.ip(), dst.ip(), 77, 0, Tail::More, &honest[..16]))
            .unwrap();
        mallory
            .send(&fragment(src.ip(), dst.ip(), 77, 0, Tail::More, &forged[..16]))
            .unwrap();
        mallory
            .send(&fragment(src.ip(), dst.ip(), 77, 8, Tail::Last, &forged[8..]))
            .unwrap();

        mallory.send(&udp(src, to(53), b"me")).unwrap();
        let answer = mallory.receive(SOON).unwrap().unwrap();
        assert_eq!(parse_udp(&answer), Some((to(53), src, &b"me"[..])));
        assert_eq!(closed.datagrams(), 0, "{src}");
        assert!(open.datagrams() >= 1, "{src}");
    }
    for reason in ["not_allowed", "fragment_without_first", "fragment_overlap"] {
        assert!(
            shop.db.drops(reason).unwrap() > 0,
            "{reason}: {}",
            shop.db.status().unwrap()
        );
    }
    // Empty rules are no rules: nothing passes, and the device's key is gone.
    shop.mesh.apply_and_wait(&policy(&[])).unwrap();
    assert!(shop.db.peer(SHOP, "mallory").unwrap().is_none());
    // It is told that its flows have ended; that is the last it hears.
    while mallory.receive(BRIEFLY).unwrap().is_some() {}
    mallory
        .send(&udp(own.v4(9999), db.v4(53), b"still there?"))
        .unwrap();
    assert!(mallory.receive(BRIEFLY).unwrap().is_none());
    assert!(!mallory.shake(BRIEFLY).unwrap());
}
