//! Machines come in by the word of their platform, without a secret of ours: a CI at a certified provider, pods of a
//! cluster that nobody can reach, and an issuer whose tokens no honest one would make.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ringfence_e2e::{ISSUER, Mesh, Node, Office, Script};
use ringfence_lab::{Host, Reach, wait_until};
use serde_json::{Value, json};

use crate::SOON;

const OURS: &str = "https://ringfence.example.com";

#[test]
fn a_ci_job_comes_in_by_a_certified_providers_token_once() {
    let mut office = Office::open("people-workload", Script::Honest).unwrap();
    let db = office.mesh.node("db", &["role=db"]).unwrap();
    office.mesh.apply_and_wait(LEDGER).unwrap();
    let locator = set(&office.mesh, &discovered(&office, OURS, CI_RULE));
    let [first, second, third] = ["job-1", "job-2", "job-3"].map(|name| office.mesh.bare_host(name).unwrap());
    let data = db.overlay("ledger").unwrap().v4(5432);
    let _serving = db.host().serve(data).unwrap();
    let token = office.machine_token("builder", OURS).unwrap();
    let test = test(&office.mesh, &token).unwrap();
    assert!(
        test.contains("role=app") && test.contains("it would be let in"),
        "{test}"
    );

    let node = Node::enroll_workload(&first, "ignored", &locator, &token).unwrap();
    let node = node.started().unwrap();

    let shown = office.mesh.json(["node", "show", "ci-acme-builder"]).unwrap();
    assert_eq!(shown["labels"], json!({ "role": "app", "env": "ci" }));
    assert_eq!(shown["perimeters"], json!(["ledger"]));
    let admitted = json!({ "kind": "workload", "issuer": "ci", "subject": "builder", "rule": 1 });
    assert_eq!(shown["admitted_by"], admitted);
    wait_until(SOON, "the database to be reached", || {
        node.host().try_tcp(data, Duration::from_secs(1)) == Reach::Open
    })
    .unwrap();

    // By the same token nobody else comes in, and this one does not again when its node is gone.
    refused(&second, &locator, &token, "used before");
    office.administer(&["node", "remove", "ci-acme-builder"]).unwrap();
    refused(&second, &locator, &token, "used before");
    let fresh = |audience: &str, client: &str| office.machine_token(client, audience).unwrap();
    refused(
        &second,
        &locator,
        &fresh("https://other.example.com", "builder"),
        "audience",
    );
    refused(
        &second,
        &locator,
        &fresh(OURS, "stranger"),
        "no rule of workload issuer ci lets stranger in",
    );

    office
        .administer(&["lock", "workload:ci", "--reason", "leak"])
        .unwrap();
    refused(&second, &locator, &fresh(OURS, "builder"), "locked");
    office.administer(&["unlock", "workload:ci"]).unwrap();
    Node::enroll_workload(&second, "job-2", &locator, &fresh(OURS, "builder")).unwrap();
    office.administer(&["workload", "remove", "ci"]).unwrap();
    refused(
        &third,
        &locator,
        &fresh(OURS, "builder"),
        "there is no workload issuer ci",
    );

    let audit = office.administer(&["audit", "--json"]).unwrap();
    let claims = r#"{"repository":"acme/builder","runner.environment":"production","runner.tags":"[\"linux\",\"db\"]"}"#;
    let told: Value = serde_json::from_str(&audit).unwrap();
    let events = told["entries"].as_array().unwrap().iter();
    let mut events = events.flat_map(|entry| entry["events"].as_array().unwrap());
    let admitted = events
        .find(|event| event["event"] == "workload-admitted")
        .unwrap();
    assert_eq!(admitted["claims"], serde_json::from_str::<Value>(claims).unwrap());
    for noted in ["used before", "audience", "lets stranger in", "is locked"] {
        assert!(audit.contains(noted), "{noted}: {audit}");
    }
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!audit.contains(signature), "the token itself is nowhere");
    for (path, log) in office.mesh.logs() {
        assert!(!log.contains(signature), "{}", path.display());
    }
}

#[test]
fn a_key_that_the_provider_turned_away_lets_nobody_in() {
    let mut office = Office::open("people-workload-keys", Script::Honest).unwrap();
    let locator = set(&office.mesh, &discovered(&office, OURS, CI_RULE));
    let old = office.machine_token("builder", OURS).unwrap();
    assert!(test(&office.mesh, &old).unwrap().contains("would be let in"));

    office.control("turn-keys").unwrap();
    let new = office.machine_token("builder", OURS).unwrap();
    let [first, second] = ["job-1", "job-2"].map(|name| office.mesh.bare_host(name).unwrap());
    Node::enroll_workload(&first, "job-1", &locator, &new).unwrap();

    refused(&second, &locator, &old, "does not publish");
}

#[test]
fn hand_made_tokens_let_nobody_in() {
    let mut office = Office::open("people-workload-rogue", Script::Rogue).unwrap();
    let rule = "[[admit]]\nclaims.sub = \"job-*\"\nlabels.role = \"app\"\n";
    let locator = set(&office.mesh, &discovered(&office, "ringfence", rule));
    let host = office.mesh.bare_host("job").unwrap();
    let made = |fault: &str| {
        office.control(&format!("be/{fault}")).unwrap();
        office.controlled("workload").unwrap().trim().to_owned()
    };

    for (fault, why) in [
        ("wrong-audience", "audience"),
        ("second-audience", "audience"),
        ("wrong-issuer", "another issuer's"),
        ("expired", "expired"),
        ("endless", "counts for"),
        ("from-the-future", "of the future"),
        ("no-subject", "whose it is"),
        ("no-algorithm", "algorithm"),
        ("shared-secret", "algorithm"),
        ("own-key", "signature"),
        ("foreign-key", "signature"),
        ("altered", "signature"),
        ("logout-token", "type"),
        ("unpublished-key", "does not publish"),
    ] {
        refused(&host, &locator, &made(fault), why);
    }

    // The machinery is sound: an honest token from the same issuer lets in.
    let honest = made("none");
    Node::enroll_workload(&host, "job", &locator, &honest).unwrap();
    let audit = office.administer(&["audit"]).unwrap();
    assert!(audit.contains("refused workload.admit for ci"), "{audit}");
}

#[test]
fn a_pod_of_a_cluster_that_nobody_reaches_comes_in_by_keys_in_the_file() {
    let mut mesh = Mesh::start("people-workload-pod").unwrap();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = key.public_key().as_ref();
    let jwks = json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "cluster",
        "x": encode(&point[1..33]), "y": encode(&point[33..]),
    }] });
    let cluster = "https://kubernetes.default.svc.cluster.local";
    let locator = set(
        &mesh,
        &format!(
            "[issuer]\nname = \"ci\"\nurl = \"{cluster}\"\naudience = \"ringfence\"\njwks = '''{jwks}'''\n\
             [[admit]]\n\
             claims = {{ \"kubernetes.io\" = {{ namespace = \"payments\", serviceaccount.name = \"ledger\" }} }}\n\
             labels = {{ role = \"db\" }}\n\
             name = '{{\"kubernetes.io\".pod.name}}'\n"
        ),
    );
    let token = |namespace: &str| {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        // As `kubectl create token` writes it.
        let claims = json!({
            "aud": ["ringfence"], "exp": now + 3600, "iat": now, "nbf": now, "iss": cluster,
            "jti": namespace, "sub": format!("system:serviceaccount:{namespace}:ledger"),
            "kubernetes.io": {
                "namespace": namespace,
                "node": { "name": "worker-1", "uid": "d3f0" },
                "pod": { "name": "ledger-7d9f5", "uid": "0b1c" },
                "serviceaccount": { "name": "ledger", "uid": "9a2e" },
            },
        });
        let header = json!({ "alg": "ES256", "kid": "cluster" });
        let signed = format!("{}.{}", encode(&bytes(&header)), encode(&bytes(&claims)));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature.as_ref()))
    };
    let host = mesh.bare_host("pod").unwrap();

    refused(&host, &locator, &token("staging"), "no rule");
    let told = test(&mesh, &token("staging")).unwrap_err();
    assert!(
        told.contains("\"kubernetes.io\".namespace is staging, not \"payments\""),
        "{told}"
    );
    Node::enroll_workload(&host, "pod", &locator, &token("payments")).unwrap();

    let shown = mesh
        .cli(["node", "show", "ledger-7d9f5"])
        .unwrap()
        .text()
        .unwrap();
    let came = "as system:serviceaccount:payments:ledger by rule 1 of workload issuer ci";
    assert!(shown.contains(came) && shown.contains("role=db"), "{shown}");
    let listed = mesh.cli(["workload", "ls"]).unwrap().text().unwrap();
    assert!(listed.contains(cluster) && listed.contains("given"), "{listed}");
}

/// Has the file set; the locator for its workloads.
fn set(mesh: &Mesh, file: &str) -> String {
    let program = mesh.cli(["workload", "set", "-f", "-"]).unwrap();
    program.input(file).text().unwrap();
    let locator = mesh.cli(["workload", "locator", "ci"]).unwrap().text().unwrap();
    locator.trim().to_owned()
}

/// What `ringfence workload test` says of a token; an error where it would let nobody in.
fn test(mesh: &Mesh, jwt: &str) -> Result<String, String> {
    let program = mesh.cli(["workload", "test", "ci", "--jwt-file", "-"]).unwrap();
    let output = program.input(jwt).run().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(output.stdout)
    }
}

/// The file of the office's provider, whose keys are found there.
fn discovered(office: &Office, audience: &str, rules: &str) -> String {
    let ca = office.provider_ca().unwrap();
    format!(
        "[issuer]\nname = \"ci\"\nurl = \"{ISSUER}\"\naudience = \"{audience}\"\nprivate_address = true\n\
         ca = '''{ca}'''\n{rules}"
    )
}

/// A machine that shows this token is told why it does not come in, and is denied as that.
fn refused(host: &Host, locator: &str, jwt: &str, why: &str) {
    let told = Node::enroll_workload(host, "refused", locator, jwt);
    let told = format!("{:#}", told.err().unwrap_or_else(|| panic!("{why}: it came in")));
    assert!(told.contains(why), "{why}: {told}");
    // As if it had never tried.
    let state = host.dir().join("state");
    if state.exists() {
        std::fs::remove_dir_all(state).unwrap();
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

const CI_RULE: &str = r#"
[[admit]]
claims.repository = "acme/builder"
claims.runner = { environment = "production", tags = "db" }
labels = { role = "app", env = "ci" }
name = "ci-{repository}"
"#;

const LEDGER: &str = r#"
[perimeter]
name = "ledger"
owners = ["alice@example.com"]
[members]
db = { nodes = "role=db" }
app = { nodes = "role=app, env=ci" }
[[allow]]
from = "app"
to = "db"
ports = ["tcp/5432"]
"#;
