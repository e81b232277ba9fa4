//! A node on its machine: rights, restarts, shutdown, moves, address translation.

use std::time::Duration;

use ringfence_e2e::{Live, Node, NodeOptions};
use ringfence_lab::{Host, Nat, Reach, wait_until};
use serde_json::json;

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow, leased};

#[test]
fn a_node_works_with_cap_net_admin_and_nothing_else() {
    let shop = Shop::start("unprivileged");
    let host = shop.mesh.lab().host("plain").unwrap();
    host.join(shop.mesh.lan(), &["10.77.0.60/24", "fd77::60/64"])
        .unwrap();
    // As udev sets it up on Debian: everybody may open it, the capability decides.
    let tun = "mknod /run/ringfence/tun c 10 200 && chmod 0666 /run/ringfence/tun && mount --bind /run/ringfence/tun /dev/net/tun";
    host.command("sh").args(["-c", tun]).text().unwrap();
    let options = NodeOptions {
        user: Some("65534".to_owned()),
        ..NodeOptions::default()
    };
    let plain = shop.mesh.node_on(&host, "plain", &["role=api"], options).unwrap();
    shop.enforce(&[API_TO_DB]);

    let status = std::fs::read_to_string(format!("/proc/{}/status", plain.running().pid())).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    let net_admin = format!("{:016x}", 1 << 12);
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(field(set), net_admin, "{set}");
    }
    assert!(field("Uid:").starts_with("65534\t65534"));
    for at in Shop::at(&shop.db).both(5432) {
        drop(Live::open(&host, shop.db.host(), at.ip(), 5432).unwrap());
    }
    let mut plain = plain;
    plain.stop().unwrap();
    assert_eq!(leftovers(&plain), Vec::<String>::new());
}

/// What a node should not leave behind.
fn leftovers(node: &Node) -> Vec<String> {
    let run = |words: &str| {
        let (program, rest) = words.split_once(' ').unwrap();
        node.host()
            .command(program)
            .args(rest.split(' '))
            .run()
            .unwrap()
            .stdout
    };
    let mut found = Vec::new();
    let lines = [
        run("ip -br link"),
        run("ip route show table all"),
        run("ip -6 route show table all"),
        run("ip rule"),
    ];
    found.extend(
        lines
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| line.contains("rf-"))
            .map(str::to_owned),
    );
    found.extend(run("ls /run/wireguard").lines().map(str::to_owned));
    if node.socket().exists() {
        found.push(node.socket().display().to_string());
    }
    let tables = run("nft list tables");
    found.extend(
        tables
            .lines()
            .filter(|line| line.contains("ringfence"))
            .map(str::to_owned),
    );
    found
}

#[test]
fn a_clean_shutdown_removes_everything_a_node_made() {
    let mut shop = Shop::open("shutdown", &[API_TO_DB]);
    drop(shop.live());
    assert!(!leftovers(&shop.db).is_empty(), "there is something to remove");

    shop.db.stop().unwrap();
    assert_eq!(leftovers(&shop.db), Vec::<String>::new());
    shop.api.running().interrupt();
    assert!(shop.api.running().wait(SOON).unwrap().success());
    assert_eq!(leftovers(&shop.api), Vec::<String>::new());

    // After SIGKILL the next start takes over what is there, and works.
    shop.db.start().unwrap();
    shop.api.start().unwrap();
    drop(shop.live());
    std::thread::sleep(SAVED_WITHIN);
    shop.db.kill();
    shop.db.start().unwrap();
    drop(shop.live());
}

/// How long what a node learns of its peers may be in its memory alone.
const SAVED_WITHIN: Duration = Duration::from_secs(4);

#[test]
fn a_restart_within_the_lease_needs_no_controller_and_one_after_it_has_no_peers() {
    let mut shop = Shop::start("restart");
    shop.mesh.apply_and_wait(&leased(&[API_TO_DB], "20s")).unwrap();
    drop(shop.live());
    std::thread::sleep(SAVED_WITHIN);
    shop.mesh.stop_controller().unwrap();

    for node in [&mut shop.db, &mut shop.api] {
        node.kill();
        node.launch().unwrap();
    }
    let db = Shop::at(&shop.db);
    wait_until(SOON, "the tunnel to work without a controller", || {
        Live::open(shop.api.host(), shop.db.host(), db.v4.into(), 5432).is_ok()
    })
    .unwrap();
    let left = shop.db.segment(SHOP).unwrap()["lease_seconds"].as_u64().unwrap();
    assert!(left > 0 && left < 20, "{left} s");

    shop.db.kill();
    std::thread::sleep(Duration::from_secs(left + 1));
    shop.db.launch().unwrap();
    let segment = shop.db.segment(SHOP).unwrap();
    assert_eq!(
        (&segment["lease_seconds"], &segment["peers"]),
        (&json!(0), &json!([])),
        "{segment}"
    );
    assert_eq!(shop.db.status().unwrap()["controller"]["connected"], false);
}

#[test]
fn connections_outlive_a_move_of_either_node() {
    let shop = Shop::open("moves", &[API_TO_DB]);
    let live = shop.live();

    shop.api
        .host()
        .set_addresses(shop.mesh.lan(), &["10.77.0.101/24", "fd77::101/64"])
        .unwrap();
    live.exchange(Duration::from_secs(20)).unwrap();
    shop.db
        .host()
        .set_addresses(shop.mesh.lan(), &["10.77.0.102/24", "fd77::102/64"])
        .unwrap();
    live.exchange(Duration::from_secs(30)).unwrap();

    // Both at once: neither can tell the other, the controller does.
    shop.api
        .host()
        .set_addresses(shop.mesh.lan(), &["10.77.0.103/24", "fd77::103/64"])
        .unwrap();
    shop.db
        .host()
        .set_addresses(shop.mesh.lan(), &["10.77.0.104/24", "fd77::104/64"])
        .unwrap();
    live.exchange(Duration::from_mins(1)).unwrap();
    assert!(live.is_open());
}

#[test]
fn a_node_behind_address_translation_reaches_and_is_reached() {
    let rules = [API_TO_DB, allow("db", "api", "tcp/8080")];
    let mut mesh = ringfence_e2e::Mesh::start("nat").unwrap();
    let db = mesh.node("db", &["role=db"]).unwrap();
    let home = mesh.lab().network("home").unwrap();
    let router = mesh.lab().router("router").unwrap();
    router.join(mesh.lan(), &["10.77.0.200/24"]).unwrap();
    router.join(&home, &["192.168.9.1/24"]).unwrap();
    router.nat(mesh.lan(), Nat::Masquerade).unwrap();
    let host = mesh.lab().host("api").unwrap();
    host.join(&home, &["192.168.9.2/24"]).unwrap();
    host.route("default", "192.168.9.1").unwrap();
    let api = mesh
        .node_on(&host, "api", &["role=api"], NodeOptions::default())
        .unwrap();
    mesh.apply_and_wait(&leased(&rules, "10m")).unwrap();

    let (db_at, api_at) = (Shop::at(&db), Shop::at(&api));
    let live = Live::open(api.host(), db.host(), db_at.v4.into(), 5432).unwrap();
    let back = Live::open(db.host(), api.host(), api_at.v6.into(), 8080).unwrap();
    live.exchange(SOON).unwrap();
    back.exchange(SOON).unwrap();
    let peer = db.peer(SHOP, "api").unwrap().unwrap();
    assert!(
        peer["endpoint"].as_str().unwrap().starts_with("10.77.0.200:"),
        "{peer}"
    );
}

#[test]
fn a_partition_heals() {
    let shop = Shop::open("partition", &[API_TO_DB]);
    let live = shop.live();
    let (db, api) = (shop.db.host().clone(), shop.api.host().clone());

    shop.mesh.lab().partition(&db, &api).unwrap();
    assert!(live.exchange(Duration::from_secs(3)).is_err());
    shop.mesh.lab().heal(&db, &api).unwrap();

    live.exchange(Duration::from_secs(20)).unwrap();
    assert!(live.is_open());
}

#[test]
fn a_node_with_a_full_disk_still_revokes() {
    let mut shop = Shop::start("nodedisk");
    let host = shop.mesh.bare_host("small").unwrap();
    small_disk(&host);
    let small = shop
        .mesh
        .node_on(&host, "small", &["role=api"], NodeOptions::default())
        .unwrap();
    shop.enforce(&[API_TO_DB, allow("web", "db", "tcp/443")]);
    let live = Live::open(&host, shop.db.host(), Shop::at(&shop.db).v4.into(), 5432).unwrap();
    let full = host.command("sh").args([
        "-c",
        "dd if=/dev/zero of=state/filler bs=4k; dd if=/dev/zero of=state/rest bs=1",
    ]);
    assert!(full.run().unwrap().stderr.contains("No space left"));

    let answer = shop
        .mesh
        .api()
        .unwrap()
        .apply(&leased(&[allow("web", "db", "tcp/443")], "10m"))
        .unwrap();

    let (client, server) = live.wait_cut(SOON).unwrap();
    assert!(client.is_reset() && server.is_reset(), "{client:?} {server:?}");
    assert!(client.at.saturating_duration_since(answer.at) < Duration::from_secs(1));
    let receipt = shop.mesh.wait_enforced().unwrap();
    assert_eq!(receipt["complete"], true, "{receipt}");
    assert_eq!(small.segment(SHOP).unwrap()["peers"], json!([]));

    // After a restart without a controller it must not remember what it could not unlearn on disk.
    shop.mesh.kill_controller();
    let mut small = small;
    small.kill();
    small.launch().unwrap();
    assert!(
        small.peer(SHOP, "db").ok().flatten().is_none(),
        "{}",
        small.status().unwrap()
    );
    assert_ne!(host.try_tcp(Shop::at(&shop.db).v4(5432), BRIEFLY), Reach::Open);
}

/// A disk of 256 KiB for the node's state, seen by the programs of its host.
fn small_disk(host: &Host) {
    std::fs::create_dir(host.dir().join("state")).unwrap();
    let mount = host
        .command("mount")
        .args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "disk", "state"]);
    mount.text().unwrap();
}
