//! Whatever arrives, at whichever port: refused or counted, and everything goes on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringfence_e2e::packet::udp;
use ringfence_e2e::{Mesh, Stranger, public_key_of, random_bytes};
use ringfence_lab::Host;

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow, policy};

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
    let total: u64 = drops.as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    assert!(total > 4000, "each one is counted: {drops}");
    // A member's handshake gets through all the same.
    drop(ringfence_e2e::Live::open(shop.web.host(), shop.db.host(), Shop::at(&shop.db).v4.into(), 443).unwrap());
}

#[test]
fn a_flipped_bit_in_a_session_is_not_delivered_and_does_not_end_it() {
    let mut shop = Shop::open("flips", &[allow("device", "db", "udp/53")]);
    let key = random_bytes().unwrap();
    let host = shop.mesh.bare_host("device").unwrap();
    let public_key = public_key_of(key);
    let add = ["peer", "add", "device", "--perimeter", SHOP, "--label", "role=device", "--public-key", &public_key];
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
        assert!(!answer[..length].starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer[..length]));
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
        assert!(answer.is_empty() || answer.contains("\"response\":\"error\""), "{answer}");
    }

    assert_eq!(node.status().unwrap()["node"], "node");
}

#[test]
fn the_api_refuses_what_it_does_not_understand_and_changes_nothing() {
    let mesh = Mesh::start("api").unwrap();
    mesh.apply(&policy(&[API_TO_DB])).unwrap();
    let api = mesh.api().unwrap();
    let revision = || api.get("/api/v1/revisions/latest").unwrap().json().unwrap();
    let before = revision();
    let host = "Host: 10.77.0.1:7443\r\n";
    let json = "Content-Type: application/json\r\n";
    let who = format!("Authorization: Bearer {}\r\n", api.token());
    let admin = format!("{host}{who}{json}");
    let deep = format!("{{\"files\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let text = serde_json::json!({ "files": [{ "name": "x.toml", "text": "[perimeter]\nnmae = \"x\"\n" }] }).to_string();
    let cases: Vec<(&str, &str, String, &[u8], &[u16])> = vec![
        ("GET", "/api/v1/nodes", host.to_owned(), b"", &[401]),
        ("GET", "/api/v1/nodes", format!("{host}Authorization: Bearer rfa_wrong\r\n"), b"", &[401]),
        ("GET", "/api/v1/nodes", format!("{host}Authorization: Basic YTpi\r\n"), b"", &[401]),
        ("GET", "/api/v1/nodes", format!("Host: evil.example\r\n{who}"), b"", &[421]),
        ("GET", "/api/v1/nodes", format!("{admin}Origin: https://evil.example\r\n"), b"", &[403]),
        ("GET", "/api/v1/nothing", admin.clone(), b"", &[404]),
        ("GET", "/api/v1/nodes/..%2f..%2fetc", admin.clone(), b"", &[400, 404]),
        ("PUT", "/api/v1/nodes", admin.clone(), b"", &[405]),
        ("POST", "/api/v1/tokens", format!("{host}{who}Content-Type: text/plain\r\n"), b"{}", &[415]),
        ("POST", "/api/v1/tokens", admin.clone(), b"{\"labels\":", &[400]),
        ("POST", "/api/v1/tokens", admin.clone(), b"{\"labels\":{\"a\":\"b\"},\"root\":true}", &[400]),
        ("POST", "/api/v1/tokens", admin.clone(), b"{\"labels\":{\"A B\":\"<script>\"}}", &[400, 422]),
        ("POST", "/api/v1/tokens", admin.clone(), b"{\"labels\":{\"a\":\"b\"},\"uses\":-1}", &[400]),
        ("POST", "/api/v1/tokens", admin.clone(), b"{\"labels\":{\"a\":\"b\"},\"ttl_seconds\":99999999999999}", &[400, 422]),
        ("POST", "/api/v1/tokens", admin.clone(), b"\xff\xfe", &[400]),
        ("POST", "/api/v1/perimeters", admin.clone(), deep.as_bytes(), &[400]),
        ("POST", "/api/v1/perimeters", admin.clone(), text.as_bytes(), &[422]),
        ("POST", "/api/v1/perimeters", admin.clone(), &[b' '; 2 << 20], &[413]),
        ("POST", "/api/v1/peers", admin.clone(), b"{\"name\":\"x\",\"perimeter\":\"shop\",\"public_key\":\"AAAA\"}", &[400]),
        ("PATCH", "/api/v1/nodes/nobody", admin.clone(), b"{\"name\":\"Bad Name\"}", &[400, 404]),
        ("DELETE", "/api/v1/perimeters/none", admin.clone(), b"", &[404]),
        ("GET", "/api/v1/audit?since_ms=yesterday", admin.clone(), b"", &[400]),
        ("GET", "/api/v1/revisions/99.99/wait?timeout_ms=0", admin.clone(), b"", &[404]),
        ("GET", "/api/v1/revisions/latest/wait?timeout_ms=-1", admin.clone(), b"", &[400]),
    ];

    for (method, path, headers, body, expected) in cases {
        let answer = api.raw(method, path, &headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error:#}"));
        let shown = format!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        assert!(expected.contains(&answer.status), "{shown}, not {expected:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        let problem = answer.json().unwrap();
        assert_eq!(problem["status"], answer.status, "{shown}");
        assert!(problem["title"].is_string() && problem["request_id"].is_string(), "{shown}");
        assert!(!shown.contains(api.token()), "the answer repeats the token: {shown}");
    }
    for garbage in [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
        if let Ok(answer) = api.exchange(garbage) {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(revision(), before);
}

#[test]
fn a_malformed_policy_is_told_by_line_and_column_and_changes_nothing() {
    let mesh = Mesh::start("toml").unwrap();
    let good = policy(&[API_TO_DB]);
    mesh.apply(&good).unwrap();
    let before = mesh.json(["perimeter", "show", SHOP]).unwrap();
    let folder = mesh.host().dir().join("policies");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("another.toml"), good.replace("\"shop\"", "\"another\"")).unwrap();

    for (from, to, line, told) in [
        ("owners", "onwers", 4, "owners"),
        ("\"tcp/5432\"", "\"tcp/99999\"", 18, ""),
        ("\"tcp/5432\"", "\"tpc/5432\"", 18, "tcp"),
        ("from = \"api\"", "from = \"apy\"", 16, "api"),
        ("criticality = \"high\"", "criticality = \"hihg\"", 5, "high"),
        ("lease = \"10m\"", "lease = \"1ms\"", 7, ""),
        ("name = \"shop\"", "name = \"Shop Ä\"", 2, ""),
        ("role=db", "role==db,", 10, ""),
        ("[members]", "[members", 9, ""),
        ("lease = \"10m\"", "lease = 10", 7, ""),
        ("[[allow]]", "[[deny]]", 15, "allow"),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good, "{from}");
        std::fs::write(folder.join("bad.toml"), broken).unwrap();
        let apply = mesh.cli(["perimeter", "apply", "-f"]).unwrap().arg(&folder).run().unwrap();
        assert_eq!((apply.code(), apply.stdout.as_str()), (Some(1), ""), "{to}: {}", apply.all());
        assert!(apply.stderr.contains(&format!("bad.toml:{line}:")), "{to}: {}", apply.stderr);
        assert!(apply.stderr.contains(told), "{to}: {}", apply.stderr);
    }
    for bytes in [&b"\xff\xfe\x00"[..], &[b'['; 100_000], b"", b"a = 1"] {
        std::fs::write(folder.join("bad.toml"), bytes).unwrap();
        let apply = mesh.cli(["perimeter", "apply", "-f"]).unwrap().arg(&folder).run().unwrap();
        assert_eq!((apply.code(), apply.stdout.as_str()), (Some(1), ""), "{}", apply.all());
    }
    // Not even the good file beside it.
    let perimeters = mesh.json(["perimeter", "ls"]).unwrap();
    assert_eq!(perimeters["perimeters"].as_array().unwrap().len(), 1);
    assert_eq!(mesh.json(["perimeter", "show", SHOP]).unwrap(), before);
}

#[test]
fn directories_that_others_can_reach_are_refused() {
    let mut mesh = Mesh::start("rights").unwrap();
    let mut node = mesh.node("node", &["role=node"]).unwrap();
    node.stop().unwrap();
    mesh.stop_controller().unwrap();
    let chmod = |host: &Host, mode: &str, path: &std::path::Path| {
        host.command("chmod").arg(mode).arg(path).text().unwrap();
    };
    let controller = |mesh: &Mesh| {
        let run = mesh.controller_command().unwrap().args(["run", "--data-dir"]).arg(mesh.data_dir());
        run.timeout(SOON).run().unwrap()
    };

    let data = mesh.data_dir();
    for (path, wrong, right) in [
        (data.clone(), "0755", "0700"),
        (data.join("ca.key"), "0640", "0600"),
        (data.join("store.sqlite"), "0604", "0600"),
    ] {
        chmod(mesh.host(), wrong, &path);
        let run = controller(&mesh);
        assert_eq!(run.code(), Some(1), "{}", run.all());
        assert!(run.stderr.contains("chmod") && run.stderr.contains(path.to_str().unwrap()), "{}", run.stderr);
        chmod(mesh.host(), right, &path);
    }
    mesh.host().command("chown").arg("65534").arg(&data).text().unwrap();
    let run = controller(&mesh);
    assert!(run.code() == Some(1) && run.stderr.contains("65534"), "{}", run.all());
    mesh.host().command("chown").arg("0").arg(&data).text().unwrap();
    let admin = data.join("admin.toml");
    chmod(mesh.host(), "0644", &admin);
    let ls = mesh.cli(["perimeter", "ls"]).unwrap().run().unwrap();
    assert!(ls.code() != Some(0) && ls.stderr.contains("chmod"), "{}", ls.all());
    chmod(mesh.host(), "0600", &admin);
    mesh.start_controller().unwrap();

    let state = node.state_dir();
    for (path, wrong, right) in [(state.clone(), "0750", "0700"), (state.join("identity.pem"), "0644", "0600")] {
        chmod(node.host(), wrong, &path);
        let run = node.host().command(ringfence_e2e::binary("ringfence-node").unwrap()).args(["run", "--state-dir"]);
        let run = run.arg(&state).arg("--socket").arg(node.socket()).timeout(SOON).run().unwrap();
        assert_eq!(run.code(), Some(1), "{}", run.all());
        assert!(run.stderr.contains("chmod"), "{}", run.stderr);
        chmod(node.host(), right, &path);
    }
    node.start().unwrap();
}
