//! A mesh with a laptop, and a machine for an identity provider.

use std::cell::Cell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use ringfence_e2e::{Mesh, Node, binary};
use ringfence_lab::{Host, Output, Program, Running, wait_for, wait_until};
use serde_json::Value;

/// The mesh, the laptop, and the provider.
pub(crate) struct Office {
    pub(crate) laptop: Node,
    provider: Running,
    provider_host: Host,
    script: Script,
    logins: Cell<u32>,
    pub(crate) mesh: Mesh,
}

/// Who plays the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// `oidc-provider`.
    Honest,
    /// An issuer of ours.
    Rogue,
}

/// A `ringfence login` on its way.
pub(crate) struct Login {
    running: Running,
    /// Where the person goes.
    pub(crate) url: String,
    /// What to enter there.
    pub(crate) code: Option<String>,
}

impl Office {
    /// Everything runs, and `corp` is the only provider.
    pub(crate) fn open(name: &str, script: Script) -> Self {
        let mut mesh = Mesh::start(name).unwrap();
        let laptop = mesh.node("laptop", &["role=laptop"]).unwrap();
        let provider_host = mesh.bare_host("provider").unwrap();
        certify(&provider_host);
        let provider = start(&mesh, &provider_host, script);
        let office = Self {
            laptop,
            provider,
            provider_host,
            script,
            logins: Cell::new(0),
            mesh,
        };
        office
            .add_provider(
                "corp",
                &["--allow-private-address", "--mfa-acr", MFA, "--mfa-amr", "mfa"],
            )
            .text()
            .unwrap();
        office
    }

    /// `ringfence provider add` for this provider.
    pub(crate) fn add_provider(&self, name: &str, more: &[&str]) -> Program {
        let secret = self.mesh.data_dir().join("../client.secret");
        std::fs::write(&secret, SECRET).unwrap();
        let add = [
            "provider",
            "add",
            "--name",
            name,
            "--issuer",
            ISSUER,
            "--client-id",
            "ringfence",
        ];
        let command = self
            .mesh
            .cli(add)
            .unwrap()
            .arg("--client-secret-file")
            .arg(secret);
        let claims = ["--scopes", "profile,email,groups", "--groups-claim", "groups"];
        let ca = self.provider_host.dir().join("ca.pem");
        command.args(claims).arg("--ca-file").arg(ca).args(more)
    }

    /// `ringfence …` of the administrator, which must succeed: what it prints.
    pub(crate) fn administer(&self, args: &[&str]) -> String {
        self.mesh.cli(args).unwrap().text().unwrap()
    }

    /// What the provider logged.
    pub(crate) fn provider_log(&self) -> String {
        self.provider.log()
    }

    /// Has the provider do something that only tests ask for.
    pub(crate) fn control(&self, what: &str) {
        let port = if self.script == Script::Honest { 9000 } else { 9001 };
        let code = "const answer = await fetch(process.argv[1]); console.log(await answer.text());";
        let url = format!("http://127.0.0.1:{port}/{what}");
        let program = self
            .provider_host
            .command("node")
            .args(["--input-type=module", "-e", code, &url]);
        program.text().unwrap();
    }

    /// `ringfence …` of the person at the laptop.
    pub(crate) fn ringfence(&self, args: &[&str]) -> Program {
        let program = self.laptop.host().command(binary("ringfence").unwrap());
        program.args(args).arg("--socket").arg(self.laptop.socket())
    }

    /// Begins a login, and reads where the person is to go.
    pub(crate) fn begin(&self, more: &[&str]) -> Login {
        let program = self.ringfence(&["login", "--json"]).args(more);
        // A log of its own for each.
        self.logins.set(self.logins.get() + 1);
        let running = program.spawn(&format!("login-{}", self.logins.get())).unwrap();
        let told = wait_for(SOON, "the login to begin", || {
            let log = running.log();
            let url = log
                .split_whitespace()
                .find(|word| word.starts_with("https://"))?
                .to_owned();
            let code = log
                .split_once("enter the code ")
                .and_then(|(_, rest)| rest.split_once('\n'));
            let is_whole = log.ends_with('\n');
            is_whole.then(|| (url, code.map(|(code, _)| code.trim().to_owned())))
        });
        let (url, code) = told.unwrap_or_else(|error| panic!("{error}: {}", running.log()));
        Login { running, url, code }
    }

    /// The person does something in their browser, and reads what the last page says.
    pub(crate) fn browse(&self, errand: &[&str]) -> String {
        let profile = self.laptop.host().dir().join("profile");
        let script = scripts().join("browser.mjs");
        let program = self.laptop.host().command("node").arg(script).arg(profile);
        program.args(errand).timeout(BROWSER_WAIT).text().unwrap()
    }

    /// The person logs in as `ada` with the browser, and gets this session.
    pub(crate) fn log_in(&self, more: &[&str], otp: Option<&str>) -> Value {
        let args: Vec<&str> = ["--no-browser"].iter().chain(more).copied().collect();
        let login = self.begin(&args);
        let mut errand = vec!["login", &login.url, "ada", "lovelace"];
        errand.extend(otp);
        let page = self.browse(&errand);
        assert!(
            page.contains("You are logged in"),
            "{page}\n{}\n{}",
            login.running.log(),
            self.provider_log()
        );
        login.session()
    }

    /// Who is logged in at the laptop.
    pub(crate) fn whoami(&self) -> Option<Value> {
        let Output { status, stdout, .. } = self.ringfence(&["whoami", "--json"]).run().unwrap();
        status.success().then(|| serde_json::from_str(&stdout).unwrap())
    }
}

impl Login {
    /// The session that it gave.
    pub(crate) fn session(self) -> Value {
        let status = self.running.wait(SOON).unwrap();
        let log = self.running.log();
        assert!(status.success(), "{log}");
        let (_, json) = log.split_once("\n{").unwrap();
        serde_json::from_str(&format!("{{{json}")).unwrap()
    }

    /// Why it gave none.
    pub(crate) fn refusal(self) -> String {
        let status = self.running.wait(SOON).unwrap();
        let log = self.running.log();
        assert!(!status.success(), "{log}");
        log
    }
}

fn start(mesh: &Mesh, host: &Host, script: Script) -> Running {
    let name = match script {
        Script::Honest => "provider.mjs",
        Script::Rogue => "rogue.mjs",
    };
    let mesh_ca = host.dir().join("mesh.pem");
    std::fs::write(&mesh_ca, mesh.api().unwrap().ca_pem()).unwrap();
    let running = host
        .command("node")
        .arg(scripts().join(name))
        .env("ISSUER", ISSUER)
        .env("CERTIFICATE", host.dir().join("certificate.pem"))
        .env("KEY", host.dir().join("key.pem"))
        .env("NODE_EXTRA_CA_CERTS", mesh_ca)
        .env(
            "CALLED_BACK",
            format!("https://{}/oidc/backchannel-logout/corp", mesh.address()),
        )
        .spawn("provider")
        .unwrap();
    let ready = wait_until(SOON, "the provider to be ready", || {
        running.log().contains("ready")
    });
    assert!(
        ready.is_ok(),
        "{}\n(`make setup` installs what it needs)",
        running.log()
    );
    running
}

/// A certificate for the provider's address, from a CA of its own.
fn certify(host: &Host) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::IpAddress(ADDRESS.parse::<IpAddr>().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("certificate.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(host.dir().join(name), text).unwrap();
    }
}

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("idp")
}

/// The second machine after the controller.
const ADDRESS: &str = "10.77.0.12";
pub(crate) const ISSUER: &str = "https://10.77.0.12";
pub(crate) const SECRET: &str = "a-client-secret-of-the-tests-alone";
pub(crate) const MFA: &str = "urn:ringfence:test:mfa";
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// It starts anew for each errand, on a machine that other tests share.
const BROWSER_WAIT: Duration = Duration::from_mins(2);
