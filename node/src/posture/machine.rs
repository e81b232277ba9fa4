//! Which look-up answers which question, and what one round of looking shares.

use std::path::{Path, PathBuf};

pub(super) use ringfence_control::FactName;
use ringfence_control::NativeFact;

use super::file::Hashes;
use super::process::Processes;
use super::updates::Updates;
use super::{Found, Value, boot, disk, firewall, os, ssh};
use crate::sys;

/// A machine whose files lie under one folder: `/`, but for tests.
pub(super) struct Machine {
    root: PathBuf,
    hashes: Hashes,
    updates: Updates,
    /// Of this round.
    processes: Option<Processes>,
}

impl Machine {
    /// The one this program runs on.
    pub(super) fn this() -> Self {
        Self::under("/")
    }

    pub(super) fn under(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hashes: Hashes::default(),
            updates: Updates::default(),
            processes: None,
        }
    }

    /// Begins a round: what was listed in the last one is listed anew.
    pub(super) fn begin(&mut self) {
        self.processes = None;
    }

    pub(super) fn look_up(&mut self, name: &FactName) -> Found {
        match name {
            FactName::Native(native) => self.look_up_native(*native),
            FactName::Process(name) => {
                let root = &self.root;
                let processes = self.processes.get_or_insert_with(|| Processes::list(root));
                processes.runs(name).map(Value::Bool)
            }
            FactName::File(path) => self.hashes.of(&at(&self.root, path)).map(Value::Text),
            FactName::Script(_) | FactName::Custom(_) => Err("a node does not look that up".to_owned()),
        }
    }

    fn look_up_native(&mut self, native: NativeFact) -> Found {
        let root = &self.root;
        match native {
            NativeFact::BootSecure => boot::is_secure(root).map(Value::Bool),
            NativeFact::DiskEncrypted => disk::is_encrypted(root).map(Value::Bool),
            NativeFact::FirewallActive => firewall::is_active(root).map(Value::Bool),
            NativeFact::KernelVersion => os::kernel_release(root).map(Value::Version),
            NativeFact::NodeVersion => Ok(Value::Version(env!("CARGO_PKG_VERSION").to_owned())),
            NativeFact::OsId => os::release(root, "ID").map(Value::Text),
            NativeFact::OsVersion => os::release(root, "VERSION_ID").map(Value::Version),
            NativeFact::OsSecurityUpdate => self.updates.last(root).map(Value::Since),
            NativeFact::SshPasswordLogin => ssh::lets_passwords_in(root).map(Value::Bool),
            NativeFact::TpmState => Err("it is for the controller to verify".to_owned()),
            NativeFact::TimeSynchronized => sys::is_clock_synchronized()
                .map(Value::Bool)
                .map_err(|error| format!("the kernel does not tell: {error}")),
        }
    }
}

/// An absolute path of the machine.
pub(super) fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Why a file cannot be read, without what only this host's administrator may know.
pub(crate) fn unreadable(path: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("{path} is not there"),
        std::io::ErrorKind::PermissionDenied => format!("{path} is closed to ringfence-node"),
        _ => format!("{path}: {error}"),
    }
}
