//! A node on a host of the lab.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ringfence_lab::{Host, Program, Running, wait_until};
use serde_json::Value;

use crate::binary::binary;
use crate::mesh::LOG_OWN;
use crate::stranger::key_from;

/// `ringfence-node` on a host: enrolled, and running unless stopped.
pub struct Node {
    running: Option<Running>,
    host: Host,
    name: String,
    options: NodeOptions,
}

/// How a node is run.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Further arguments of `ringfence-node run`.
    pub args: Vec<String>,
    /// Run as this user with `CAP_NET_ADMIN` and nothing else, instead of as root.
    pub user: Option<String>,
    /// `--tpm`, for enrolment and after: see [`crate::SoftTpm::place`].
    pub tpm: Option<String>,
    /// What it logs, as `RINGFENCE_LOG` has it; as its mesh does unless given.
    pub log: Option<&'static str>,
    /// The program, if it is not the `ringfence-node` that [`binary`] finds.
    pub program: Option<PathBuf>,
}

/// The addresses of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Overlay {
    /// The IPv4 address with a port.
    pub fn v4(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.v4, port))
    }

    /// The IPv6 address with a port.
    pub fn v6(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.v6, port))
    }

    /// Both addresses with a port.
    pub fn both(self, port: u16) -> [SocketAddr; 2] {
        [self.v4(port), self.v6(port)]
    }
}

impl Node {
    /// Enrols a host with a token; does not run it yet.
    ///
    /// # Errors
    /// When the controller refuses.
    pub fn enroll(host: &Host, name: &str, token: &str, options: NodeOptions) -> Result<Self> {
        let token_file = host.dir().join("token");
        std::fs::write(&token_file, token)?;
        let ticket = [OsStr::new("--token-file"), token_file.as_os_str()];
        Self::enroll_with(host, name, &ticket, options)
    }

    /// Enrols a host by the word of its platform: a locator, and the token that the platform wrote for it. Does not run
    /// it yet.
    ///
    /// # Errors
    /// When the controller refuses.
    pub fn enroll_workload(host: &Host, name: &str, locator: &str, jwt: &str) -> Result<Self> {
        let token_file = host.dir().join("token");
        std::fs::write(&token_file, jwt)?;
        let ticket = [
            OsStr::new("--workload"),
            OsStr::new(locator),
            OsStr::new("--jwt-file"),
            token_file.as_os_str(),
        ];
        Self::enroll_with(host, name, &ticket, NodeOptions::default())
    }

    fn enroll_with(host: &Host, name: &str, ticket: &[&OsStr], options: NodeOptions) -> Result<Self> {
        let node = Self {
            running: None,
            host: host.clone(),
            name: name.to_owned(),
            options,
        };
        let token_file = host.dir().join("token");
        if let Some(user) = &node.options.user {
            // What it needs to write to as somebody else.
            std::fs::create_dir_all(node.run_dir())?;
            for folder in [host.dir().to_owned(), node.run_dir(), token_file.clone()] {
                host.command("chown").arg(user).arg(folder).text()?;
            }
        }
        node.program(["enroll", "--name", name])?
            .arg("--state-dir")
            .arg(node.state_dir())
            .args(ticket)
            .text()?;
        Ok(node)
    }

    /// Runs it and waits until its controller is connected.
    ///
    /// # Errors
    /// When it does not get that far; the error holds its log.
    pub fn started(mut self) -> Result<Self> {
        self.start()?;
        Ok(self)
    }

    /// Runs it and waits until its controller is connected.
    ///
    /// # Errors
    /// When it does not get that far; the error holds its log.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_connected()
    }

    /// Runs it and waits until it answers, whether or not a controller does.
    ///
    /// # Errors
    /// When it does not get that far; the error holds its log.
    pub fn launch(&mut self) -> Result<()> {
        let running = self
            .program(["run"])?
            .env("RINGFENCE_LOG", self.options.log.unwrap_or(LOG_OWN))
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--socket")
            .arg(self.socket())
            .args(&self.options.args)
            .spawn("node")?;
        self.running = Some(running);
        let answers = wait_until(START_WAIT, "the node to answer", || {
            !self.running().is_running() || self.status().is_ok()
        });
        if answers.is_err() || !self.running().is_running() {
            bail!("node {} does not run; its log:\n{}", self.name, self.log());
        }
        Ok(())
    }

    /// Waits until its controller is connected.
    ///
    /// # Errors
    /// When it is not in time; the error holds the node's log.
    pub fn wait_connected(&self) -> Result<()> {
        wait_until(START_WAIT, "the node to reach its controller", || {
            self.status()
                .is_ok_and(|status| status["controller"]["connected"] == true)
        })
        .with_context(|| format!("node {}; its log:\n{}", self.name, self.log()))?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its process.
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("the node was started")
    }

    /// What it logged since it was first started.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.host.dir().join("state")
    }

    /// Its local socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("node.sock")
    }

    /// From its next start on it keeps its identity key in this TPM.
    pub fn set_tpm(&mut self, place: Option<String>) {
        self.options.tpm = place;
    }

    fn run_dir(&self) -> PathBuf {
        self.host.dir().join("run")
    }

    /// Stops it as a service manager does.
    ///
    /// # Errors
    /// When it does not stop, or not with success.
    pub fn stop(&mut self) -> Result<()> {
        let running = self.running.take().context("the node runs")?;
        running.terminate();
        let status = running.wait(STOP_WAIT)?;
        ensure!(
            status.success(),
            "{} stopped with {status}; its log:\n{}",
            self.name,
            running.log()
        );
        Ok(())
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// What `ringfence status --json` says.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn status(&self) -> Result<Value> {
        let text = self.local(["status", "--json"])?.timeout(STATUS_WAIT).text()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `ringfence` on this host, asking this node's socket.
    ///
    /// # Errors
    /// When it is not built.
    pub fn local<const N: usize>(&self, args: [&str; N]) -> Result<Program> {
        let command = self.host.command(binary("ringfence")?).args(args);
        Ok(command.arg("--socket").arg(self.socket()))
    }

    /// Its segment of a perimeter, as status shows it.
    ///
    /// # Errors
    /// When it has none.
    pub fn segment(&self, perimeter: &str) -> Result<Value> {
        let status = self.status()?;
        let segments = status["segments"].as_array().context("status has segments")?;
        let found = segments.iter().find(|segment| segment["perimeter"] == perimeter);
        found
            .cloned()
            .with_context(|| format!("{} has no segment {perimeter}: {status}", self.name))
    }

    /// Its addresses in a perimeter, once it has some.
    ///
    /// # Errors
    /// When it has none within a few seconds.
    pub fn overlay(&self, perimeter: &str) -> Result<Overlay> {
        let mut found = None;
        wait_until(SEGMENT_WAIT, "the segment to have addresses", || {
            found = self
                .segment(perimeter)
                .ok()
                .and_then(|segment| addresses(&segment));
            found.is_some()
        })
        .with_context(|| format!("node {}; its log:\n{}", self.name, self.log()))?;
        found.context("just seen")
    }

    /// A peer of its segment, as status shows it; `None` if it is not on the allowlist.
    ///
    /// # Errors
    /// When the node has no such segment.
    pub fn peer(&self, perimeter: &str, name: &str) -> Result<Option<Value>> {
        let segment = self.segment(perimeter)?;
        let peers = segment["peers"].as_array().context("a segment has peers")?;
        Ok(peers.iter().find(|peer| peer["node"] == name).cloned())
    }

    /// The key of one of its segments: what whoever breaks into this machine finds.
    ///
    /// # Errors
    /// When there is none.
    pub fn private_key(&self, perimeter: &str) -> Result<[u8; 32]> {
        let path = self.state_dir().join(format!("keys/{perimeter}.key"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        key_from(&text)
    }

    /// The public key of one of its segments.
    ///
    /// # Errors
    /// When it has no such segment.
    pub fn public_key(&self, perimeter: &str) -> Result<String> {
        let segment = self.segment(perimeter)?;
        Ok(segment["public_key"]
            .as_str()
            .context("the segment has no key")?
            .to_owned())
    }

    /// Where its tunnels listen.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn endpoint(&self) -> Result<SocketAddr> {
        let port = self.status()?["listen_port"]
            .as_u64()
            .context("status has listen_port")?;
        Ok(SocketAddr::new(self.host.address(), u16::try_from(port)?))
    }

    /// How often it refused something, by reason.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn drops(&self, reason: &str) -> Result<u64> {
        Ok(self.status()?["drops"][reason].as_u64().unwrap_or(0))
    }

    /// Waits until `peer` is on the allowlist.
    ///
    /// # Errors
    /// When it is not within a few seconds.
    pub fn wait_peer(&self, perimeter: &str, peer: &str) -> Result<()> {
        wait_until(SEGMENT_WAIT, "the peer to be on the allowlist", || {
            matches!(self.peer(perimeter, peer), Ok(Some(_)))
        })
        .with_context(|| format!("node {}; its log:\n{}", self.name, self.log()))?;
        Ok(())
    }

    fn program<const N: usize>(&self, args: [&str; N]) -> Result<Program> {
        let path = match &self.options.program {
            Some(path) => path.clone(),
            None => binary("ringfence-node")?,
        };
        let mut command = self.host.command(path).args(args);
        if let Some(tpm) = &self.options.tpm {
            command = command.args(["--tpm", tpm]);
        }
        Ok(match &self.options.user {
            Some(user) => command.as_user(user).ambient("net_admin"),
            None => command,
        })
    }
}

fn addresses(segment: &Value) -> Option<Overlay> {
    let parsed: Vec<IpAddr> = segment["addresses"]
        .as_array()?
        .iter()
        .filter_map(|address| address.as_str()?.parse().ok())
        .collect();
    match parsed.as_slice() {
        [IpAddr::V4(v4), IpAddr::V6(v6)] => Some(Overlay { v4: *v4, v6: *v6 }),
        _ => None,
    }
}

const START_WAIT: Duration = Duration::from_secs(20);
const STOP_WAIT: Duration = Duration::from_secs(10);
const STATUS_WAIT: Duration = Duration::from_secs(5);
const SEGMENT_WAIT: Duration = Duration::from_secs(10);
