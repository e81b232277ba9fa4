//! Requests, policy files and directories that are not what they should be: a clear error, and nothing half-applied.

use std::path::Path;

use ringfence_e2e::{Api, Mesh, Node, binary};
use ringfence_lab::{Host, Output};

use crate::stage::{API_TO_DB, SHOP, SOON, policy};

/// Method, path, who asks, body, and the statuses that say no.
const REQUESTS: &str = r#"
GET    /api/v1/nodes                                   nobody   -                                       401
GET    /api/v1/nodes                                   wrong    -                                       401
GET    /api/v1/nodes                                   basic    -                                       401
GET    /api/v1/nodes                                   rebound  -                                       421
GET    /api/v1/nodes                                   lured    -                                       403
GET    /api/v1/nothing                                 admin    -                                       404
GET    /api/v1/nodes/..%2f..%2fetc                     admin    -                                       400,404
PUT    /api/v1/nodes                                   admin    -                                       405
POST   /api/v1/tokens                                  plain    {}                                      415
POST   /api/v1/tokens                                  admin    {"labels":                              400
POST   /api/v1/tokens                                  admin    {"labels":{"a":"b"},"root":true}        400
POST   /api/v1/tokens                                  admin    {"labels":{"A":"<script>"}}             400,422
POST   /api/v1/tokens                                  admin    {"labels":{"a":"b"},"uses":-1}          400
POST   /api/v1/tokens                                  admin    {"labels":{"a":"b"},"ttl_seconds":1e18} 400,422
POST   /api/v1/tokens                                  admin    @binary                                 400
POST   /api/v1/perimeters                              admin    @deep                                   400
POST   /api/v1/perimeters                              admin    @policy                                 422
POST   /api/v1/perimeters                              admin    @huge                                   413
POST   /api/v1/peers                                   admin    {"name":"x","perimeter":"shop","public_key":"AA"} 400
PATCH  /api/v1/nodes/nobody                            admin    {"name":"Bad"}                          400,404
DELETE /api/v1/perimeters/none                         admin    -                                       404
GET    /api/v1/audit?since_ms=yesterday                admin    -                                       400
GET    /api/v1/revisions/99.99/wait?timeout_ms=0       admin    -                                       404
GET    /api/v1/revisions/latest/wait?timeout_ms=-1     admin    -                                       400
"#;

#[test]
fn the_api_refuses_what_it_does_not_understand_and_changes_nothing() {
    let mesh = Mesh::start("api").unwrap();
    mesh.apply(&policy(&[API_TO_DB])).unwrap();
    let api = mesh.api().unwrap();
    let revision = || api.get("/api/v1/revisions/latest").unwrap().json().unwrap();
    let before = revision();

    for line in REQUESTS.trim().lines() {
        let [method, path, who, body, statuses] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let answer = api
            .raw(method, path, &headers(&api, who), &bytes_of(body))
            .unwrap_or_else(|error| panic!("{line}: {error:#}"));
        let shown = format!(
            "{line}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        assert!(
            statuses
                .split(',')
                .any(|status| status == answer.status.to_string()),
            "{shown}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{shown}"
        );
        let problem = answer.json().unwrap();
        assert_eq!(problem["status"], answer.status, "{shown}");
        assert!(
            problem["title"].is_string() && problem["request_id"].is_string(),
            "{shown}"
        );
        assert!(
            !shown.contains(api.token()),
            "the answer repeats the token: {shown}"
        );
    }
    for garbage in [
        &b"\x00\x01\x02\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        if let Ok(answer) = api.exchange(garbage) {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(revision(), before);
}

fn headers(api: &Api, who: &str) -> String {
    let host = "Host: 10.77.0.1:7443\r\n";
    let json = "Content-Type: application/json\r\n";
    let token = format!("Authorization: Bearer {}\r\n", api.token());
    match who {
        "admin" => format!("{host}{token}{json}"),
        "nobody" => host.to_owned(),
        "wrong" => format!("{host}Authorization: Bearer rfa_wrong\r\n"),
        "basic" => format!("{host}Authorization: Basic YTpi\r\n"),
        // A page whose name was made to point here, and one that calls from somewhere else (red line 9).
        "rebound" => format!("Host: evil.example\r\n{token}"),
        "lured" => format!("{host}{token}{json}Origin: https://evil.example\r\n"),
        "plain" => format!("{host}{token}Content-Type: text/plain\r\n"),
        other => panic!("nobody is called {other}"),
    }
}

fn bytes_of(body: &str) -> Vec<u8> {
    match body {
        "-" => Vec::new(),
        "@binary" => vec![0xff, 0xfe],
        "@deep" => format!("{{\"files\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000)).into(),
        "@huge" => vec![b' '; 2 << 20],
        "@policy" => br#"{"files":[{"name":"x.toml","text":"[perimeter]\nnmae = 1\n"}]}"#.to_vec(),
        text => text.as_bytes().to_vec(),
    }
}

#[test]
fn a_malformed_policy_is_told_by_line_and_column_and_changes_nothing() {
    let mesh = Mesh::start("toml").unwrap();
    let good = policy(&[API_TO_DB]);
    mesh.apply(&good).unwrap();
    let before = mesh.json(["perimeter", "show", SHOP]).unwrap();
    let folder = mesh.host().dir().join("policies");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("another.toml"),
        good.replace("\"shop\"", "\"another\""),
    )
    .unwrap();

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
        let apply = mesh
            .cli(["perimeter", "apply", "-f"])
            .unwrap()
            .arg(&folder)
            .run()
            .unwrap();
        assert_eq!(
            (apply.code(), apply.stdout.as_str()),
            (Some(1), ""),
            "{to}: {}",
            apply.all()
        );
        assert!(
            apply.stderr.contains(&format!("bad.toml:{line}:")),
            "{to}: {}",
            apply.stderr
        );
        assert!(apply.stderr.contains(told), "{to}: {}", apply.stderr);
    }
    let deep = "[".repeat(100_000);
    for bytes in [&b"\xff\xfe\x00"[..], deep.as_bytes(), b"", b"a = 1"] {
        std::fs::write(folder.join("bad.toml"), bytes).unwrap();
        let apply = mesh
            .cli(["perimeter", "apply", "-f"])
            .unwrap()
            .arg(&folder)
            .run()
            .unwrap();
        assert_eq!(
            (apply.code(), apply.stdout.as_str()),
            (Some(1), ""),
            "{}",
            apply.all()
        );
    }
    // Not even the good file beside it.
    let perimeters = mesh.json(["perimeter", "ls"]).unwrap();
    assert_eq!(perimeters["perimeters"].as_array().unwrap().len(), 1);
    assert_eq!(mesh.json(["perimeter", "show", SHOP]).unwrap(), before);
}

#[test]
fn a_data_directory_that_others_can_reach_is_refused() {
    let mut mesh = Mesh::start("data").unwrap();
    mesh.stop_controller().unwrap();
    let data = mesh.data_dir();
    let run = |mesh: &Mesh| {
        let run = mesh
            .controller_command()
            .unwrap()
            .args(["run", "--data-dir"])
            .arg(mesh.data_dir());
        run.timeout(SOON).run().unwrap()
    };

    for (path, wrong, right) in [
        (data.clone(), "0755", "0700"),
        (data.join("ca.key"), "0640", "0600"),
        (data.join("store.sqlite"), "0604", "0600"),
    ] {
        change(mesh.host(), "chmod", wrong, &path);
        assert_tells(&run(&mesh), &path, "chmod");
        change(mesh.host(), "chmod", right, &path);
    }
    change(mesh.host(), "chown", "65534", &data);
    assert_tells(&run(&mesh), &data, "65534");
    change(mesh.host(), "chown", "0", &data);
    // The administrator's own file too: it holds the token.
    let admin = data.join("admin.toml");
    change(mesh.host(), "chmod", "0644", &admin);
    assert_tells(
        &mesh.cli(["perimeter", "ls"]).unwrap().run().unwrap(),
        &admin,
        "chmod",
    );
    change(mesh.host(), "chmod", "0600", &admin);
    mesh.start_controller().unwrap();
}

#[test]
fn a_state_directory_that_others_can_reach_is_refused() {
    let mut mesh = Mesh::start("state").unwrap();
    let mut node: Node = mesh.node("node", &["role=node"]).unwrap();
    node.stop().unwrap();
    let state = node.state_dir();

    for (path, wrong, right) in [
        (state.clone(), "0750", "0700"),
        (state.join("identity.pem"), "0644", "0600"),
        (state.join("node.toml"), "0606", "0600"),
    ] {
        change(node.host(), "chmod", wrong, &path);
        let run = node
            .host()
            .command(binary("ringfence-node").unwrap())
            .args(["run", "--state-dir"])
            .arg(&state);
        let run = run
            .arg("--socket")
            .arg(node.socket())
            .timeout(SOON)
            .run()
            .unwrap();
        assert_tells(&run, &path, "chmod");
        change(node.host(), "chmod", right, &path);
    }
    node.start().unwrap();
}

fn change(host: &Host, program: &str, to: &str, path: &Path) {
    host.command(program).arg(to).arg(path).text().unwrap();
}

/// It failed, and says what is wrong with what.
fn assert_tells(output: &Output, path: &Path, why: &str) {
    assert_eq!(output.code(), Some(1), "{}", output.all());
    let told = &output.stderr;
    assert!(
        told.contains(why) && told.contains(path.to_str().unwrap()),
        "{told}"
    );
}
