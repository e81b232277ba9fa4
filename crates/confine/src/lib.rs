//! What a daemon gives up once it knows what it needs: capabilities, files, system calls, swap.
//!
//! Whoever takes over the process through a hole in it gets no more than is left. Three walls of the kernel, each by
//! itself: capabilities (what root may), Landlock (which files and TCP ports), seccomp (which calls at all).
//!
//! **Invariant:** what is given up cannot be taken back, and every thread started later has given it up too. So
//! [`confine`] is for the one thread of a process that has just begun.
#![deny(missing_docs)]

mod calls;
mod capabilities;
mod files;
mod memory;

use std::path::PathBuf;

pub use memory::wash_stack;
pub use rustix::thread::CapabilitySet;
/// Wipes what is freed: for `#[global_allocator]`. Libraries free keys that they have not wiped.
pub use zeroizing_alloc::ZeroAlloc;

/// What a daemon needs for the rest of its life.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Of its capabilities, those to keep. CAP_IPC_LOCK is kept besides where memory stays locked by it alone.
    pub capabilities: CapabilitySet,
    /// Folders and files to read; those that are not there are left out.
    pub read: Vec<PathBuf>,
    /// Folders to read and write everything in.
    pub write: Vec<PathBuf>,
    /// Folders to make Unix sockets in, and remove them.
    pub sockets: Vec<PathBuf>,
    /// Devices to open and to control.
    pub devices: Vec<PathBuf>,
    /// TCP ports to listen on; 0 is any that the kernel picks.
    pub listen_tcp: Vec<u16>,
    /// Whether it opens TCP connections.
    pub connect_tcp: Connect,
}

/// Whether TCP connections may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// To anywhere.
    Anywhere,
    /// To these ports, of whatever host.
    Ports(Vec<u16>),
    /// To nowhere.
    Nowhere,
}

/// What could be put up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// What is left of the capabilities.
    pub capabilities: CapabilitySet,
    /// Landlock.
    pub files: Wall,
    /// Seccomp.
    pub calls: Wall,
    /// Whether memory is kept from swap.
    pub memory: Wall,
}

/// One wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// All of it stands.
    Whole,
    /// An older kernel lacks part of it.
    Partial,
    /// It does not stand.
    Missing {
        /// Why, for the log.
        why: String,
    },
}

/// Why a process must not go on: it could not give up what every kernel lets it give up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Capabilities.
    #[error("giving up capabilities: {0}")]
    Capabilities(#[source] std::io::Error),
    /// The flag that keeps programs from gaining rights.
    #[error("giving up new privileges: {0}")]
    NewPrivileges(#[source] std::io::Error),
}

/// What resolving a name takes: what libc reads, the modules it loads, and where resolv.conf may lead to. Of `/etc`, these
/// files alone: passwords and other programs' keys lie beside them. A file that is replaced is another one to the kernel,
/// and closed.
pub const RESOLVER_FILES: [&str; 14] = [
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/nix/store",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];

/// Gives up all but `needs`, for this thread and those it starts. What the kernel cannot do is reported, not an error.
///
/// # Errors
/// [`ConfineError`] if capabilities cannot be given up.
pub fn confine(needs: &Needs) -> Result<Confined, ConfineError> {
    // First: it takes rights that are then given up.
    let (memory, for_memory) = memory::lock();
    let capabilities = capabilities::keep(needs.capabilities | for_memory)?;
    rustix::thread::set_no_new_privs(true).map_err(|error| ConfineError::NewPrivileges(error.into()))?;
    let files = files::restrict(needs);
    // Last: it forbids some of the calls above.
    let calls = calls::restrict();
    Ok(Confined {
        capabilities,
        files,
        calls,
        memory,
    })
}

impl Confined {
    /// Says what stands in one line, and each missing wall in one more.
    pub fn log(&self) {
        tracing::info!(
            capabilities = ?self.capabilities,
            files = self.files.as_str(),
            calls = self.calls.as_str(),
            memory = self.memory.as_str(),
            "confined"
        );
        for (wall, what) in [
            (&self.files, "files are not walled off by Landlock"),
            (&self.calls, "system calls are not filtered by seccomp"),
            (&self.memory, "memory may be written to swap"),
        ] {
            if let Wall::Missing { why } = wall {
                tracing::warn!(why, "{what}");
            }
        }
    }
}

impl Wall {
    /// In one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Missing { .. } => "missing",
        }
    }

    fn missing(why: &impl ToString) -> Self {
        Self::Missing { why: why.to_string() }
    }
}

#[cfg(test)]
mod tests;
