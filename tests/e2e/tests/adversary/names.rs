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

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

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
        let path = encoded(name);
        // Labels may hold dots and slashes: they are compared, and name nothing.
        let label = if name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b"./-".contains(&b))
        {
            format!("{name}\0")
        } else {
            name.to_owned()
        };
        let text = policy(&[]).replace("name = \"shop\"", &format!("name = {}", json!(name)));
        let group = policy(&[]).replace("db = {", &format!("{} = {{", json!(name)));
        let files = |text: &str| json!({ "files": [{ "name": name, "text": text }] });
        let nodes = format!("/api/v1/nodes/{path}");
        let asked = [
            ("GET", nodes.clone(), None),
            ("PATCH", nodes.clone(), Some(json!({ "name": "fine" }))),
            ("DELETE", nodes, None),
            (
                "PATCH",
                "/api/v1/nodes/db".to_owned(),
                Some(json!({ "name": name })),
            ),
            (
                "PATCH",
                "/api/v1/nodes/db".to_owned(),
                Some(json!({ "set_labels": { &label: "x" } })),
            ),
            (
                "PATCH",
                "/api/v1/nodes/db".to_owned(),
                Some(json!({ "set_labels": { "x/y": label } })),
            ),
            ("GET", format!("/api/v1/perimeters/{path}"), None),
            ("DELETE", format!("/api/v1/perimeters/{path}"), None),
            ("POST", "/api/v1/perimeters".to_owned(), Some(files(&text))),
            ("POST", "/api/v1/perimeters".to_owned(), Some(files(&group))),
            (
                "POST",
                "/api/v1/perimeters".to_owned(),
                Some(files("not a policy")),
            ),
            ("DELETE", format!("/api/v1/tokens/{path}"), None),
            (
                "POST",
                "/api/v1/tokens".to_owned(),
                Some(json!({ "labels": { &label: "x" } })),
            ),
            ("DELETE", format!("/api/v1/peers/{path}"), None),
            (
                "POST",
                "/api/v1/peers".to_owned(),
                Some(json!({ "name": name, "perimeter": SHOP, "public_key": key, "labels": {} })),
            ),
            (
                "POST",
                "/api/v1/peers".to_owned(),
                Some(json!({ "name": "x", "perimeter": name, "public_key": key, "labels": {} })),
            ),
            (
                "POST",
                "/api/v1/explain".to_owned(),
                Some(json!({ "from": name, "to": "db", "service": "tcp/5432" })),
            ),
            (
                "POST",
                "/api/v1/explain".to_owned(),
                Some(json!({ "from": "db", "to": "db", "service": name })),
            ),
            (
                "POST",
                "/api/v1/verify".to_owned(),
                Some(json!({ "perimeter": name })),
            ),
            ("GET", format!("/api/v1/revisions/{path}/wait?timeout_ms=0"), None),
            ("GET", format!("/api/v1/audit?since_ms={path}"), None),
            ("GET", format!("/api/v1/{path}"), None),
        ];
        for (method, path, body) in asked {
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
    let before = snapshot(&mesh).1;

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
