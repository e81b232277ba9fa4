//! Join tokens: what they open, how often, and what does not open anything.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringfence_e2e::{Mesh, binary};
use ringfence_lab::{Host, Output};
use sha2::{Digest as _, Sha256};

/// `ringfence-node enroll` into a folder of its own.
fn enroll(host: &Host, folder: &str, token: &str, name: &str) -> Output {
    let state: PathBuf = host.dir().join(folder);
    let enroll =
        host.command(binary("ringfence-node").unwrap())
            .args(["enroll", "--token-file", "-", "--name", name]);
    enroll.arg("--state-dir").arg(state).input(token).run().unwrap()
}

fn nodes(mesh: &Mesh) -> Vec<String> {
    let listed = mesh.json(["node", "ls"]).unwrap();
    let nodes = listed["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect()
}

/// How many refused enrolments the log holds.
fn refusals(mesh: &Mesh) -> usize {
    let audit = mesh.json(["audit"]).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    entries
        .iter()
        .filter(|entry| entry.to_string().contains("\"refus"))
        .count()
}

#[test]
fn a_token_that_is_used_up_revoked_expired_or_forged_opens_nothing() {
    let mut mesh = Mesh::start("tokens").unwrap();
    let host = mesh.bare_host("joiner").unwrap();
    let once = mesh.token(&["role=db"]).unwrap();
    let first = enroll(&host, "first", &once, "first");
    assert_eq!(first.code(), Some(0), "{}", first.all());

    let revoked = mesh.token(&["role=db"]).unwrap();
    let listed = mesh.json(["token", "ls"]).unwrap();
    let valid = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["state"] == "valid")
        .unwrap();
    mesh.cli(["token", "revoke", valid["id"].as_str().unwrap()])
        .unwrap()
        .text()
        .unwrap();
    let short = mesh
        .cli(["token", "create", "--label", "role=db", "--ttl", "1s"])
        .unwrap()
        .text()
        .unwrap();
    let whole = mesh.token(&["role=db"]).unwrap();
    let forged = forge(&whole);
    thread::sleep(Duration::from_millis(1500));

    let before = refusals(&mesh);
    for (what, token) in [
        ("used", &once),
        ("revoked", &revoked),
        ("expired", &short),
        ("forged", &forged),
    ] {
        let output = enroll(&host, what, token.trim(), what);
        assert_eq!(output.code(), Some(4), "{what}: {}", output.all());
        assert!(output.stderr.contains("token"), "{what}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{what}");
    }
    assert_eq!(refusals(&mesh), before + 4, "{}", mesh.json(["audit"]).unwrap());
    assert_eq!(nodes(&mesh), ["first"]);
    // The refusals cost the honest token nothing.
    let last = enroll(&host, "last", &whole, "last");
    assert_eq!(last.code(), Some(0), "{}", last.all());
    let labels = mesh.json(["node", "show", "last"]).unwrap()["labels"].clone();
    assert_eq!(labels, serde_json::json!({ "role": "db" }));
}

/// The same token with another secret in it.
fn forge(token: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD
        .decode(token.strip_prefix("rft_").unwrap())
        .unwrap();
    let at = secret_at(&bytes);
    bytes[at] ^= 1;
    let body = bytes.len() - 4;
    let sum = Sha256::digest(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum[..4]);
    format!("rft_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Where the secret begins: CBOR's key "s", then 32 bytes.
pub(crate) fn secret_at(bytes: &[u8]) -> usize {
    let key = [0x61, b's', 0x58, 32];
    bytes.windows(4).position(|window| window == key).unwrap() + 4
}

#[test]
fn sixty_four_racing_uses_of_a_token_make_one_node() {
    let mut mesh = Mesh::start("race").unwrap();
    let host = mesh.bare_host("racers").unwrap();
    let token = mesh.token(&["role=db"]).unwrap();

    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let racers: Vec<_> = (0..64)
            .map(|n| {
                let (host, token) = (&host, &token);
                scope.spawn(move || enroll(host, &format!("racer-{n}"), token, &format!("racer-{n}")).code())
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });

    assert_eq!(
        codes.iter().filter(|code| **code == Some(0)).count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes.iter().filter(|code| **code == Some(4)).count(),
        63,
        "{codes:?}"
    );
    assert_eq!(nodes(&mesh).len(), 1);
    assert_eq!(mesh.json(["audit", "verify"]).unwrap()["ok"], true);
}

#[test]
fn a_token_for_three_opens_three_times() {
    let mut mesh = Mesh::start("three").unwrap();
    let host = mesh.bare_host("joiner").unwrap();
    let token = mesh
        .cli(["token", "create", "--label", "role=db", "--uses", "3"])
        .unwrap()
        .text()
        .unwrap();

    let codes: Vec<_> = (0..4)
        .map(|n| enroll(&host, &format!("n-{n}"), token.trim(), &format!("n-{n}")).code())
        .collect();

    assert_eq!(codes, [Some(0), Some(0), Some(0), Some(4)]);
    assert_eq!(nodes(&mesh), ["n-0", "n-1", "n-2"]);
}

#[test]
fn odd_names_and_damaged_tokens_are_told_apart_from_refusals() {
    let mut mesh = Mesh::start("odd").unwrap();
    let host = mesh.bare_host("joiner").unwrap();
    let token = mesh
        .cli(["token", "create", "--label", "role=db", "--uses", "9"])
        .unwrap()
        .text()
        .unwrap();
    let token = token.trim();

    for name in [
        "",
        "Upper",
        "two words",
        "a/../b",
        "ümlaut",
        "-x",
        "x\n",
        "a;id",
        "$(id)",
        &"x".repeat(64),
    ] {
        let output = enroll(&host, "odd", token, name);
        assert_eq!(output.code(), Some(2), "{name:?}: {}", output.all());
        let rename = mesh
            .cli(["node", "rename", "nobody"])
            .unwrap()
            .arg("--")
            .arg(name)
            .run()
            .unwrap();
        assert_eq!(rename.code(), Some(2), "{name:?}: {}", rename.all());
    }
    for damaged in [
        "",
        "rft_",
        &token[..token.len() - 1],
        &token.to_uppercase(),
        &format!("{token}A"),
        "hello",
    ] {
        let output = enroll(&host, "odd", damaged, "fine");
        assert_eq!(output.code(), Some(2), "{damaged:?}: {}", output.all());
        assert!(
            !output.stderr.contains(&token[10..30]),
            "a token is not repeated: {}",
            output.stderr
        );
    }
    let longest = "x".repeat(63);
    assert_eq!(enroll(&host, "longest", token, &longest).code(), Some(0));
    let taken = enroll(&host, "taken", token, &longest);
    assert_eq!(taken.code(), Some(4), "{}", taken.all());
    let again = enroll(&host, "longest", token, "again");
    assert_eq!(again.code(), Some(1), "one identity a directory: {}", again.all());
    assert_eq!(nodes(&mesh), [longest]);
}

#[test]
fn a_perimeter_with_the_longest_name_fits_on_every_machine() {
    let mut mesh = Mesh::start("longest").unwrap();
    let node = mesh.node("node", &["role=db"]).unwrap();
    let other = mesh.node("other", &["role=api"]).unwrap();
    let names = [format!("a{}", "b".repeat(62)), format!("a{}c", "b".repeat(61))];
    let groups = [("db", "role=db"), ("api", "role=api")];
    let rule = ringfence_e2e::Allow {
        from: "api",
        to: "db",
        port: "tcp/80",
    };
    for name in &names {
        mesh.apply_and_wait(&ringfence_e2e::perimeter(name, "10m", &groups, &[rule]))
            .unwrap();
    }

    let interface = |name: &str| {
        node.segment(name).unwrap()["interface"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (first, second) = (interface(&names[0]), interface(&names[1]));
    assert_ne!(first, second);
    assert!(first.len() <= 15 && second.len() <= 15, "{first} {second}");
    for name in &names {
        let at = node.overlay(name).unwrap().v4(80);
        let _server = node.host().serve(at).unwrap();
        assert_eq!(
            other.host().try_tcp(at, crate::stage::SOON),
            ringfence_lab::Reach::Open
        );
    }
}
