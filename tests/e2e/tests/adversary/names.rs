//! Path traversal and injection in every name that anybody gives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringfence_e2e::{Mesh, binary};
use serde_json::{Value, json};

use crate::stage::{SHOP, allow, policy};

const NASTY: [&str; 24] = [
    "../../../etc/passwd",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\..\\b",
    "shop.toml",
    "a\0b",
    "a\nb",
    "a\r\nX-Injected: yes",
    "\u{1b}[2Jcleared",
    "<script>alert(1)</script>",
    "'; DROP TABLE nodes; --",
    "\" OR 1=1 --",
    "$(touch /tmp/pwned)",
    "`id`",
    "${jndi:ldap://x}",
    "%s%n%x",
    "{{7*7}}",
    "sh\u{f6}p",
    "shop\u{202e}",
    "SHOP",
    "-rf",
    "a-",
];

/// What must not change: all files there are, and what the controller knows.
fn snapshot(mesh: &Mesh) -> (BTreeSet<PathBuf>, Value) {
    let mut files = BTreeSet::new();
    collect(mesh.lab().dir(), &mut files);
    files.retain(|path| path.extension().is_none_or(|kind| kind != "log"));
    (
        files,
        mesh.api()
            .unwrap()
            .get("/api/v1/revisions/latest")
            .unwrap()
            .json()
            .unwrap(),
    )
}

fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), into);
        }
        into.insert(entry.path());
    }
}

fn encoded(name: &str) -> String {
    name.bytes()
        .fold(String::new(), |path, byte| path + &format!("%{byte:02x}"))
}

type Asked = (&'static str, String);

/// Every path with a name in it.
fn paths(name: &str) -> Vec<Asked> {
    let path = encoded(name);
    vec![
        ("GET", format!("/api/v1/nodes/{path}")),
        ("DELETE", format!("/api/v1/nodes/{path}")),
        ("GET", format!("/api/v1/perimeters/{path}")),
        ("DELETE", format!("/api/v1/perimeters/{path}")),
        ("DELETE", format!("/api/v1/tokens/{path}")),
        ("DELETE", format!("/api/v1/peers/{path}")),
        ("GET", format!("/api/v1/revisions/{path}/wait?timeout_ms=0")),
        ("GET", format!("/api/v1/audit?since_ms={path}")),
        ("GET", format!("/api/v1/{path}")),
    ]
}

/// Every body with a name in it.
fn bodies(name: &str, key: &str) -> Vec<(&'static str, String, Value)> {
    // Labels may hold dots and slashes: they are compared, and name nothing.
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b"./-".contains(&b));
    let label = if plain {
        format!("{name}\0")
    } else {
        name.to_owned()
    };
    let quoted = json!(name);
    let text = policy(&[]).replace("name = \"shop\"", &format!("name = {quoted}"));
    let group = policy(&[]).replace("db = {", &format!("{quoted} = {{"));
    let files = |text: &str| json!({ "files": [{ "name": name, "text": text }] });
    let peer = |peer: &str, perimeter: &str| json!({ "name": peer, "perimeter": perimeter, "public_key": key, "labels": {} });
    let asked = [
        (
            "PATCH",
            format!("nodes/{}", encoded(name)),
            json!({ "name": "fine" }),
        ),
        ("PATCH", "nodes/db".to_owned(), json!({ "name": name })),
        (
            "PATCH",
            "nodes/db".to_owned(),
            json!({ "set_labels": { &label: "x" } }),
        ),
        (
            "PATCH",
            "nodes/db".to_owned(),
            json!({ "set_labels": { "x/y": label } }),
        ),
        ("POST", "perimeters".to_owned(), files(&text)),
        ("POST", "perimeters".to_owned(), files(&group)),
        ("POST", "perimeters".to_owned(), files("not a policy")),
        ("POST", "tokens".to_owned(), json!({ "labels": { &label: "x" } })),
        ("POST", "peers".to_owned(), peer(name, SHOP)),
        ("POST", "peers".to_owned(), peer("x", name)),
        (
            "POST",
            "explain".to_owned(),
            json!({ "from": name, "to": "db", "service": "tcp/5432" }),
        ),
        (
            "POST",
            "explain".to_owned(),
            json!({ "from": "db", "to": "db", "service": name }),
        ),
        ("POST", "verify".to_owned(), json!({ "perimeter": name })),
    ];
    asked
        .into_iter()
        .map(|(method, path, body)| (method, format!("/api/v1/{path}"), body))
        .collect()
}

#[test]
fn odd_names_in_paths_and_bodies_are_refused_whole_and_never_repeated_raw() {
    let mut mesh = Mesh::start("names").unwrap();
    let _node = mesh.node("db", &["role=db"]).unwrap();
    mesh.apply_and_wait(&policy(&[allow("db", "db", "tcp/5432")]))
        .unwrap();
    let api = mesh.api().unwrap();
    let key = ringfence_e2e::public_key_of([5; 32]);
    let before = snapshot(&mesh);

    for name in NASTY {
        let asked = paths(name).into_iter().map(|(method, path)| (method, path, None));
        let bodies = bodies(name, &key)
            .into_iter()
            .map(|(method, path, body)| (method, path, Some(body)));
        for (method, path, body) in asked.chain(bodies) {
            let answer = api.request(method, &path, body.as_ref()).unwrap();
            let shown = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                (400..500).contains(&answer.status),
                "{name:?}: {method} {path} {body:?}: {} {shown}",
                answer.status
            );
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json"),
                "{method} {path}: {shown}"
            );
            assert!(
                !answer.head.contains("x-injected"),
                "{method} {path}: {}",
                answer.head
            );
            assert!(
                !shown.contains(['\u{1b}', '\0', '\r']),
                "{method} {path}: {shown:?}"
            );
        }
        let headers = format!(
            "Host: 10.77.0.1:7443\r\nAuthorization: Bearer {}\r\nX-Request-Id: {}\r\n",
            api.token(),
            name.replace(['\0', '\r', '\n'], " ")
        );
        if let Ok(answer) = api.raw("GET", "/api/v1/nodes", &headers, b"") {
            let id = answer.header("x-request-id").unwrap_or_default().to_owned();
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
                "{id:?}"
            );
        }
    }

    assert_eq!(snapshot(&mesh), before);
    assert!(!Path::new("/tmp/pwned").exists());
}

#[test]
fn odd_names_on_command_lines_and_of_files_do_no_harm_on_the_terminal() {
    let mut mesh = Mesh::start("terminal").unwrap();
    let host = mesh.bare_host("joiner").unwrap();
    let token = mesh.token(&["role=db"]).unwrap();
    let folder = mesh.host().dir().join("policies");
    std::fs::create_dir(&folder).unwrap();

    for name in NASTY.into_iter().filter(|name| !name.contains('\0')) {
        let enroll = host.command(binary("ringfence-node").unwrap()).args([
            "enroll",
            "--token-file",
            "-",
            "--state-dir",
        ]);
        let enroll = enroll
            .arg(host.dir().join("state"))
            .arg(format!("--name={name}"))
            .input(&token)
            .run()
            .unwrap();
        assert_ne!(enroll.code(), Some(0), "{name:?}: {}", enroll.all());
        assert_tame(name, &enroll.all());
        for words in [["run", "--data-dir"], ["init", "--mesh"], ["--log", "info"]] {
            let found = host.command(binary("ringfence-controller").unwrap()).args(words);
            let run = found.arg(name).run().unwrap();
            assert_ne!(run.code(), Some(0), "{words:?} {name:?}: {}", run.all());
            assert_tame(name, &run.all());
        }
        for words in [
            vec!["node", "show", "--"],
            vec!["perimeter", "rm", "--yes", "--"],
            vec!["token", "revoke", "--"],
        ] {
            let run = mesh.cli(words).unwrap().arg(name).run().unwrap();
            assert_ne!(run.code(), Some(0), "{name:?}: {}", run.all());
            assert_tame(name, &run.all());
        }
    }
    for name in [
        "\u{1b}[2J\u{1b}]0;owned\u{7}.toml",
        "line\nbreak.toml",
        "\u{202e}lmot.toml",
    ] {
        let file = folder.join(name);
        std::fs::write(
            &file,
            "[perimeter]\nnmae = \"\u{1b}[31mred\"\n\"\u{1b}[2J\" = 1\n",
        )
        .unwrap();
        for flags in [&["--json"][..], &[]] {
            let run = mesh
                .cli(["perimeter", "apply", "-f"])
                .unwrap()
                .arg(&file)
                .args(flags)
                .run()
                .unwrap();
            assert_ne!(run.code(), Some(0), "{name:?}");
            assert_tame(name, &run.all());
        }
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn what_policies_say_in_prose_does_no_harm_on_the_terminal() {
    let mesh = Mesh::start("prose").unwrap();
    let before = snapshot(&mesh).1;
    // What a policy says in prose is shown to others later.
    let prose =
        policy(&[allow("db", "db", "tcp/1")]).replace("a test", "\\u001b[2J\\u001b]0;owned\\u0007\\u202e");
    let applied = mesh
        .cli(["perimeter", "apply", "-f", "-"])
        .unwrap()
        .input(&prose)
        .run()
        .unwrap();
    assert_tame("prose", &applied.all());
    for words in [
        &["perimeter", "show", SHOP][..],
        &["perimeter", "ls"],
        &["audit"],
        &["explain", "db", "db", "tcp/1"],
    ] {
        assert_tame(&words.join(" "), &mesh.cli(words).unwrap().run().unwrap().all());
    }
    if applied.code() != Some(0) {
        assert_eq!(snapshot(&mesh).1, before);
    }
}

/// No control characters but line ends reach the terminal.
#[track_caller]
fn assert_tame(what: &str, printed: &str) {
    let wild = printed
        .chars()
        .find(|c| (c.is_control() && *c != '\n' && *c != '\t') || *c == '\u{202e}');
    assert_eq!(wild, None, "{what:?}: {printed:?}");
}
