//! The command line as scripts and people use it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use ringfence_e2e::{Mesh, Node, NodeOptions, binary};
use ringfence_lab::{Output, Reach, Signal};
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, SHOP, SOON, Shop, allow, policy};

#[test]
fn exit_codes_tell_what_went_wrong() {
    let mut mesh = Mesh::start("codes").unwrap();
    let node = mesh.node("node", &["role=db"]).unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let admin = std::fs::read_to_string(mesh.data_dir().join("admin.toml")).unwrap();
    let context = |name: &str, from: &str, to: &str| {
        let path = outside.dir().join(name);
        std::fs::write(&path, admin.replace(from, to)).unwrap();
        outside.command("chmod").arg("0600").arg(&path).text().unwrap();
        path
    };
    let cli = |args: &[&str]| mesh.cli(args).unwrap().run().unwrap();
    let with = |context: &Path| {
        let command = outside.command(binary("ringfence").unwrap()).args(["node", "ls", "--context"]);
        command.arg(context).run().unwrap()
    };
    let agent = |args: &[&str]| {
        let command = outside.command(binary("ringfence-node").unwrap()).args(args);
        command.timeout(Duration::from_secs(20)).run().unwrap()
    };
    let expect = |code: i32, output: Output, told: &str| {
        assert_eq!(output.code(), Some(code), "{}", output.all());
        assert!(output.stderr.contains(told), "{told:?} is not in {}", output.stderr);
        if code != 0 {
            assert_eq!(output.stdout, "", "an error is no answer");
        }
    };

    expect(0, cli(&["node", "ls"]), "");
    expect(1, cli(&["node", "show", "nobody"]), "nobody");
    expect(1, cli(&["perimeter", "rm", "nothing"]), "nothing");
    expect(1, outside.command(binary("ringfence").unwrap()).args(["node", "ls", "--context", "/none"]).run().unwrap(), "/none");
    expect(2, cli(&["nonsense"]), "nonsense");
    expect(2, cli(&["explain", "--from", "node:node", "--to", "node:node", "--port", "tpc/1"]), "tpc/1");
    expect(2, cli(&["token", "create", "--label", "no-value"]), "no-value");
    expect(2, agent(&["enroll", "--state-dir", "new"]), "--token-file");
    expect(3, agent(&["run", "--state-dir", "new"]), "enrol");
    let status = outside.command(binary("ringfence").unwrap()).args(["status", "--socket", "/run/ringfence/none.sock"]);
    expect(3, status.run().unwrap(), "no node runs here");
    expect(4, with(&context("wrong-token.toml", "rfa_", "rfa_x")), "token");
    node.running().signal(Signal::STOP);
    mesh.apply(&policy(&[allow("db", "db", "tcp/1")])).unwrap();
    let wait = cli(&["wait", "--timeout", "1s"]);
    assert_eq!(wait.code(), Some(5), "{}", wait.all());
    assert!(wait.stdout.contains("still waiting for node"), "{}", wait.all());
    node.running().signal(Signal::CONT);
    expect(0, cli(&["wait", "--timeout", "20s"]), "");
    expect(6, with(&context("nobody-there.toml", ":7443", ":7444")), "7444");
    mesh.kill_controller();
    let token = "rft_";
    expect(2, agent(&["enroll", "--state-dir", "new", "--token", token]), "token");
}

#[test]
fn a_node_that_cannot_reach_its_controller_says_so() {
    let mut mesh = Mesh::start("noway").unwrap();
    let outside = mesh.bare_host("outside").unwrap();
    let token = mesh.token(&["role=db"]).unwrap();
    mesh.kill_controller();

    let enroll = outside.command(binary("ringfence-node").unwrap()).args(["enroll", "--state-dir", "new", "--name", "x"]);
    let enroll = enroll.env("RINGFENCE_TOKEN", &token).run().unwrap();
    assert_eq!(enroll.code(), Some(6), "{}", enroll.all());
    assert!(enroll.stderr.contains("10.77.0.1:7443"), "{}", enroll.stderr);

    mesh.start_controller().unwrap();
    let again = outside.command(binary("ringfence-node").unwrap()).args(["enroll", "--state-dir", "new", "--name", "x"]);
    let again = again.env("RINGFENCE_TOKEN", &token).run().unwrap();
    assert_eq!(again.code(), Some(0), "the token was not spent: {}", again.all());
}

#[test]
fn every_listing_prints_json_and_nothing_else_on_stdout() {
    let shop = Shop::open("json", &[API_TO_DB]);
    let keys = "k0LW1lJpQSbVGqzZyyUkfN4KdJcYLzMGIxeWkfWGVWY=";
    let add = ["peer", "add", "laptop", "--perimeter", SHOP, "--public-key", keys, "--label", "role=device"];
    let lists: [(&[&str], &str); 16] = [
        (&add, "wg_quick"),
        (&["perimeter", "ls"], "perimeters"),
        (&["perimeter", "show", SHOP], "rules"),
        (&["token", "create", "--label", "role=x"], "token"),
        (&["token", "ls"], "tokens"),
        (&["node", "ls"], "nodes"),
        (&["node", "show", "db"], "labels"),
        (&["node", "label", "web", "tier=edge"], "revision"),
        (&["node", "rename", "web", "front"], "revision"),
        (&["peer", "ls"], "peers"),
        (&["peer", "config", "laptop"], "wg_quick"),
        (&["explain", "--from", "node:api", "--to", "node:db", "--port", "tcp/5432"], "verdict"),
        (&["audit"], "entries"),
        (&["audit", "verify"], "ok"),
        (&["wait"], "complete"),
        (&["peer", "rm", "laptop"], "changes"),
    ];
    for (args, field) in lists {
        let output = shop.mesh.cli(args).unwrap().arg("--json").run().unwrap();
        assert_eq!(output.code(), Some(0), "{args:?}: {}", output.all());
        let answer: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {}", output.stdout));
        assert!(answer.get(field).is_some(), "{args:?}: no {field} in {answer}");
        // Without --json it is for people, on a pipe without colours.
        assert!(!output.all().contains('\x1b'), "{args:?}: {}", output.all());
    }
    let token = shop.mesh.cli(["token", "create", "--label", "role=x"]).unwrap().run().unwrap();
    assert!(token.stdout.starts_with("rft_") && token.stdout.trim().lines().count() == 1, "{}", token.stdout);

    for args in [["status", "--json"], ["ping", "db"]] {
        let output = shop.api.local(args).unwrap().arg("--json").run();
        let output = output.unwrap();
        if args[0] == "ping" {
            let report: Value = serde_json::from_str(&output.stdout).unwrap();
            assert_eq!(output.code(), Some(0), "{}", output.all());
            assert!(report["rtt_us"].as_array().unwrap().iter().all(Value::is_u64), "{report}");
        }
    }
    let status = shop.api.status().unwrap();
    let peer = &status["segments"][0]["peers"][0];
    for key in ["node", "public_key", "addresses", "endpoint", "latest_handshake", "rx_bytes", "tx_bytes"] {
        assert!(peer.get(key).is_some_and(|value| !value.is_null()), "{key}: {status}");
    }
    for key in ["perimeter", "interface", "public_key", "addresses", "revision", "lease_seconds"] {
        assert!(status["segments"][0].get(key).is_some_and(|value| !value.is_null()), "{key}: {status}");
    }
}

#[test]
fn three_commands_make_a_protected_asset() {
    let mut mesh = Mesh::start("create").unwrap();
    let (db, api) = (mesh.bare_host("db").unwrap(), mesh.bare_host("api").unwrap());
    let folder = mesh.host().dir().join("work");
    std::fs::create_dir(&folder).unwrap();
    let create = [
        "perimeter", "create", "payments-db", "--asset", "role=db", "--client", "role=api", "--port", "tcp/5432", "--owner",
        "alice@example.com",
    ];

    // One.
    let printed = mesh.cli(create).unwrap().current_dir(&folder).text().unwrap();
    let commands: Vec<&str> = printed.lines().map(str::trim).filter(|line| line.starts_with("echo rft_")).collect();
    assert_eq!(commands.len(), 2, "{printed}");
    // Two and three, as they were printed.
    let path = format!("{}:{}", binary("ringfence-node").unwrap().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let join = |host: &ringfence_lab::Host, command: &str| {
        // Machines have names of their own; namespaces of networks do not.
        let named = format!("echo {} > /proc/sys/kernel/hostname; {command}", host.name());
        let shell = host.command("unshare").args(["--uts", "sh", "-c", &named]).env("PATH", &path);
        let shell = shell.env("RINGFENCE_STATE_DIR", host.dir().join("state"));
        shell.env("RINGFENCE_SOCKET", host.dir().join("node.sock")).spawn("node").unwrap()
    };
    let _running = (join(&db, commands[0]), join(&api, commands[1]));

    let status = |host: &ringfence_lab::Host| -> Value {
        let status = host.command(binary("ringfence").unwrap()).args(["status", "--json", "--socket"]);
        let text = status.arg(host.dir().join("node.sock")).run().map(|output| output.stdout).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    ringfence_lab::wait_until(Duration::from_secs(20), "both sides to have joined", || {
        [&db, &api].iter().all(|host| status(host)["segments"][0]["peers"][0]["node"].is_string())
    })
    .unwrap();
    let address: std::net::IpAddr = status(&db)["segments"][0]["addresses"][0].as_str().unwrap().parse().unwrap();
    let at = std::net::SocketAddr::new(address, 5432);
    let _server = db.serve(at).unwrap();
    assert_eq!(api.try_tcp(at, SOON), Reach::Open);
    assert_eq!(api.try_tcp(std::net::SocketAddr::new(address, 22), SOON), Reach::Unreachable);

    // The policy file is a policy file: applying it changes nothing; doing it all again is refused.
    let apply = mesh.cli(["perimeter", "apply", "-f", "payments-db.toml", "--json"]).unwrap().current_dir(&folder);
    let report: Value = serde_json::from_str(&apply.text().unwrap()).unwrap();
    assert_eq!(report["changes"], json!([]));
    let again = mesh.cli(create).unwrap().current_dir(&folder).run().unwrap();
    assert_eq!(again.code(), Some(1), "{}", again.all());
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

#[test]
fn a_dry_run_prints_the_flows_and_changes_nothing() {
    let shop = Shop::open("dryrun", &[API_TO_DB]);
    let live = shop.live();
    let before = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();
    let next = policy(&[allow("web", "db", "tcp/443")]);
    let apply = |more: &[&str]| {
        let apply = shop.mesh.cli(["perimeter", "apply", "-f", "-"]).unwrap().args(more).input(&next);
        apply.text().unwrap()
    };

    let report: Value = serde_json::from_str(&apply(&["--dry-run", "--json"])).unwrap();
    let mut changes: Vec<String> = report["changes"].as_array().unwrap().iter().map(|change| {
        format!("{} {}>{} {}", change["change"], change["from"], change["to"], change["service"]).replace('"', "")
    }).collect();
    changes.sort();
    assert_eq!(changes, ["closes api>db tcp/5432", "opens web>db tcp/443"]);
    let text = apply(&["--dry-run"]);
    assert!(text.contains("api > db tcp/5432") && text.contains("web > db tcp/443") && text.contains("would"), "{text}");
    assert_eq!(shop.mesh.json(["perimeter", "show", SHOP]).unwrap(), before);
    live.exchange(SOON).unwrap();

    // What was reviewed is applied to the policy it was reviewed against, or not at all.
    let base = report["revision"].as_str().unwrap();
    shop.enforce(&[API_TO_DB, allow("web", "api", "tcp/80")]);
    let stale = shop.mesh.cli(["perimeter", "apply", "-f", "-", "--base", base]).unwrap().input(&next).run().unwrap();
    assert_eq!(stale.code(), Some(1), "{}", stale.all());
    live.exchange(SOON).unwrap();
}

#[test]
fn prune_removes_what_no_file_names_and_an_expectation_that_fails_stops_all() {
    let shop = Shop::open("prune", &[API_TO_DB]);
    let folder = shop.mesh.host().dir().join("perimeters");
    std::fs::create_dir(&folder).unwrap();
    let rename = |text: &str, name: &str| text.replace("\"shop\"", &format!("\"{name}\""));
    let expected = |verdict: &str| {
        let expect = format!("\n[[expect]]\nfrom = \"node:web\"\nto = \"db\"\nport = \"tcp/5432\"\nverdict = \"{verdict}\"\n");
        rename(&policy(&[API_TO_DB]), "two") + &expect
    };
    std::fs::write(folder.join("one.toml"), rename(&policy(&[API_TO_DB]), "one")).unwrap();
    std::fs::write(folder.join("two.toml"), expected("allow")).unwrap();
    let apply = |more: &[&str]| shop.mesh.cli(["perimeter", "apply", "-f"]).unwrap().arg(&folder).args(more).run().unwrap();
    let names = || -> Vec<String> {
        let listed = shop.mesh.json(["perimeter", "ls"]).unwrap();
        listed["perimeters"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };

    let refused = apply(&[]);
    assert_eq!(refused.code(), Some(1), "{}", refused.all());
    assert!(refused.stderr.contains("two.toml:"), "{}", refused.stderr);
    assert_eq!(names(), [SHOP]);
    std::fs::write(folder.join("two.toml"), expected("deny")).unwrap();
    assert_eq!(apply(&[]).code(), Some(0));
    assert_eq!(names(), ["one", SHOP, "two"]);
    let live = shop.live();
    assert_eq!(apply(&["--prune"]).code(), Some(0));
    assert_eq!(names(), ["one", "two"]);
    let (client, server) = live.wait_cut(SOON).unwrap();
    assert!(client.is_reset() && server.is_reset());
}

#[test]
fn explain_names_the_rule_or_what_is_missing() {
    let shop = Shop::start("explain");
    let with_mfa = policy(&[API_TO_DB, allow("web", "db", "tcp/443")]);
    let with_mfa = with_mfa.replace("ports = [\"tcp/443\"]\n", "ports = [\"tcp/443\"]\nrequire = { mfa = \"1h\" }\n");
    shop.mesh.apply_and_wait(&with_mfa).unwrap();
    let explain = |from: &str, to: &str, port: &str, more: &[&str]| {
        let args = ["explain", "--from", from, "--to", to, "--port", port];
        shop.mesh.cli(args).unwrap().args(more).text().unwrap()
    };

    let allowed: Value = serde_json::from_str(&explain("node:api", "node:db", "tcp/5432", &["--json"])).unwrap();
    assert_eq!(allowed["verdict"], "allow");
    let detail = &allowed["perimeters"][0];
    assert_eq!((&detail["perimeter"], &detail["rule"], &detail["line"]), (&json!(SHOP), &json!(1), &json!(15)), "{allowed}");
    let reversed: Value = serde_json::from_str(&explain("node:db", "node:api", "tcp/5432", &["--json"])).unwrap();
    assert_eq!(reversed["verdict"], "deny");
    let gated: Value = serde_json::from_str(&explain("node:web", "node:db", "tcp/443", &["--json"])).unwrap();
    assert_eq!(gated["verdict"], "deny", "what cannot be verified is not granted");
    assert!(gated["perimeters"][0]["missing"].to_string().contains("mfa"), "{gated}");
    assert!(explain("node:api", "node:db", "tcp/5432", &[]).contains("allow"));
    let unknown = shop.mesh.cli(["explain", "--from", "node:ghost", "--to", "node:db", "--port", "tcp/1"]).unwrap().run().unwrap();
    assert_eq!(unknown.code(), Some(1), "{}", unknown.all());
    assert_eq!(shop.web.host().try_tcp(Shop::at(&shop.db).v4(443), SOON), Reach::Unreachable);
}

#[test]
fn every_change_is_in_the_audit_log_and_tampering_with_it_shows() {
    let mut mesh = Mesh::start("audit").unwrap();
    let node: Node = mesh.node("node", &["role=db"]).unwrap();
    mesh.apply_and_wait(&policy(&[API_TO_DB])).unwrap();
    mesh.cli(["node", "label", "node", "tier=gold"]).unwrap().text().unwrap();
    mesh.cli(["node", "rename", "node", "vault"]).unwrap().text().unwrap();
    let applied = mesh.api().unwrap();
    let headers = format!("Host: 10.77.0.1\r\nAuthorization: Bearer {}\r\nX-Request-Id: ticket-42\r\n", applied.token());
    assert_eq!(applied.raw("DELETE", "/api/v1/perimeters/shop", &headers, b"").unwrap().status, 200);

    let audit = mesh.json(["audit", "--since", "1h"]).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let methods: Vec<&str> = entries.iter().map(|entry| entry["method"].as_str().unwrap()).collect();
    for method in ["token.create", "node.enroll", "key.register", "perimeter.apply", "perimeter.remove"] {
        assert!(methods.contains(&method), "{method} is not in {methods:?}");
    }
    let labelled = entries.iter().find(|entry| entry.to_string().contains("gold")).unwrap();
    assert_eq!(labelled["actor"], json!({ "kind": "admin", "name": "admin" }), "{labelled}");
    let events = labelled["events"].to_string();
    assert!(events.contains("before") && events.contains("after"), "{labelled}");
    assert!(entries.iter().any(|entry| entry["request_id"] == "ticket-42"), "{audit}");
    for pair in entries.windows(2) {
        let (old, new) = if pair[0]["at_ms"].as_u64() <= pair[1]["at_ms"].as_u64() { (0, 1) } else { (1, 0) };
        assert!(pair[new]["previous_hash"] == pair[old]["hash"] || pair[old]["previous_hash"] == pair[new]["hash"]);
    }
    let whole = mesh.cli(["audit", "verify"]).unwrap().run().unwrap();
    assert_eq!(whole.code(), Some(0), "{}", whole.all());
    drop(node);

    // Somebody with root rewrites history: who was given which label.
    let tampered = rusqlite::Connection::open(mesh.data_dir().join("store.sqlite")).unwrap();
    tampered.execute_batch("DROP TRIGGER change_is_append_only_update;").unwrap();
    let rewritten = tampered.execute("UPDATE change SET body = replace(body, 'gold', 'iron') WHERE body LIKE '%gold%'", []).unwrap();
    assert!(rewritten > 0);
    drop(tampered);
    let broken = mesh.cli(["audit", "verify", "--json"]).unwrap().run().unwrap();
    assert_eq!(broken.code(), Some(1), "{}", broken.all());
    let report: Value = serde_json::from_str(&broken.stdout).unwrap();
    assert_eq!((&report["ok"], &report["broken"]["revision"]), (&json!(false), &labelled["revision"]), "{report}");
    mesh.stop_controller().unwrap();
    mesh.start_controller().unwrap();
    let still = mesh.cli(["audit", "verify"]).unwrap().run().unwrap();
    assert_eq!(still.code(), Some(1), "a restart does not launder it: {}", still.all());
}

#[test]
fn a_renamed_node_and_one_started_by_up_go_on_as_before() {
    let mut shop = Shop::open("rename", &[API_TO_DB]);
    let live = shop.live();
    shop.mesh.cli(["node", "rename", "db", "vault"]).unwrap().text().unwrap();
    shop.mesh.wait_enforced().unwrap();

    live.exchange(SOON).unwrap();
    shop.api.wait_peer(SHOP, "vault").unwrap();
    assert_eq!(shop.db.status().unwrap()["node"], "vault");
    // `up` on a machine that has joined only runs it: the token, spent long ago, is not asked about.
    shop.db.stop().unwrap();
    let up = shop.db.host().command(binary("ringfence-node").unwrap()).args(["up", "--token-file", "token", "--state-dir"]);
    let _running = up.arg(shop.db.state_dir()).arg("--socket").arg(shop.db.socket()).spawn("up").unwrap();
    thread::sleep(Duration::from_millis(500));
    shop.db.wait_connected().unwrap();
    let _ = NodeOptions::default();
}
