//! Who is let in: certificates of this mesh's CA, in their time, of nodes that are still members.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use ringfence_e2e::{Mesh, Node, binary};
use ringfence_lab::Host;
use time::OffsetDateTime;

use crate::stage::{BRIEFLY, SOON};

#[test]
fn a_wrong_ca_is_refused_on_either_side() {
    // Two meshes of one name at one address, each with a CA of its own.
    let mut ours = Mesh::start("ours").unwrap();
    let mut theirs = Mesh::start("theirs").unwrap();
    let node = ours.node("node", &["role=db"]).unwrap();
    let token = ours.token(&["role=db"]).unwrap();
    let lured = theirs.bare_host("lured").unwrap();

    // A token names its CA: its secret is not told to anybody else.
    let enroll =
        lured
            .command(binary("ringfence-node").unwrap())
            .args(["enroll", "--token-file", "-", "--name", "x"]);
    let enroll = enroll
        .arg("--state-dir")
        .arg(lured.dir().join("new"))
        .input(&token)
        .run()
        .unwrap();
    assert!(!enroll.status.success(), "{}", enroll.all());
    assert!(enroll.stderr.contains("certificate"), "{}", enroll.stderr);
    assert!(
        !theirs.json(["audit"]).unwrap().to_string().contains("nroll"),
        "it never got as far as a refusal"
    );

    // So does an administrator's context.
    let context = fs::read_to_string(ours.data_dir().join("admin.toml")).unwrap();
    let copied = lured.dir().join("admin.toml");
    private(&copied, &context);
    let ls = lured
        .command(binary("ringfence").unwrap())
        .args(["node", "ls", "--context"])
        .arg(&copied)
        .run()
        .unwrap();
    assert_eq!(ls.code(), Some(4), "{}", ls.all());
    assert!(ls.stderr.contains("certificate"), "{}", ls.stderr);

    // A node of ours in their network does not believe their controller, and theirs does not believe it.
    let state = lured.dir().join("state");
    copy_state(&node, &state);
    assert_refused(&lured, &state);
    fs::write(state.join("ca.pem"), theirs.api().unwrap().ca_pem()).unwrap();
    assert_refused(&lured, &state);
    assert_eq!(
        theirs.json(["node", "ls"]).unwrap()["nodes"],
        serde_json::json!([])
    );
    assert_eq!(ours.json(["node", "ls"]).unwrap()["nodes"][0]["connected"], true);
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut mesh = Mesh::start("expired").unwrap();
    let mut node = mesh.node("node", &["role=db"]).unwrap();
    node.stop().unwrap();
    let state = node.state_dir();
    let certificate = state.join("certificate.pem");
    let hours = |from: i64, to: i64| sign(&mesh, &state, from, to);

    fs::write(&certificate, hours(-25, -1)).unwrap();
    assert_refused(node.host(), &state);
    fs::write(&certificate, hours(1, 25)).unwrap();
    assert_refused(node.host(), &state);

    // The same hand in the right hours is let in: time is all that was wrong.
    fs::write(&certificate, hours(-1, 23)).unwrap();
    node.start().unwrap();
}

#[test]
fn a_removed_nodes_certificate_is_worth_nothing_at_once() {
    let mut mesh = Mesh::start("gone").unwrap();
    let mut node = mesh.node("node", &["role=db"]).unwrap();
    let kept = mesh.bare_host("thief").unwrap();
    let state = kept.dir().join("state");
    copy_state(&node, &state);

    mesh.cli(["node", "remove", "node"]).unwrap().text().unwrap();

    // It hears of it, and gives everything up by itself.
    node.running().wait(SOON).unwrap();
    assert!(!node.state_dir().join("identity.pem").exists());
    node.kill();
    assert_refused(&kept, &state);
    let listed = mesh.json(["node", "ls"]).unwrap();
    assert_eq!(listed["nodes"], serde_json::json!([]));
}

#[test]
fn a_node_renews_its_certificate_in_place() {
    let mut mesh = Mesh::start("renew").unwrap();
    let mut node = mesh.node("node", &["role=db"]).unwrap();
    node.stop().unwrap();
    let (state, certificate) = (node.state_dir(), node.state_dir().join("certificate.pem"));
    // Past two thirds of its time.
    let old = sign(&mesh, &state, -20, 4);
    fs::write(&certificate, &old).unwrap();

    node.start().unwrap();

    ringfence_lab::wait_until(SOON, "a new certificate", || {
        fs::read_to_string(&certificate).is_ok_and(|now| now != old)
    })
    .unwrap();
    let listed = mesh.json(["node", "show", "node"]).unwrap();
    let left_ms = listed["certificate_expires_ms"].as_i64().unwrap()
        - OffsetDateTime::now_utc().unix_timestamp() * 1000;
    assert!(left_ms > 23 * 3_600_000, "{listed}");
    node.stop().unwrap();
    node.start().unwrap();
}

/// Runs a node on this state, and sees that no controller takes it.
fn assert_refused(host: &Host, state: &Path) {
    let socket = host.dir().join("refused.sock");
    let run = host
        .command(binary("ringfence-node").unwrap())
        .args(["run", "--state-dir"])
        .arg(state);
    let running = run.arg("--socket").arg(&socket).spawn("refused").unwrap();
    let until = std::time::Instant::now() + 2 * BRIEFLY;
    while std::time::Instant::now() < until {
        let status = host
            .command(binary("ringfence").unwrap())
            .args(["status", "--json", "--socket"])
            .arg(&socket);
        let status = status.run().unwrap();
        if status.status.success() {
            let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
            assert_eq!(status["controller"]["connected"], false, "{status}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    running.terminate();
    let _ = running.wait(SOON);
    assert!(!running.log().contains("panicked"), "{}", running.log());
}

fn copy_state(node: &Node, to: &Path) {
    let copy = node
        .host()
        .command("cp")
        .args(["-a"])
        .arg(node.state_dir())
        .arg(to);
    copy.text().unwrap();
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A certificate for the node in `state` by the mesh's own CA, valid between two hours from now.
fn sign(mesh: &Mesh, state: &Path, from: i64, to: i64) -> String {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let ca_pem = read(&mesh.data_dir().join("ca.pem"));
    let ca_key = KeyPair::from_pem(&read(&mesh.data_dir().join("ca.key"))).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
    let key = KeyPair::from_pem(&read(&state.join("identity.pem"))).unwrap();
    let node: toml::Table = toml::from_str(&read(&state.join("node.toml"))).unwrap();
    let uri = format!("spiffe://acme/node/{}", node["node"].as_str().unwrap());
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::now_utc() + time::Duration::hours(from);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::hours(to);
    let leaf = params.signed_by(&key, &issuer).unwrap();
    format!("{}{ca_pem}", leaf.pem())
}
