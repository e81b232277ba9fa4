//! The lab itself: names, a folder, the switch that its networks live in, and the end of it all.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    fabric::{Fabric, Network},
    host::Host,
    janitor::{self, Folder, Janitor},
    namespace::Namespace,
};

/// A set of hosts and networks of its own.
///
/// Everything it made goes when the last of the lab, its hosts, networks and running programs is dropped.
#[derive(Clone)]
pub struct Lab(Arc<Inner>);

struct Inner {
    prefix: String,
    folder: PathBuf,
    switch: Namespace,
    fabric: Mutex<Fabric>,
    janitor: Mutex<Janitor>,
    /// Held to read while something is being made, so that [`Lab::end`] leaves nothing half-made behind.
    stage: RwLock<Stage>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Ended,
}

impl Lab {
    /// Makes an empty lab. `name` shows in the names of its namespaces and of its folder.
    ///
    /// # Errors
    /// When this is not root on a Linux with network namespaces, bridges and nftables.
    pub fn new(name: &str) -> Result<Self> {
        check_name(name)?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab needs root to make network namespaces"
        );
        SWEEP.call_once(janitor::sweep);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}{}-{number}-{name}", janitor::PREFIX, janitor::owner()?);
        let folder = std::env::temp_dir().join(&prefix);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let janitor = Janitor::start(&prefix, &folder)?;
        let switch = Namespace::create(&format!("{prefix}-switch"))
            .context("the lab needs network namespaces, and this machine makes none")?;
        for scope in ["all", "default"] {
            switch.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1")?;
        }
        let fabric = Mutex::new(Fabric::default());
        Ok(Self(Arc::new(Inner {
            prefix,
            folder,
            switch,
            fabric,
            janitor: Mutex::new(janitor),
            stage: RwLock::new(Stage::Open),
        })))
    }

    /// A folder for what the lab's programs write. It goes with the lab, unless the test that owns it panics.
    pub fn dir(&self) -> &Path {
        &self.0.folder
    }

    /// Makes an Ethernet segment that hosts can [`join`](Host::join).
    ///
    /// # Errors
    /// When the name is odd or taken, or the bridge cannot be made.
    pub fn network(&self, name: &str) -> Result<Network> {
        check_name(name)?;
        let bridge = self.fabric().add_network(name)?;
        self.0.switch.ip(&[
            format!("link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
            format!("link set {bridge} up"),
        ])?;
        Ok(Network::new(self.clone(), name))
    }

    /// Makes a host with nothing but its loopback interface.
    ///
    /// # Errors
    /// When the name is odd or taken, or the namespace cannot be made.
    pub fn host(&self, name: &str) -> Result<Host> {
        check_name(name)?;
        let _open = self.hold_open()?;
        if name == "switch" || self.0.folder.join(name).exists() {
            bail!("the lab has a host {name} already");
        }
        Host::create(self, name)
    }

    /// Makes a host that forwards packets between its networks; [`Host::nat`] makes it a NAT.
    ///
    /// # Errors
    /// As [`Self::host`].
    pub fn router(&self, name: &str) -> Result<Host> {
        let host = self.host(name)?;
        host.forward_packets()?;
        Ok(host)
    }

    /// Loses every IP packet between two hosts, silently, on all networks that they share.
    ///
    /// # Errors
    /// When they share no network: cut one of them off from the router between them instead.
    pub fn partition(&self, a: &Host, b: &Host) -> Result<()> {
        self.fabric().cut(a.name(), b.name())?;
        self.apply_fabric()
    }

    /// Takes a [`Self::partition`] back.
    ///
    /// # Errors
    /// When the rules cannot be loaded.
    pub fn heal(&self, a: &Host, b: &Host) -> Result<()> {
        self.fabric().heal(a.name(), b.name());
        self.apply_fabric()
    }

    /// Ends the lab now, whoever still holds a part of it: kills its programs, removes its namespaces and its folder.
    /// Nothing more can be made in it. For a program that is told to stop while other threads of it use the lab.
    pub fn end(&self) {
        *self.0.stage.write().unwrap_or_else(PoisonError::into_inner) = Stage::Ended;
        self.0.finish(Folder::Remove);
    }

    fn hold_open(&self) -> Result<RwLockReadGuard<'_, Stage>> {
        let stage = self.0.stage.read().unwrap_or_else(PoisonError::into_inner);
        ensure!(*stage == Stage::Open, "the lab has ended");
        Ok(stage)
    }

    pub(crate) fn fabric(&self) -> MutexGuard<'_, Fabric> {
        self.0.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the switch do what the fabric says, in one step.
    pub(crate) fn apply_fabric(&self) -> Result<()> {
        let ruleset = self.fabric().ruleset();
        self.0.switch.nft(&ruleset)
    }

    pub(crate) fn switch(&self) -> &Namespace {
        &self.0.switch
    }

    pub(crate) fn namespace_name(&self, host: &str) -> String {
        format!("{}-{host}", self.0.prefix)
    }
}

impl Inner {
    fn finish(&self, folder: Folder) {
        let mut janitor = self.janitor.lock().unwrap_or_else(PoisonError::into_inner);
        janitor.finish(folder);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if thread::panicking() {
            show_logs(&self.folder);
            self.finish(Folder::Keep);
        } else {
            self.finish(Folder::Remove);
        }
    }
}

/// Names become parts of namespace names, file names and rules.
fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !name.is_empty() && name.len() <= NAME_LEN_MAX && name.chars().all(good),
        "a name in the lab is 1 to {NAME_LEN_MAX} of a-z, 0-9 and '-', and {name:?} is not"
    );
    Ok(())
}

/// What the lab's programs printed last, for the report of the test that failed.
#[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
fn show_logs(folder: &Path) {
    eprintln!("lab: everything is kept in {}", folder.display());
    let Ok(hosts) = fs::read_dir(folder) else { return };
    for host in hosts.flatten() {
        let Ok(files) = fs::read_dir(host.path()) else {
            continue;
        };
        for file in files
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|e| e == "log"))
        {
            let text = fs::read(file.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("--- end of {} ---\n{}", file.path().display(), tail.join("\n"));
        }
    }
}

/// Once a process: what is left over can only come from others.
static SWEEP: Once = Once::new();
static LABS: AtomicU32 = AtomicU32::new(1);

const NAME_LEN_MAX: usize = 40;
const LOG_TAIL_LINES: usize = 25;
