//! Roles: an owner changes their own perimeter, with a context of their own, and knows of no other.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ringfence_e2e::{Mesh, perimeter};
use ringfence_lab::Output;
use serde_json::Value;

use crate::stage::{API_TO_DB, SOON, Shop, allow, policy};

/// A perimeter beside the shop, with the web server and the database in it.
fn vault(port: &'static str) -> String {
    let groups = [("db", "role=db"), ("web", "role=web")];
    perimeter("vault", "10m", &groups, &[allow("web", "db", port)])
}

/// The command line with this context.
fn by(context: &Path, mesh: &Mesh, args: &[&str], input: &str) -> Output {
    let command = mesh.cli(args).unwrap().arg("--context").arg(context);
    command.input(input).run().unwrap()
}

fn json_by(context: &Path, mesh: &Mesh, args: &[&str]) -> Value {
    let output = by(context, mesh, &[args, &["--json"]].concat(), "");
    assert_eq!(output.code(), Some(0), "{}", output.all());
    serde_json::from_str(&output.stdout).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    let each = list.as_array().unwrap().iter();
    each.map(|it| it["name"].as_str().unwrap()).collect()
}

#[test]
fn an_owner_changes_their_perimeter_and_is_told_of_no_other() {
    let shop = Shop::open("roles", &[API_TO_DB]);
    let mesh = &shop.mesh;
    mesh.apply_and_wait(&vault("tcp/22")).unwrap();
    let context = mesh.lab().dir().join("alice.toml");
    let out = context.to_str().unwrap();
    let make = [
        "api-token",
        "create",
        "alice",
        "--role",
        "owner",
        "--perimeter",
        "shop",
    ];
    let told = ["--for", "alice@example.com", "--expires", "1h", "--out", out];
    mesh.cli([&make[..], &told[..]].concat()).unwrap().text().unwrap();
    let mode = std::fs::metadata(&context).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert_eq!(
        names(&json_by(&context, mesh, &["perimeter", "ls"])["perimeters"]),
        ["shop"]
    );
    let nodes = json_by(&context, mesh, &["node", "ls"]);
    assert!(!nodes.to_string().contains("vault"), "{nodes}");
    let theirs = mesh.json(["perimeter", "show", "vault"]).unwrap();
    let apply = ["perimeter", "apply", "-f", "-"];
    for (file, perimeter) in [
        (vault("tcp/23"), "vault"),
        (vault("tcp/23").replace("vault", "new"), "new"),
    ] {
        let refused = by(&context, mesh, &apply, &file);
        assert_eq!(refused.code(), Some(1), "{}", refused.all());
        let expected = format!("there is no perimeter {perimeter}");
        assert!(refused.stderr.contains(&expected), "{}", refused.all());
    }
    assert_eq!(mesh.json(["perimeter", "show", "vault"]).unwrap(), theirs);
    let refused = by(&context, mesh, &["node", "remove", "db"], "");
    assert_eq!(refused.code(), Some(4), "{}", refused.all());

    let live = shop.live();
    let applied = by(&context, mesh, &apply, &policy(&[]));
    assert_eq!(applied.code(), Some(0), "{}", applied.all());
    let (client, server) = live.wait_cut(SOON).unwrap();
    assert!(client.is_reset() && server.is_reset());
    let log = mesh.json(["audit"]).unwrap();
    let mut entries = log["entries"].as_array().unwrap().iter().rev();
    let last = entries
        .find(|entry| entry["method"] == "perimeter.apply")
        .unwrap();
    assert_eq!(
        (&last["actor"]["kind"], &last["actor"]["name"]),
        (&"api-token".into(), &"alice@example.com".into()),
        "{last}"
    );

    mesh.cli(["api-token", "revoke", "alice"])
        .unwrap()
        .text()
        .unwrap();
    let refused = by(&context, mesh, &["perimeter", "ls"], "");
    assert_eq!(refused.code(), Some(4), "{}", refused.all());
}
