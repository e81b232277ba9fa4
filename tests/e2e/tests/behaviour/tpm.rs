//! Nodes with a TPM: what lies on their disk is of use on that machine alone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ringfence_e2e::{Live, Mesh, Node, NodeOptions, SoftTpm};
use ringfence_lab::{Reach, wait_for, wait_until};
use serde_json::Value;

use crate::stage::{API_TO_DB, SHOP, SOON, policy};

/// Everything in a folder, read.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    all
}

/// No file holds a private key as programs write one: PEM, the DER of a P-256 key, or 32 bytes of base64.
fn assert_no_plain_key(node: &Node) {
    let files = contents(&node.state_dir());
    assert!(files.iter().any(|(name, _)| name.ends_with("identity.tpm")));
    assert!(files.iter().any(|(name, _)| name.contains("/keys/")));
    for (name, bytes) in &files {
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!holds(b"PRIVATE KEY"), "{name}");
        assert!(!holds(&[0x02, 0x01, 0x01, 0x04, 0x20]), "{name}");
        if name.contains("/keys/") {
            assert!(bytes.starts_with(b"wrapped:"), "{name}");
        }
    }
}

/// Why it does not start.
fn refusal(node: &mut Node) -> String {
    format!("{:#}", node.launch().unwrap_err())
}

#[test]
fn a_node_with_a_tpm_has_no_plain_key_and_is_itself_after_a_restart() {
    let mut mesh = Mesh::start("tpmsealed").unwrap();
    let db = mesh.node("db", &["role=db"]).unwrap();
    let host = mesh.bare_host("api").unwrap();
    let tpm = SoftTpm::start(&host, "tpm").unwrap();
    let options = NodeOptions {
        tpm: Some(tpm.place()),
        ..NodeOptions::default()
    };
    let mut api = mesh.node_on(&host, "api", &["role=api"], options).unwrap();
    mesh.apply_and_wait(&policy(&[API_TO_DB])).unwrap();
    let key = api.public_key(SHOP).unwrap();
    let at = db.overlay(SHOP).unwrap().v4(5432);
    let _serving = db.host().serve(at).unwrap();
    api.wait_peer(SHOP, "db").unwrap();
    assert_eq!(api.host().try_tcp(at, SOON), Reach::Open);
    assert_no_plain_key(&api);

    api.stop().unwrap();
    api.start().unwrap();

    assert_eq!(api.public_key(SHOP).unwrap(), key);
    api.wait_peer(SHOP, "db").unwrap();
    assert_eq!(api.host().try_tcp(at, SOON), Reach::Open);
}

#[test]
fn a_state_directory_is_of_no_use_with_another_tpm_or_none() {
    let mut mesh = Mesh::start("tpmother").unwrap();
    let host = mesh.bare_host("api").unwrap();
    let mut tpm = SoftTpm::start(&host, "tpm").unwrap();
    let other = SoftTpm::start(&host, "other").unwrap();
    let options = NodeOptions {
        tpm: Some(tpm.place()),
        ..NodeOptions::default()
    };
    let mut api = mesh.node_on(&host, "api", &["role=api"], options).unwrap();
    api.stop().unwrap();

    api.set_tpm(Some(other.place()));
    let told = refusal(&mut api);
    assert!(
        told.contains("not the one that sealed it") && told.contains("enrol this machine anew"),
        "{told}"
    );
    api.set_tpm(None);
    let told = refusal(&mut api);
    assert!(told.contains("run with --tpm"), "{told}");
    api.set_tpm(Some(tpm.place()));
    tpm.switch_off();
    let told = refusal(&mut api);
    assert!(told.contains("there is no TPM at"), "{told}");
    tpm.switch_on().unwrap();
    api.start().unwrap();
}

#[test]
fn a_plain_key_is_taken_into_the_tpm() {
    let mut mesh = Mesh::start("tpmtaken").unwrap();
    let mut api = mesh.node("api", &["role=api"]).unwrap();
    mesh.apply_and_wait(&policy(&[API_TO_DB])).unwrap();
    let (id, key) = (api.status().unwrap()["id"].clone(), api.public_key(SHOP).unwrap());
    assert!(api.state_dir().join("identity.pem").exists());
    let tpm = SoftTpm::start(api.host(), "tpm").unwrap();
    api.stop().unwrap();

    api.set_tpm(Some(tpm.place()));
    api.start().unwrap();

    assert_no_plain_key(&api);
    assert_eq!(api.status().unwrap()["id"], id);
    assert_eq!(api.public_key(SHOP).unwrap(), key);
}

/// A node with a TPM, one without, and a database that asks for one.
struct Vault {
    tpm: SoftTpm,
    api: Node,
    plain: Node,
    db: Node,
    mesh: Mesh,
}

impl Vault {
    fn start(name: &str) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let db = mesh.node("db", &["role=db"]).unwrap();
        let plain = mesh.node("plain", &["role=api"]).unwrap();
        let host = mesh.bare_host("api").unwrap();
        let tpm = SoftTpm::start(&host, "tpm").unwrap();
        let options = NodeOptions {
            tpm: Some(tpm.place()),
            ..NodeOptions::default()
        };
        let api = mesh.node_on(&host, "api", &["role=api"], options).unwrap();
        let rules = policy(&[API_TO_DB]) + "require = { posture = [\"tpm\"] }\n";
        let vault = Self {
            tpm,
            api,
            plain,
            db,
            mesh,
        };
        vault.ask("unknown-maker", None);
        vault.mesh.apply_and_wait(&rules).unwrap();
        vault
    }

    fn ask(&self, state: &str, makers: Option<&str>) {
        let mut posture = String::new();
        if let Some(makers) = makers {
            posture += &format!("[tpm]\nmakers = \"\"\"\n{makers}\"\"\"\n");
        }
        posture += &format!("[[check]]\nname = \"tpm\"\nmax_age = \"10s\"\ntpm.state = \"{state}\"\n");
        let apply = self.mesh.cli(["posture", "apply", "-f", "-"]).unwrap();
        apply.input(&posture).text().unwrap();
    }

    fn shown(&self, node: &str) -> Value {
        self.mesh.json(["posture", "show", node]).unwrap()
    }

    fn says(&self, node: &str) -> String {
        let shown = self.shown(node);
        shown["checks"][0]["findings"][0]["says"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn wait(&self, says: &str) {
        let waited = wait_until(FOLLOWS_MAX, says, || self.says("api").contains(says));
        assert!(
            waited.is_ok(),
            "{says} is wanted, {} is said; {}",
            self.says("api"),
            self.api.log()
        );
    }

    fn open(&self, from: &Node) -> Option<Live> {
        let at = self.db.overlay(SHOP).unwrap().v4;
        Live::open(from.host(), self.db.host(), at.into(), 5432).ok()
    }

    fn wait_open(&self) -> Live {
        wait_for(SOON, "access", || self.open(&self.api)).unwrap()
    }

    /// What the audit trail has of TPMs, in words.
    fn audited(&self) -> Vec<String> {
        let entries = self.mesh.json(["audit"]).unwrap();
        let text = entries.to_string();
        text.split('"')
            .filter(|part| part.contains(" TPM "))
            .map(str::to_owned)
            .collect()
    }
}

/// A challenge every third of ten seconds, a retry every five, and what a busy machine takes.
const FOLLOWS_MAX: Duration = Duration::from_secs(20);

#[test]
fn access_follows_what_a_tpm_attests() {
    let mut vault = Vault::start("tpmattests");
    vault.wait("tpm.state is unknown-maker");
    let fact = vault.shown("api")["facts"][0].clone();
    assert_eq!(fact["source"], "controller", "{fact}");
    drop(vault.wait_open());
    assert!(vault.open(&vault.plain).is_none(), "a node without a TPM gets in");
    assert_eq!(
        vault.says("plain"),
        "tpm.state is not known: nothing has reported it"
    );

    let makers = vault.tpm.certify("maker").unwrap();
    vault.ask("attested", Some(&makers));
    // The certificate is new to the node, too.
    vault.api.stop().unwrap();
    vault.api.start().unwrap();
    vault.wait("tpm.state is attested");
    let live = vault.wait_open();
    // It proves itself again and again, and who is connected notices nothing.
    std::thread::sleep(Duration::from_secs(12));
    assert!(live.is_open());

    vault.tpm.switch_off();
    live.wait_cut(FOLLOWS_MAX).unwrap();
    assert!(
        vault.says("api").contains("there is no TPM at"),
        "{}",
        vault.says("api")
    );
    vault.tpm.switch_on().unwrap();
    vault.wait("tpm.state is attested");
    let live = vault.wait_open();

    // Another maker is trusted in its place.
    let others = SoftTpm::start(vault.db.host(), "other").unwrap();
    let others = others.certify("other-maker").unwrap();
    vault.ask("attested", Some(&others));
    live.wait_cut(FOLLOWS_MAX).unwrap();
    vault.wait("tpm.state is unknown-maker, must be attested");
}

#[test]
fn a_node_with_another_tpm_than_before_is_kept_out_and_it_is_told() {
    let mut vault = Vault::start("tpmswapped");
    vault.wait("tpm.state is unknown-maker");
    let live = vault.wait_open();
    let audited = vault.audited();
    assert!(
        audited
            .iter()
            .any(|told| told.starts_with("pinned the TPM of node")),
        "{audited:?}"
    );

    vault.tpm.replace().unwrap();

    live.wait_cut(FOLLOWS_MAX).unwrap();
    vault.wait("another TPM than the node's own answered");
    assert!(vault.open(&vault.api).is_none());
    let audited = vault.audited();
    assert!(
        audited.iter().any(|told| told.contains("showed another TPM")),
        "{audited:?}"
    );
}
