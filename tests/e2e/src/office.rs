//! A mesh with a laptop, and a machine for an identity provider.

use std::cell::Cell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use ringfence_lab::{Host, Output, Program, Running, wait_for, wait_until};
use serde_json::Value;

use crate::binary::binary;
use crate::mesh::Mesh;
use crate::node::{Node, NodeOptions};

/// The mesh, the laptop, and the provider.
pub struct Office {
    /// The machine that people sit at.
    pub laptop: Node,
    provider: Running,
    provider_host: Host,
    script: Script,
    logins: Cell<u32>,
    /// All of it.
    pub mesh: Mesh,
}

/// Who plays the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// `oidc-provider`.
    Honest,
    /// An issuer of ours.
    Rogue,
}

/// A `ringfence login` on its way.
pub struct Login {
    running: Running,
    /// Where the person goes.
    pub url: String,
    /// What to enter there.
    pub code: Option<String>,
}

impl Office {
    /// Everything runs, and `corp` is the only provider.
    ///
    /// # Errors
    /// When anything of it does not start.
    pub fn open(name: &str, script: Script) -> Result<Self> {
        Self::open_in(Mesh::start(name)?, script, |_| Ok(()))
    }

    /// The same in a mesh that has no node yet; `furnish` is done to the laptop's machine before its node starts.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(
        mut mesh: Mesh,
        script: Script,
        furnish: impl FnOnce(&Host) -> Result<()>,
    ) -> Result<Self> {
        let laptop_host = mesh.bare_host("laptop")?;
        furnish(&laptop_host)?;
        let laptop = mesh.node_on(&laptop_host, "laptop", &["role=laptop"], NodeOptions::default())?;
        let provider_host = mesh.bare_host("provider")?;
        certify(&provider_host)?;
        let provider = start(&mesh, &provider_host, script)?;
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
            )?
            .text()?;
        Ok(office)
    }

    /// `ringfence provider add` for this provider.
    ///
    /// # Errors
    /// When the file of its secret cannot be written.
    pub fn add_provider(&self, name: &str, more: &[&str]) -> Result<Program> {
        let secret = self.mesh.data_dir().join("../client.secret");
        std::fs::write(&secret, SECRET)?;
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
        let command = self.mesh.cli(add)?.arg("--client-secret-file").arg(secret);
        let claims = ["--scopes", "profile,email,groups", "--groups-claim", "groups"];
        let ca = self.provider_host.dir().join("ca.pem");
        Ok(command.args(claims).arg("--ca-file").arg(ca).args(more))
    }

    /// `ringfence …` of the administrator, which must succeed: what it prints.
    ///
    /// # Errors
    /// When it does not.
    pub fn administer(&self, args: &[&str]) -> Result<String> {
        self.mesh.cli(args)?.text()
    }

    /// The CA of the provider's certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn provider_ca(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.provider_host.dir().join("ca.pem"))?)
    }

    /// The token that the provider gives to a machine of its, for `audience`.
    ///
    /// # Errors
    /// When it gives none.
    pub fn machine_token(&self, client: &str, audience: &str) -> Result<String> {
        let code = "const [, url, client, secret, resource] = process.argv; \
            const basic = Buffer.from(`${client}:${secret}`).toString('base64'); \
            const body = new URLSearchParams({ grant_type: 'client_credentials', scope: 'enrol', resource }); \
            const headers = { authorization: `Basic ${basic}` }; \
            const answer = await (await fetch(url, { method: 'POST', headers, body })).json(); \
            if (!answer.access_token) throw new Error(JSON.stringify(answer)); \
            console.log(answer.access_token);";
        let program = self.laptop.host().command("node");
        let program = program.env("NODE_TLS_REJECT_UNAUTHORIZED", "0");
        let url = format!("{ISSUER}/token");
        let token = program.args(["--input-type=module", "-e", code, &url, client, SECRET, audience]);
        Ok(token.text()?.trim().to_owned())
    }

    /// What the provider logged.
    pub fn provider_log(&self) -> String {
        self.provider.log()
    }

    /// Has the provider do something that only tests ask for.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn control(&self, what: &str) -> Result<()> {
        self.controlled(what).map(drop)
    }

    /// The same, with what it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn controlled(&self, what: &str) -> Result<String> {
        let port = if self.script == Script::Honest { 9000 } else { 9001 };
        let code = "const answer = await fetch(process.argv[1]); console.log(await answer.text());";
        let url = format!("http://127.0.0.1:{port}/{what}");
        let program = self
            .provider_host
            .command("node")
            .args(["--input-type=module", "-e", code, &url]);
        program.text()
    }

    /// `ringfence …` of the person at the laptop.
    ///
    /// # Errors
    /// When it is not built.
    pub fn ringfence(&self, args: &[&str]) -> Result<Program> {
        let program = self.laptop.host().command(binary("ringfence")?);
        Ok(program.args(args).arg("--socket").arg(self.laptop.socket()))
    }

    /// Begins a login, and reads where the person is to go.
    ///
    /// # Errors
    /// When it does not get that far; the error holds what it said.
    pub fn begin(&self, more: &[&str]) -> Result<Login> {
        let program = self.ringfence(&["login", "--json"])?.args(more);
        // A log of its own for each.
        self.logins.set(self.logins.get() + 1);
        let running = program.spawn(&format!("login-{}", self.logins.get()))?;
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
        let (url, code) = told.with_context(|| running.log())?;
        Ok(Login { running, url, code })
    }

    /// The person does something in their browser, and reads what the last page says.
    ///
    /// # Errors
    /// When the browser does not get to the end of the errand.
    pub fn browse(&self, errand: &[&str]) -> Result<String> {
        let profile = self.laptop.host().dir().join("profile");
        let script = scripts().join("browser.mjs");
        let program = self.laptop.host().command("node").arg(script).arg(profile);
        program.args(errand).timeout(BROWSER_WAIT).text()
    }

    /// The person logs in as `ada` with the browser, and gets this session.
    ///
    /// # Errors
    /// When they get none; the error holds what everyone said.
    pub fn log_in(&self, more: &[&str], otp: Option<&str>) -> Result<Value> {
        let args: Vec<&str> = ["--no-browser"].iter().chain(more).copied().collect();
        let login = self.begin(&args)?;
        let mut errand = vec!["login", &login.url, "ada", "lovelace"];
        errand.extend(otp);
        let page = self.browse(&errand)?;
        ensure!(
            page.contains("You are logged in"),
            "{page}\n{}\n{}",
            login.running.log(),
            self.provider_log()
        );
        login.session()
    }

    /// Who is logged in at the laptop.
    ///
    /// # Errors
    /// When the question cannot be asked, or its answer is not JSON.
    pub fn whoami(&self) -> Result<Option<Value>> {
        let Output { status, stdout, .. } = self.ringfence(&["whoami", "--json"])?.run()?;
        let session = status.success().then(|| serde_json::from_str(&stdout));
        Ok(session.transpose()?)
    }
}

impl Login {
    /// The session that it gave.
    ///
    /// # Errors
    /// When it gave none.
    pub fn session(self) -> Result<Value> {
        let status = self.running.wait(SOON)?;
        let log = self.running.log();
        ensure!(status.success(), "{log}");
        let (_, json) = log.split_once("\n{").context("there is no session in it")?;
        Ok(serde_json::from_str(&format!("{{{json}"))?)
    }

    /// Why it gave none.
    ///
    /// # Errors
    /// When it gave one.
    pub fn refusal(self) -> Result<String> {
        let status = self.running.wait(SOON)?;
        let log = self.running.log();
        ensure!(!status.success(), "{log}");
        Ok(log)
    }
}

fn start(mesh: &Mesh, host: &Host, script: Script) -> Result<Running> {
    let name = match script {
        Script::Honest => "provider.mjs",
        Script::Rogue => "rogue.mjs",
    };
    let mesh_ca = host.dir().join("mesh.pem");
    std::fs::write(&mesh_ca, mesh.api()?.ca_pem())?;
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
        .spawn("provider")?;
    let ready = wait_until(SOON, "the provider to be ready", || {
        running.log().contains("ready")
    });
    ensure!(
        ready.is_ok(),
        "{}\n(`make setup` installs what it needs)",
        running.log()
    );
    Ok(running)
}

/// A certificate for the provider's address, from a CA of its own.
fn certify(host: &Host) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::IpAddress(ADDRESS.parse::<IpAddr>()?)];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("certificate.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(host.dir().join(name), text)?;
    }
    Ok(())
}

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("idp")
}

/// The second machine after the controller.
const ADDRESS: &str = "10.77.0.12";
/// The provider, as tokens name it.
pub const ISSUER: &str = "https://10.77.0.12";
/// What the controller shows to it.
pub const SECRET: &str = "a-client-secret-of-the-tests-alone";
/// The authentication context class of a second factor there.
pub const MFA: &str = "urn:ringfence:test:mfa";
/// How long anything here may take.
const SOON: Duration = Duration::from_secs(30);
/// It starts anew for each errand, on a machine that other tests share.
const BROWSER_WAIT: Duration = Duration::from_mins(2);
