//! Whatever bytes arrive, at whichever port: dropped and counted, and everything goes on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringfence_e2e::packet::udp;
use ringfence_e2e::{Mesh, Stranger, public_key_of, random_bytes};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow};

/// Numbers that look random and come again with the same seed.
struct Noise(u64);

impl Noise {
    fn new() -> Self {
        Self(u64::from_le_bytes(random_bytes().unwrap()) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }
}

#[test]
fn no_datagram_at_the_tunnel_port_stops_a_node_or_is_answered() {
    let mut shop = Shop::open("noise", &[API_TO_DB, allow("web", "db", "tcp/443")]);
    let live = shop.live();
    let (db_key, db_at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());
    let outside = shop.mesh.bare_host("outside").unwrap();
    // It holds a key of the perimeter, so what it sends is wrong by one bit and by nothing else.
    let mut stranger = Stranger::new(&outside, shop.web.private_key(SHOP).unwrap(), &db_key, db_at).unwrap();
    let good = stranger.initiation().unwrap();

    for bit in 0..(good.len() - 16) * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        stranger.send_datagram(&flipped).unwrap();
    }
    for length in 0..good.len() {
        stranger.send_datagram(&good[..length]).unwrap();
    }
    let mut noise = Noise::new();
    for round in 0..3000_usize {
        let length = noise.next() as usize % 1500;
        let mut datagram = noise.bytes(length);
        // Half of it begins as WireGuard does: initiation, response, cookie, data.
        if let (Some(start), true) = (datagram.get_mut(..4), round % 2 == 0) {
            start.copy_from_slice(&[(round / 2 % 4) as u8 + 1, 0, 0, 0]);
        }
        stranger.send_datagram(&datagram).unwrap();
    }

    assert_eq!(stranger.hear(BRIEFLY).unwrap(), None, "seed {}", noise.0);
    live.exchange(SOON).unwrap();
    let drops = shop.db.status().unwrap()["drops"].clone();
    let total: u64 = drops
        .as_object()
        .unwrap()
        .values()
        .filter_map(serde_json::Value::as_u64)
        .sum();
    assert!(total > 4000, "each one is counted: {drops}");
    // A member's handshake gets through all the same.
    drop(
        ringfence_e2e::Live::open(shop.web.host(), shop.db.host(), Shop::at(&shop.db).v4.into(), 443)
            .unwrap(),
    );
}

#[test]
fn a_flipped_bit_in_a_session_is_not_delivered_and_does_not_end_it() {
    let mut shop = Shop::open("flips", &[allow("device", "db", "udp/53")]);
    let key = random_bytes().unwrap();
    let host = shop.mesh.bare_host("device").unwrap();
    let public_key = public_key_of(key);
    let add = [
        "peer",
        "add",
        "device",
        "--perimeter",
        SHOP,
        "--label",
        "role=device",
        "--public-key",
        &public_key,
    ];
    shop.mesh.cli(add).unwrap().text().unwrap();
    shop.db.wait_peer(SHOP, "device").unwrap();
    let peer = shop.db.peer(SHOP, "device").unwrap().unwrap();
    let own: std::net::IpAddr = peer["addresses"][0].as_str().unwrap().parse().unwrap();
    let (src, dst) = (std::net::SocketAddr::new(own, 999), Shop::at(&shop.db).v4(53));
    let server = shop.db.host().serve(dst).unwrap();
    let (db_key, db_at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());
    let mut device = Stranger::new(&host, key, &db_key, db_at).unwrap();
    assert!(device.shake(SOON).unwrap());

    let sealed = device.seal(&udp(src, dst, b"hello")).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        device.send_datagram(&flipped).unwrap();
    }
    for length in 0..sealed.len() {
        device.send_datagram(&sealed[..length]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.datagrams(), 0);
    device.send_datagram(&sealed).unwrap();
    assert!(device.receive(SOON).unwrap().is_some(), "the honest one arrives");
    // And once only.
    device.send_datagram(&sealed).unwrap();
    assert!(device.receive(BRIEFLY).unwrap().is_none());
    assert_eq!(server.datagrams(), 1);
}

#[test]
fn no_bytes_at_the_controllers_ports_stop_it() {
    let mut shop = Shop::open("ports", &[API_TO_DB]);
    let outside = shop.mesh.bare_host("outside").unwrap();
    let at = shop.mesh.address();
    let socket = outside.udp_bind(([0; 4], 0).into()).unwrap();
    let mut noise = Noise::new();
    for round in 0..3000_usize {
        let length = noise.next() as usize % 1400;
        let mut datagram = noise.bytes(if round % 3 == 0 { 1200 } else { length });
        if round % 3 == 0 {
            // A QUIC version 1 Initial, as far as its first bytes go.
            datagram[..6].copy_from_slice(&[0xc0 | (round % 16) as u8, 0, 0, 0, 1, 8]);
        }
        socket.send_to(&datagram, at).unwrap();
    }
    let mut held = Vec::new();
    for round in 0..60 {
        let mut stream = outside.tcp_connect(at, SOON).unwrap();
        let _ = match round % 3 {
            0 => stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nHost: 10.77.0.1\r\n\r\n"),
            1 => stream.write_all(&noise.bytes(600)),
            _ => stream.write_all(&[0x16, 3, 1, 2]),
        };
        held.push(stream);
    }

    assert!(shop.mesh.controller().is_running());
    let nodes = shop.mesh.json(["node", "ls"]).unwrap();
    for node in nodes["nodes"].as_array().unwrap() {
        assert_eq!(node["connected"], true, "{node} (seed {})", noise.0);
    }
    shop.enforce(&[API_TO_DB, allow("web", "db", "tcp/443")]);
    for mut stream in held {
        // Not HTTP in clear: nothing of ours is ever told without TLS.
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut answer = [0; 256];
        let length = stream.read(&mut answer).unwrap_or(0);
        assert!(
            !answer[..length].starts_with(b"HTTP"),
            "{}",
            String::from_utf8_lossy(&answer[..length])
        );
    }
}

#[test]
fn a_nodes_local_socket_answers_no_nonsense() {
    let mut mesh = Mesh::start("local").unwrap();
    let node = mesh.node("node", &["role=node"]).unwrap();
    let mut noise = Noise::new();

    for line in [
        b"{".to_vec(),
        b"{\"request\":\"ping\",\"peer\":\"nobody\",\"count\":4000000000}".to_vec(),
        b"{\"request\":\"shutdown\"}".to_vec(),
        [b'['; 3000].to_vec(),
        vec![b'x'; 100_000],
        noise.bytes(2000),
    ] {
        let mut stream = UnixStream::connect(node.socket()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let _ = stream.write_all(&line).and_then(|()| stream.write_all(b"\n"));
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            answer.is_empty() || answer.contains("\"response\":\"error\""),
            "{answer}"
        );
    }

    assert_eq!(node.status().unwrap()["node"], "node");
}
