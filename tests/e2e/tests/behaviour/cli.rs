//! The command line as scripts and people use it.

use std::path::Path;
use std::time::Duration;

use ringfence_e2e::{Mesh, binary};
use ringfence_lab::{Host, Output, Reach, Running, Signal, wait_until};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, SHOP, SOON, Shop, allow, policy};

#[test]
fn exit_codes_tell_what_went_wrong() {
    let mut mesh = Mesh::start("codes").unwrap();
    let node = mesh.node("node", &["role=db"]).unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let cli = |args: &[&str]| mesh.cli(args).unwrap().run().unwrap();
    let with = |context: &Path| ringfence(&outside, &["node", "ls", "--context", context.to_str().unwrap()]);

    expect(0, &cli(&["node", "ls"]), "");
    expect(1, &cli(&["node", "show", "nobody"]), "nobody");
    expect(1, &cli(&["perimeter", "rm", "nothing"]), "nothing");
    expect(1, &with(Path::new("/none")), "/none");
    expect(2, &cli(&["nonsense"]), "nonsense");
    expect(
        2,
        &cli(&[
            "explain",
            "--from",
            "node:node",
            "--to",
            "node:node",
            "--port",
            "tpc/1",
        ]),
        "tpc/1",
    );
    expect(2, &cli(&["token", "create", "--label", "no-value"]), "no-value");
    expect(
        3,
        &ringfence(&outside, &["status", "--socket", "/run/ringfence/none.sock"]),
        "no node runs here",
    );
    expect(4, &with(&context(&mesh, &outside, ("rfa_", "rfa_x"))), "token");
    expect(6, &with(&context(&mesh, &outside, (":7443", ":7444"))), "7444");
    node.running().signal(Signal::STOP);
    mesh.apply(&policy(&[allow("db", "db", "tcp/1")])).unwrap();
    let wait = cli(&["wait", "--timeout", "1s"]);
    assert_eq!(wait.code(), Some(5), "{}", wait.all());
    assert!(wait.stdout.contains("still waiting for node"), "{}", wait.all());
    node.running().signal(Signal::CONT);
    expect(0, &cli(&["wait", "--timeout", "20s"]), "");
}

#[test]
fn the_agents_exit_codes_are_the_same() {
    let mut mesh = Mesh::start("agentcodes").unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let token = mesh.token(&["role=db"]).unwrap();
    let agent = |args: &[&str], token: &str| {
        let command = outside
            .command(binary("ringfence-node").unwrap())
            .args(args)
            .args(["--state-dir", "new"]);
        command
            .env("RINGFENCE_TOKEN", token)
            .timeout(2 * SOON)
            .run()
            .unwrap()
    };

    expect(2, &agent(&["enroll", "--nonsense"], ""), "nonsense");
    expect(2, &agent(&["enroll"], "rft_"), "token");
    expect(3, &agent(&["run"], ""), "enrol");
    mesh.kill_controller();
    expect(6, &agent(&["enroll", "--name", "x"], &token), "10.77.0.1:7443");
    mesh.start_controller().unwrap();
    // The token was not spent on the attempt that reached nobody.
    expect(0, &agent(&["enroll", "--name", "x"], &token), "");
    let elsewhere = outside.command(binary("ringfence-node").unwrap()).args([
        "enroll",
        "--name",
        "y",
        "--state-dir",
        "other",
    ]);
    expect(
        4,
        &elsewhere.env("RINGFENCE_TOKEN", &token).run().unwrap(),
        "token",
    );
}

fn ringfence(host: &Host, args: &[&str]) -> Output {
    host.command(binary("ringfence").unwrap())
        .args(args)
        .run()
        .unwrap()
}

/// The administrator's context on another host, with a change to it.
fn context(mesh: &Mesh, host: &Host, (from, to): (&str, &str)) -> std::path::PathBuf {
    let admin = std::fs::read_to_string(mesh.data_dir().join("admin.toml")).unwrap();
    let path = host.dir().join("context.toml");
    std::fs::write(&path, admin.replace(from, to)).unwrap();
    host.command("chmod").arg("0600").arg(&path).text().unwrap();
    path
}

fn expect(code: i32, output: &Output, told: &str) {
    assert_eq!(output.code(), Some(code), "{}", output.all());
    assert!(
        output.stderr.contains(told),
        "{told:?} is not in {}",
        output.stderr
    );
    if code != 0 {
        assert_eq!(output.stdout, "", "an error is no answer");
    }
}

/// What is asked, and a field of the answer.
const LISTINGS: [(&str, &str); 18] = [
    (
        "peer add laptop --perimeter shop --label role=device --public-key k0LW1lJpQSbVGqzZyyUkfN4KdJcYLzMGIxeWkfWGVWY=",
        "wg_quick",
    ),
    ("perimeter ls", "perimeters"),
    ("perimeter show shop", "rules"),
    ("token create --label role=x", "token"),
    ("token ls", "tokens"),
    ("node ls", "nodes"),
    ("node show db", "labels"),
    ("node label web tier=edge", "revision"),
    ("node rename web front", "revision"),
    ("peer ls", "peers"),
    ("peer config laptop", "wg_quick"),
    ("explain --from node:api --to node:db --port tcp/5432", "verdict"),
    ("workload ls", "issuers"),
    ("audit", "entries"),
    ("audit verify", "ok"),
    ("flows", "flows"),
    ("wait", "complete"),
    ("peer rm laptop", "changes"),
];

#[test]
fn every_listing_prints_json_and_nothing_else_on_stdout() {
    let shop = Shop::open("json", &[API_TO_DB]);
    for (args, field) in LISTINGS {
        let output = shop
            .mesh
            .cli(args.split(' '))
            .unwrap()
            .arg("--json")
            .run()
            .unwrap();
        assert_eq!(output.code(), Some(0), "{args}: {}", output.all());
        let answer: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{args}: {}", output.stdout));
        assert!(answer.get(field).is_some(), "{args}: no {field} in {answer}");
        assert!(
            !output.all().contains('\x1b'),
            "no colours on a pipe: {}",
            output.all()
        );
    }
    let token = shop
        .mesh
        .cli(["token", "create", "--label", "role=x"])
        .unwrap()
        .run()
        .unwrap();
    assert!(
        token.stdout.starts_with("rft_") && token.stdout.trim().lines().count() == 1,
        "{}",
        token.stdout
    );
}

#[test]
fn a_node_tells_of_itself_on_its_own_machine() {
    let shop = Shop::open("local", &[API_TO_DB]);

    let ping = shop.api.local(["ping", "db", "--json"]).unwrap().text().unwrap();
    let report: Value = serde_json::from_str(&ping).unwrap();
    assert!(
        report["rtt_us"].as_array().unwrap().iter().all(Value::is_u64),
        "{report}"
    );
    let nobody = shop.api.local(["ping", "web"]).unwrap().run().unwrap();
    assert_eq!(
        nobody.code(),
        Some(1),
        "who is not on the allowlist is not there: {}",
        nobody.all()
    );

    let status = shop.api.status().unwrap();
    let segment = &status["segments"][0];
    for key in [
        "perimeter",
        "interface",
        "public_key",
        "addresses",
        "revision",
        "lease_seconds",
    ] {
        assert!(
            segment.get(key).is_some_and(|value| !value.is_null()),
            "{key}: {status}"
        );
    }
    for key in [
        "node",
        "public_key",
        "addresses",
        "endpoint",
        "latest_handshake",
        "rx_bytes",
        "tx_bytes",
    ] {
        assert!(
            segment["peers"][0].get(key).is_some_and(|value| !value.is_null()),
            "{key}: {status}"
        );
    }
    let text = shop.api.local(["status"]).unwrap().text().unwrap();
    assert!(text.contains("shop") && text.contains("db"), "{text}");
}

#[test]
fn three_commands_make_a_protected_asset() {
    let mut mesh = Mesh::start("create").unwrap();
    let (db, api) = (mesh.bare_host("db").unwrap(), mesh.bare_host("api").unwrap());
    let folder = mesh.host().dir().join("work");
    std::fs::create_dir(&folder).unwrap();
    let create = "perimeter create payments-db --asset role=db --client role=api --port tcp/5432 --owner alice@example.com";

    // One.
    let printed = mesh
        .cli(create.split(' '))
        .unwrap()
        .current_dir(&folder)
        .text()
        .unwrap();
    let commands: Vec<&str> = printed
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("echo rft_"))
        .collect();
    // Two and three, as they were printed.
    let [asset, client] = commands[..] else {
        panic!("{printed}")
    };
    let _running = [join(&db, asset), join(&api, client)];

    let joined = |host: &Host| joined_status(host)["segments"][0]["peers"][0]["node"].is_string();
    wait_until(2 * SOON, "both sides to have joined", || {
        joined(&db) && joined(&api)
    })
    .unwrap();
    let address: std::net::IpAddr = joined_status(&db)["segments"][0]["addresses"][0]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let at = |port: u16| std::net::SocketAddr::new(address, port);
    let _server = db.serve(at(5432)).unwrap();
    assert_eq!(api.try_tcp(at(5432), SOON), Reach::Open);
    assert_eq!(api.try_tcp(at(22), SOON), Reach::Unreachable);

    // The policy file is a policy file: applying it changes nothing; doing it all again is refused.
    let apply = mesh
        .cli(["perimeter", "apply", "-f", "payments-db.toml", "--json"])
        .unwrap()
        .current_dir(&folder);
    let report: Value = serde_json::from_str(&apply.text().unwrap()).unwrap();
    assert_eq!(report["changes"], json!([]));
    let again = mesh
        .cli(create.split(' '))
        .unwrap()
        .current_dir(&folder)
        .run()
        .unwrap();
    assert_eq!(again.code(), Some(1), "{}", again.all());
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

/// Runs a join command as it was printed, on a machine of its own.
fn join(host: &Host, command: &str) -> Running {
    let programs = binary("ringfence-node")
        .unwrap()
        .parent()
        .unwrap()
        .display()
        .to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    // Machines have names of their own; namespaces of networks do not.
    let named = format!("echo {} > /proc/sys/kernel/hostname; {command}", host.name());
    let shell = host
        .command("unshare")
        .args(["--uts", "sh", "-c", &named])
        .env("PATH", &path);
    let shell = shell.env("RINGFENCE_STATE_DIR", host.dir().join("state"));
    shell
        .env("RINGFENCE_SOCKET", host.dir().join("node.sock"))
        .spawn("node")
        .unwrap()
}

fn joined_status(host: &Host) -> Value {
    let socket = host.dir().join("node.sock");
    let status = ringfence(host, &["status", "--json", "--socket", socket.to_str().unwrap()]);
    serde_json::from_str(&status.stdout).unwrap_or_default()
}

#[test]
fn a_renamed_node_and_one_started_by_up_go_on_as_before() {
    let mut shop = Shop::open("rename", &[API_TO_DB]);
    let live = shop.live();
    shop.mesh
        .cli(["node", "rename", "db", "vault"])
        .unwrap()
        .text()
        .unwrap();
    shop.mesh.wait_enforced().unwrap();

    live.exchange(SOON).unwrap();
    shop.api.wait_peer(SHOP, "vault").unwrap();
    assert_eq!(shop.db.status().unwrap()["node"], "vault");
    // `up` on a machine that has joined only runs it: the token, spent long ago, is not asked about.
    shop.db.stop().unwrap();
    let up = shop.db.host().command(binary("ringfence-node").unwrap()).args([
        "up",
        "--token-file",
        "token",
        "--state-dir",
    ]);
    let _running = up
        .arg(shop.db.state_dir())
        .arg("--socket")
        .arg(shop.db.socket())
        .spawn("up")
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    shop.db.wait_connected().unwrap();
}
