//! What fails, and what happens then.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ringfence_e2e::{Mesh, MeshOptions, Stranger, perimeter};
use ringfence_lab::{Lab, Reach, wait_until};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow, leased, policy};

#[test]
fn tunnels_outlive_the_controller_until_the_lease_ends_and_come_back_by_themselves() {
    let mut shop = Shop::start("lease");
    shop.mesh.apply_and_wait(&leased(&[API_TO_DB], "10s")).unwrap();
    let at = Shop::at(&shop.db).v4(5433);
    let live = shop.live();
    let key = shop.db.public_key(SHOP).unwrap();

    shop.mesh.kill_controller();
    let killed = Instant::now();
    thread::sleep(Duration::from_secs(5));
    live.exchange(SOON).unwrap();
    drop(ringfence_e2e::Live::open(shop.api.host(), shop.db.host(), at.ip(), 5432).unwrap());

    let (client, server) = live.wait_cut(Duration::from_secs(8)).unwrap();
    for cut in [client, server] {
        let lived = cut.at.duration_since(killed);
        assert!(cut.is_reset(), "{cut:?}");
        assert!(
            lived > Duration::from_secs(5) && lived < Duration::from_secs(11),
            "the lease ended after {lived:?}"
        );
    }
    for node in [&shop.db, &shop.api] {
        // Each by its own clock, from the word it heard last.
        wait_until(Duration::from_secs(3), "the lease to end at both", || {
            node.segment(SHOP)
                .is_ok_and(|segment| segment["lease_seconds"] == 0)
        })
        .unwrap();
        let segment = node.segment(SHOP).unwrap();
        assert_eq!(
            (&segment["lease_seconds"], &segment["peers"]),
            (&json!(0), &json!([])),
            "{segment}"
        );
    }
    let server = shop.db.host().serve(Shop::at(&shop.db).v4(5432)).unwrap();
    assert_ne!(
        shop.api.host().try_tcp(Shop::at(&shop.db).v4(5432), BRIEFLY),
        Reach::Open
    );
    // Closed is not unguarded: what is for the perimeter does not leave in clear by another way.
    let route = shop
        .api
        .host()
        .command("ip")
        .args(["route", "get", &at.ip().to_string()])
        .run()
        .unwrap();
    assert!(route.all().contains("rf-shop"), "{}", route.all());
    let api_key = shop.api.private_key(SHOP).unwrap();
    let mut api = Stranger::new(shop.api.host(), api_key, &key, shop.db.endpoint().unwrap()).unwrap();
    assert!(!api.shake(BRIEFLY).unwrap(), "a closed segment answers nobody");

    shop.mesh.start_controller().unwrap();
    wait_until(Duration::from_secs(40), "the tunnel to open again", || {
        shop.api.host().try_tcp(Shop::at(&shop.db).v4(5432), BRIEFLY) == Reach::Open
    })
    .unwrap();
    assert_eq!(
        shop.db.public_key(SHOP).unwrap(),
        key,
        "the key outlives a closed segment"
    );
    drop(server);
}

#[test]
fn a_controller_killed_during_an_apply_has_applied_all_of_it_or_nothing() {
    let mut mesh = Mesh::start("killed").unwrap();
    let node = mesh.node("node", &["role=node"]).unwrap();
    mesh.api()
        .unwrap()
        .post("/api/v1/perimeters", &files(0))
        .unwrap()
        .ok()
        .unwrap();
    let (mut last, mut landed, mut lost) = (0, 0, 0);
    for generation in 1..=KILLS {
        let api = mesh.api().unwrap();
        let request = thread::spawn(move || {
            let answer = api.post("/api/v1/perimeters", &files(generation));
            answer.is_ok_and(|answer| answer.status == 200)
        });
        // Spread over what an apply takes, from its first byte to after its answer.
        thread::sleep(Duration::from_millis(2 * generation as u64));
        mesh.kill_controller();
        let answered = request.join().unwrap();
        mesh.start_controller().unwrap();

        let now = generation_in_force(&mesh);
        assert!(
            now == last || now == generation,
            "{now} after {last} and {generation}"
        );
        assert!(!answered || now == generation, "it was answered and is not there");
        let count = if now == generation { &mut landed } else { &mut lost };
        *count += 1;
        last = now;
        assert_eq!(mesh.json(["audit", "verify"]).unwrap()["ok"], true);
    }
    assert!(
        landed > 0 && lost > 0,
        "no kill came before and after: {landed} landed, {lost} lost"
    );

    wait_until(Duration::from_secs(40), "the node to follow", || {
        let latest = mesh.json(["wait", "--timeout", "5s"]);
        latest.is_ok_and(|receipt| receipt["enforced"] == 1)
    })
    .unwrap();
    assert_eq!(
        node.status().unwrap()["segments"].as_array().unwrap().len(),
        PARTS
    );
}

/// One apply of several perimeters, each of which names the generation.
fn files(generation: usize) -> Value {
    let file = |n: usize| {
        let name = format!("part-{n}");
        let text = perimeter(
            &name,
            "10m",
            &[("all", "role=node")],
            &[allow("all", "all", "tcp/80")],
        );
        let text = text.replace("a test", &format!("generation {generation}"));
        json!({ "name": format!("{name}.toml"), "text": text })
    };
    json!({ "files": (0..PARTS).map(file).collect::<Vec<_>>() })
}

/// The generation that all perimeters are of.
fn generation_in_force(mesh: &Mesh) -> usize {
    let listed = mesh.json(["perimeter", "ls"]).unwrap();
    let listed = listed["perimeters"].as_array().unwrap();
    let found: Vec<&str> = listed
        .iter()
        .map(|one| one["description"].as_str().unwrap())
        .collect();
    assert_eq!(found.len(), PARTS);
    assert!(
        found.iter().all(|one| *one == found[0]),
        "half of it was applied: {found:?}"
    );
    found[0].trim_start_matches("generation ").parse().unwrap()
}

const PARTS: usize = 6;
const KILLS: usize = 12;

#[test]
fn a_second_instance_on_the_same_directory_is_refused() {
    let mut mesh = Mesh::start("second").unwrap();
    let node = mesh.node("node", &["role=node"]).unwrap();

    let second = mesh
        .controller_command()
        .unwrap()
        .args(["run", "--data-dir"])
        .arg(mesh.data_dir())
        .run()
        .unwrap();
    assert_eq!(second.code(), Some(1), "{}", second.all());
    assert!(second.stderr.contains("in use by another"), "{}", second.stderr);

    let again =
        mesh.controller_command()
            .unwrap()
            .args(["init", "--mesh", "other", "--advertise", "10.77.0.1:7443"]);
    let again = again.arg("--data-dir").arg(mesh.data_dir()).run().unwrap();
    assert_eq!(again.code(), Some(1), "{}", again.all());

    let second = node
        .host()
        .command(ringfence_e2e::binary("ringfence-node").unwrap())
        .args(["run", "--state-dir"]);
    let second = second
        .arg(node.state_dir())
        .args(["--socket", "/run/ringfence/second.sock"])
        .run()
        .unwrap();
    assert_eq!(second.code(), Some(1), "{}", second.all());
    assert!(second.stderr.contains("in use by another"), "{}", second.stderr);

    assert!(mesh.json(["node", "ls"]).unwrap()["nodes"][0]["connected"] == true);
}

#[test]
fn a_full_disk_refuses_changes_loses_nothing_and_cuts_nobody() {
    let options = MeshOptions {
        disk_kib: Some(3072),
        ..MeshOptions::default()
    };
    let mesh = Mesh::start_with(Lab::new("disk").unwrap(), options).unwrap();
    let mut shop = Shop::in_mesh(mesh);
    shop.enforce(&[API_TO_DB]);
    let live = shop.live();
    let before = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();
    let disk = |script: &str| {
        let sh = shop.mesh.host().command("sh").args(["-c", script]);
        sh.current_dir(shop.mesh.host().dir()).run().unwrap()
    };

    let filled = disk("dd if=/dev/zero of=data/filler bs=4k; dd if=/dev/zero of=data/rest bs=1");
    assert!(filled.stderr.contains("No space left"), "{}", filled.all());
    // A full disk may still have room in pages that the store owns already: go on until it has not.
    let mut refused = None;
    for port in 6000..6200 {
        let more = format!(
            "{}\n# {}\n",
            policy(&[API_TO_DB, allow("web", "db", "tcp/443")]),
            "x".repeat(8000)
        );
        let more = more.replace("tcp/443", &format!("tcp/{port}"));
        let apply = shop
            .mesh
            .cli(["perimeter", "apply", "-f", "-"])
            .unwrap()
            .input(&more)
            .run()
            .unwrap();
        if !apply.status.success() {
            refused = Some(apply);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Some(1), "{}", refused.all());
    assert!(refused.stderr.contains("full"), "{}", refused.stderr);
    let now = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();
    assert!(now["summary"]["revision"].is_string() && before["summary"]["name"] == now["summary"]["name"]);
    let token = shop
        .mesh
        .cli(["token", "create", "--label", "role=late"])
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(token.code(), Some(1), "{}", token.all());
    assert_eq!(token.stdout, "");
    live.exchange(SOON).unwrap();
    assert_eq!(
        shop.mesh.json(["node", "ls"]).unwrap()["nodes"][0]["connected"],
        true
    );

    assert!(disk("rm data/filler data/rest").status.success());
    shop.enforce(&[API_TO_DB, allow("web", "db", "tcp/443")]);
    shop.mesh.stop_controller().unwrap();
    // The data directory is seen by its own host alone; so is whether it answers.
    shop.mesh.start_controller().unwrap();
    assert_eq!(shop.mesh.json(["audit", "verify"]).unwrap()["ok"], true);
    let after = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();
    assert_eq!(after["rules"].as_array().unwrap().len(), 2);
    live.exchange(SOON).unwrap();
}

#[test]
fn a_damaged_store_is_refused_and_told() {
    let mut mesh = Mesh::start("damaged").unwrap();
    mesh.apply(&policy(&[API_TO_DB])).unwrap();
    mesh.stop_controller().unwrap();
    let store = mesh.data_dir().join("store.sqlite");
    let good = fs::read(&store).unwrap();
    let damages: [(&str, Vec<u8>); 5] = [
        ("nothing in it", Vec::new()),
        ("not a database", vec![0xAA; 8192]),
        ("its head gone", [vec![0; 100], good[100..].to_vec()].concat()),
        ("its second half gone", good[..good.len() / 2].to_vec()),
        (
            "a page in its middle gone",
            [&good[..4096], &[0x55; 4096], &good[8192..]].concat(),
        ),
    ];

    for (what, bytes) in damages {
        replace(&store, &bytes);
        let run = mesh
            .controller_command()
            .unwrap()
            .args(["run", "--data-dir"])
            .arg(mesh.data_dir());
        let run = run
            .timeout(SOON)
            .run()
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(run.code(), Some(1), "{what}: {}", run.all());
        assert!(run.stderr.contains("error: "), "{what}: {}", run.all());
        assert!(!run.all().contains("panicked"), "{what}: {}", run.all());
        assert_eq!(
            fs::read(&store).unwrap(),
            bytes,
            "{what}: what is damaged is evidence"
        );
    }

    replace(&store, &good);
    mesh.start_controller().unwrap();
    assert_eq!(
        mesh.json(["perimeter", "ls"]).unwrap()["perimeters"][0]["name"],
        SHOP
    );
}

/// A store as if nothing else had ever been there: SQLite would mend it from its own log otherwise.
fn replace(store: &Path, bytes: &[u8]) {
    for suffix in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(format!("{}{suffix}", store.display()));
    }
    fs::write(store, bytes).unwrap();
}
