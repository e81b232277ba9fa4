//! Policy and its history as people review them: dry runs, pruning, explanations, the audit log.

use std::thread;
use std::time::{Duration, Instant};

use ringfence_e2e::Mesh;
use ringfence_lab::Reach;
use serde_json::{Value, json};

use crate::stage::{API_TO_DB, SHOP, SOON, Shop, allow, policy};

#[test]
fn a_dry_run_prints_the_flows_and_changes_nothing() {
    let shop = Shop::open("dryrun", &[API_TO_DB]);
    let live = shop.live();
    let before = shop.mesh.json(["perimeter", "show", SHOP]).unwrap();
    let next = policy(&[allow("web", "db", "tcp/443")]);
    let apply = |more: &[&str]| {
        let apply = shop
            .mesh
            .cli(["perimeter", "apply", "-f", "-"])
            .unwrap()
            .args(more)
            .input(&next);
        apply.text().unwrap()
    };

    let report: Value = serde_json::from_str(&apply(&["--dry-run", "--json"])).unwrap();
    let mut changes: Vec<String> = report["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            format!(
                "{} {}>{} {}",
                change["change"], change["from"], change["to"], change["service"]
            )
            .replace('"', "")
        })
        .collect();
    changes.sort();
    assert_eq!(changes, ["closes api>db tcp/5432", "opens web>db tcp/443"]);
    let text = apply(&["--dry-run"]);
    assert!(
        text.contains("api > db tcp/5432") && text.contains("web > db tcp/443") && text.contains("would"),
        "{text}"
    );
    assert_eq!(shop.mesh.json(["perimeter", "show", SHOP]).unwrap(), before);
    live.exchange(SOON).unwrap();

    // What was reviewed is applied to the policy it was reviewed against, or not at all.
    let base = report["revision"].as_str().unwrap();
    shop.enforce(&[API_TO_DB, allow("web", "api", "tcp/80")]);
    let stale = shop
        .mesh
        .cli(["perimeter", "apply", "-f", "-", "--base", base])
        .unwrap()
        .input(&next)
        .run()
        .unwrap();
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
        let expect = format!(
            "\n[[expect]]\nfrom = \"node:web\"\nto = \"db\"\nport = \"tcp/5432\"\nverdict = \"{verdict}\"\n"
        );
        rename(&policy(&[API_TO_DB]), "two") + &expect
    };
    std::fs::write(folder.join("one.toml"), rename(&policy(&[API_TO_DB]), "one")).unwrap();
    std::fs::write(folder.join("two.toml"), expected("allow")).unwrap();
    let apply = |more: &[&str]| {
        shop.mesh
            .cli(["perimeter", "apply", "-f"])
            .unwrap()
            .arg(&folder)
            .args(more)
            .run()
            .unwrap()
    };
    let names = || -> Vec<String> {
        let listed = shop.mesh.json(["perimeter", "ls"]).unwrap();
        listed["perimeters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
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
    let with_mfa = with_mfa.replace(
        "ports = [\"tcp/443\"]\n",
        "ports = [\"tcp/443\"]\nrequire = { mfa = \"1h\" }\n",
    );
    shop.mesh.apply_and_wait(&with_mfa).unwrap();
    let explain = |from: &str, to: &str, port: &str, more: &[&str]| {
        let args = ["explain", "--from", from, "--to", to, "--port", port];
        shop.mesh.cli(args).unwrap().args(more).text().unwrap()
    };

    let allowed: Value =
        serde_json::from_str(&explain("node:api", "node:db", "tcp/5432", &["--json"])).unwrap();
    assert_eq!(allowed["verdict"], "allow");
    let detail = &allowed["perimeters"][0];
    assert_eq!(
        (&detail["perimeter"], &detail["rule"], &detail["line"]),
        (&json!(SHOP), &json!(1), &json!(15)),
        "{allowed}"
    );
    let reversed: Value =
        serde_json::from_str(&explain("node:db", "node:api", "tcp/5432", &["--json"])).unwrap();
    assert_eq!(reversed["verdict"], "deny");
    let gated: Value = serde_json::from_str(&explain("node:web", "node:db", "tcp/443", &["--json"])).unwrap();
    assert_eq!(gated["verdict"], "deny", "what cannot be verified is not granted");
    assert!(
        gated["perimeters"][0]["missing"].to_string().contains("mfa"),
        "{gated}"
    );
    assert!(explain("node:api", "node:db", "tcp/5432", &[]).contains("allow"));
    let unknown = shop
        .mesh
        .cli([
            "explain",
            "--from",
            "node:ghost",
            "--to",
            "node:db",
            "--port",
            "tcp/1",
        ])
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(unknown.code(), Some(1), "{}", unknown.all());
    assert_eq!(
        shop.web.host().try_tcp(Shop::at(&shop.db).v4(443), SOON),
        Reach::Unreachable
    );
}

#[test]
fn every_change_is_in_the_audit_log() {
    let mut mesh = Mesh::start("audit").unwrap();
    let _node = history(&mut mesh);
    let api = mesh.api().unwrap();
    let headers = format!(
        "Host: 10.77.0.1\r\nAuthorization: Bearer {}\r\nX-Request-Id: ticket-42\r\n",
        api.token()
    );
    assert_eq!(
        api.raw("DELETE", "/api/v1/perimeters/shop", &headers, b"")
            .unwrap()
            .status,
        200
    );

    let audit = mesh.json(["audit", "--since", "1h"]).unwrap();

    let entries = audit["entries"].as_array().unwrap();
    let methods: Vec<&str> = entries
        .iter()
        .map(|entry| entry["method"].as_str().unwrap())
        .collect();
    for method in [
        "token.create",
        "node.enroll",
        "key.register",
        "perimeter.apply",
        "perimeter.remove",
    ] {
        assert!(methods.contains(&method), "{method} is not in {methods:?}");
    }
    let labelled = entries
        .iter()
        .find(|entry| entry.to_string().contains("gold"))
        .unwrap();
    assert_eq!(
        labelled["actor"],
        json!({ "kind": "admin", "name": "admin" }),
        "{labelled}"
    );
    let events = labelled["events"].to_string();
    assert!(
        events.contains("before") && events.contains("after"),
        "{labelled}"
    );
    assert!(
        entries.iter().any(|entry| entry["request_id"] == "ticket-42"),
        "{audit}"
    );
    let follows = |new: &Value, old: &Value| new["previous_hash"] == old["hash"];
    for pair in entries.windows(2) {
        assert!(
            follows(&pair[0], &pair[1]) || follows(&pair[1], &pair[0]),
            "{pair:?}"
        );
    }
    let whole = mesh.cli(["audit", "verify"]).unwrap().run().unwrap();
    assert_eq!(whole.code(), Some(0), "{}", whole.all());
}

#[test]
fn a_rewritten_audit_log_is_found_out() {
    let mut mesh = Mesh::start("forged").unwrap();
    drop(history(&mut mesh));
    let audit = mesh.json(["audit"]).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let labelled = entries
        .iter()
        .find(|entry| entry.to_string().contains("gold"))
        .unwrap();

    // Somebody with root rewrites history: who was given which label.
    let store = rusqlite::Connection::open(mesh.data_dir().join("store.sqlite")).unwrap();
    store
        .execute_batch("DROP TRIGGER change_is_append_only_update;")
        .unwrap();
    let forge = "UPDATE change SET body = replace(body, 'gold', 'iron') WHERE body LIKE '%gold%'";
    assert!(store.execute(forge, []).unwrap() > 0);
    drop(store);

    let broken = mesh.cli(["audit", "verify", "--json"]).unwrap().run().unwrap();
    assert_eq!(broken.code(), Some(1), "{}", broken.all());
    let report: Value = serde_json::from_str(&broken.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["broken"]["revision"]),
        (&json!(false), &labelled["revision"]),
        "{report}"
    );
    mesh.stop_controller().unwrap();
    mesh.start_controller().unwrap();
    let still = mesh.cli(["audit", "verify"]).unwrap().run().unwrap();
    assert_eq!(
        still.code(),
        Some(1),
        "a restart does not launder it: {}",
        still.all()
    );
}

/// Something to be found in the log.
fn history(mesh: &mut Mesh) -> ringfence_e2e::Node {
    let node = mesh.node("node", &["role=db"]).unwrap();
    mesh.apply_and_wait(&policy(&[API_TO_DB])).unwrap();
    mesh.cli(["node", "label", "node", "tier=gold"])
        .unwrap()
        .text()
        .unwrap();
    mesh.cli(["node", "rename", "node", "vault"])
        .unwrap()
        .text()
        .unwrap();
    node
}

#[test]
fn explain_says_what_policy_said_then_and_what_it_would_say() {
    let shop = Shop::open("then", &[API_TO_DB]);
    thread::sleep(Duration::from_millis(700));
    let then = Instant::now();
    thread::sleep(Duration::from_millis(700));
    shop.enforce(&[allow("web", "db", "tcp/5432")]);
    let explain = |more: &[&str]| {
        let ask = [
            "explain", "--from", "node:api", "--to", "node:db", "--port", "tcp/5432",
        ];
        let ask = shop.mesh.cli(ask).unwrap().args(more);
        ask.text().unwrap()
    };

    let now = explain(&[]);
    let before = explain(&["--at", &format!("{}ms", then.elapsed().as_millis())]);
    let supposed = explain(&["--as-if", "label.role=web"]);

    assert!(now.starts_with("deny"), "{now}");
    assert!(before.starts_with("allow"), "{before}");
    assert!(supposed.starts_with("allow"), "{supposed}");
    let early = shop.mesh.cli([
        "explain", "--from", "node:api", "--to", "node:db", "--port", "icmp",
    ]);
    let early = early.unwrap().args(["--at", "1d"]).run().unwrap();
    assert!(
        early.stderr.contains("the log begins later than that"),
        "{}",
        early.stderr
    );
}
