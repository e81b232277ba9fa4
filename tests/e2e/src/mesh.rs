//! A controller on a network, and the command line to run it with.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfence_lab::{Host, Lab, Network, Program, Running, wait_until};
use serde_json::Value;

use crate::api::Api;
use crate::binary::binary;
use crate::node::{Node, NodeOptions};

/// One mesh in a lab of its own: `lan` with the controller at 10.77.0.1 and fd77::1, and nodes from 10.77.0.11 on.
///
/// When it goes, it looks through everything that was logged: a program that panicked fails the test.
pub struct Mesh {
    // Programs end before the lab does: fields drop in order.
    controller: Option<Running>,
    nodes: u8,
    options: MeshOptions,
    /// The time of day its programs see, if not the machine's.
    clock: Option<&'static str>,
    host: Host,
    lan: Network,
    lab: Lab,
}

/// How a mesh is set up.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// Where the controller is reached.
    pub advertise: &'static str,
    /// What the programs log, as `RINGFENCE_LOG` has it.
    pub log: &'static str,
    /// The size of a disk that holds the data directory alone; it shares the lab's unless given.
    pub disk_kib: Option<u32>,
}

/// `faketime`, for a program that sees another time of day; durations are as they are.
#[must_use]
pub fn at(host: &Host, clock: &str) -> Program {
    host.command("faketime")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .args(["-f", clock])
}

impl Default for MeshOptions {
    fn default() -> Self {
        Self {
            advertise: CONTROLLER,
            log: LOG_OWN,
            disk_kib: None,
        }
    }
}

impl Mesh {
    /// Makes a lab, a controller in it, and runs it.
    ///
    /// # Errors
    /// When anything of it fails; the error holds what the programs said.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_with(Lab::new(name)?, MeshOptions::default())
    }

    /// The same, with everything logged that can be.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_verbose(name: &str) -> Result<Self> {
        Self::start_in(Lab::new(name)?, LOG_ALL)
    }

    /// The same in a lab that is there, logging no more than `log`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(lab: Lab, log: &'static str) -> Result<Self> {
        let options = MeshOptions {
            log,
            ..MeshOptions::default()
        };
        Self::start_with(lab, options)
    }

    /// The same in a lab that is there, set up as told.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(lab: Lab, options: MeshOptions) -> Result<Self> {
        let lan = lab.network("lan")?;
        let host = lab.host("controller")?;
        host.join(&lan, &["10.77.0.1/24", "fd77::1/64"])?;
        let mut mesh = Self {
            controller: None,
            nodes: 0,
            options,
            clock: None,
            host,
            lan,
            lab,
        };
        if let Some(kib) = mesh.options.disk_kib {
            mesh.mount_disk(kib)?;
        }
        mesh.controller_command()?
            .args(["init", "--mesh", "acme", "--advertise", mesh.options.advertise])
            .arg("--data-dir")
            .arg(mesh.data_dir())
            .text()?;
        mesh.start_controller()?;
        Ok(mesh)
    }

    /// The lab it is in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The network everyone is on.
    pub fn lan(&self) -> &Network {
        &self.lan
    }

    /// Where the controller runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where the controller listens.
    pub fn address(&self) -> SocketAddr {
        self.options
            .advertise
            .parse()
            .expect("the tests advertise an address")
    }

    /// The controller's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.host.dir().join("data")
    }

    /// `ringfence-controller`, still without arguments, on the controller's host.
    ///
    /// # Errors
    /// When it is not built.
    pub fn controller_command(&self) -> Result<Program> {
        self.at_its_time("ringfence-controller")
    }

    /// Lets the programs that are started from now on, controller and CLI, see another time of day, as `faketime` has it.
    pub fn set_clock(&mut self, clock: &'static str) {
        self.clock = Some(clock);
    }

    fn at_its_time(&self, program: &str) -> Result<Program> {
        let program = binary(program)?;
        Ok(match self.clock {
            Some(clock) => at(&self.host, clock).arg(program),
            None => self.host.command(program),
        })
    }

    /// Runs the controller and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_controller(&mut self) -> Result<()> {
        let running = self
            .controller_command()?
            .env("RINGFENCE_LOG", self.options.log)
            .arg("run")
            .arg("--data-dir")
            .arg(self.data_dir())
            .spawn("controller")?;
        let ready = wait_until(START_WAIT, "the controller to answer", || {
            !running.is_running() || self.cli(["perimeter", "ls"]).and_then(Program::text).is_ok()
        });
        ensure!(
            ready.is_ok() && running.is_running(),
            "the controller does not run; its log:\n{}",
            running.log()
        );
        self.controller = Some(running);
        Ok(())
    }

    /// The controller's process.
    pub fn controller(&self) -> &Running {
        self.controller.as_ref().expect("the controller was started")
    }

    /// Stops the controller as a service manager does.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop_controller(&mut self) -> Result<()> {
        let running = self.controller.take().context("the controller runs")?;
        running.terminate();
        let status = running.wait(STOP_WAIT)?;
        ensure!(
            status.success(),
            "the controller stopped with {status}; its log:\n{}",
            running.log()
        );
        Ok(())
    }

    /// Kills the controller with SIGKILL.
    pub fn kill_controller(&mut self) {
        if let Some(running) = self.controller.take() {
            running.kill();
        }
    }

    /// `ringfence` with these arguments, as the administrator, on the controller's host.
    ///
    /// # Errors
    /// When it is not built.
    pub fn cli<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Program> {
        let context = self.data_dir().join("admin.toml");
        let command = self.at_its_time("ringfence")?;
        Ok(command.env("RINGFENCE_CONTEXT", context).args(args))
    }

    /// What `ringfence … --json` answers.
    ///
    /// # Errors
    /// When it fails or the answer is not JSON.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Value> {
        let text = self.cli(args)?.arg("--json").text()?;
        serde_json::from_str(&text).with_context(|| format!("this is not JSON: {text}"))
    }

    /// Applies one policy text and gives the report.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, policy: &str) -> Result<Value> {
        let text = self
            .cli(["perimeter", "apply", "--json", "-f", "-"])?
            .input(policy)
            .text()?;
        serde_json::from_str(&text).with_context(|| format!("this is not JSON: {text}"))
    }

    /// Applies one policy text and waits until every connected node enforces it.
    ///
    /// # Errors
    /// When it is refused or does not get through in time.
    pub fn apply_and_wait(&self, policy: &str) -> Result<Value> {
        let report = self.apply(policy)?;
        self.wait_enforced()?;
        Ok(report)
    }

    /// Waits until every connected node enforces the newest revision, and gives the receipt.
    ///
    /// # Errors
    /// When they do not within ten seconds.
    pub fn wait_enforced(&self) -> Result<Value> {
        self.json(["wait", "--revision", "latest", "--timeout", "10s"])
    }

    /// The REST API, asked from the controller's own host.
    ///
    /// # Errors
    /// When `admin.toml` is not what it should be.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.host, &self.data_dir().join("admin.toml"))
    }

    /// Everything that was logged so far by what runs in this mesh, by file.
    pub fn logs(&self) -> Vec<(PathBuf, String)> {
        let read = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        read(self.lab.dir())
            .flat_map(|host| read(&host.path()))
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .map(|path| {
                let bytes = std::fs::read(&path).unwrap_or_default();
                (path, String::from_utf8_lossy(&bytes).into_owned())
            })
            .collect()
    }

    /// A join token for nodes with these labels.
    ///
    /// # Errors
    /// When it is refused.
    pub fn token(&self, labels: &[&str]) -> Result<String> {
        let mut args = vec!["token", "create"];
        for label in labels {
            args.extend(["--label", label]);
        }
        Ok(self.cli(args)?.text()?.trim().to_owned())
    }

    /// A host on the mesh's network that runs nothing yet. Its address is the next free one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn bare_host(&mut self, name: &str) -> Result<Host> {
        let host = self.lab.host(name)?;
        let place = FIRST_NODE + self.nodes;
        self.nodes += 1;
        host.join(
            &self.lan,
            &[&format!("10.77.0.{place}/24"), &format!("fd77::{place}/64")],
        )?;
        Ok(host)
    }

    /// A new host with a node on it, enrolled with these labels and running.
    ///
    /// # Errors
    /// When it does not get that far.
    pub fn node(&mut self, name: &str, labels: &[&str]) -> Result<Node> {
        let host = self.bare_host(name)?;
        self.node_on(&host, name, labels, NodeOptions::default())
    }

    /// A node on a host that exists.
    ///
    /// # Errors
    /// When it does not get that far.
    pub fn node_on(&self, host: &Host, name: &str, labels: &[&str], options: NodeOptions) -> Result<Node> {
        let token = self.token(labels)?;
        let log = options.log.or(Some(self.options.log));
        let options = NodeOptions { log, ..options };
        Node::enroll(host, name, &token, options)?.started()
    }

    /// A small disk of its own for the data directory, seen by the programs of the controller's host alone.
    fn mount_disk(&self, kib: u32) -> Result<()> {
        std::fs::create_dir(self.data_dir())?;
        let size = format!("size={kib}k,mode=0700");
        let mount = self
            .host
            .command("mount")
            .args(["-t", "tmpfs", "-o", &size, "disk"]);
        mount.arg(self.data_dir()).text()?;
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (path, log) in self.logs() {
            let panicked = log.lines().find(|line| line.contains("panicked at"));
            assert!(
                panicked.is_none(),
                "{}: {}",
                path.display(),
                panicked.unwrap_or_default()
            );
        }
    }
}

/// Where the controller is reached.
const CONTROLLER: &str = "10.77.0.1:7443";
/// What our own programs do, and no more than the warnings of the libraries below them.
pub(crate) const LOG_OWN: &str = "warn,ringfence_confine=info,ringfence_node=debug,ringfence_dataplane=debug,\
     ringfence_control=debug,ringfence_transport=debug,ringfence_wg=debug,ringfence_controller=debug,\
     ringfence_controlplane=debug";
/// The most verbose there is.
const LOG_ALL: &str = "trace";
const FIRST_NODE: u8 = 11;
const START_WAIT: Duration = Duration::from_secs(20);
const STOP_WAIT: Duration = Duration::from_secs(10);
