//! One named network namespace, and threads that work inside it.
//!
//! **Invariant:** only threads made here ever enter a namespace, so no caller's thread changes its network.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    panic,
    process::{Child, Command},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tool;

/// A network namespace under `/run/netns`.
///
/// It does not remove itself: [`crate::janitor`] does, when its lab ends.
#[derive(Clone)]
pub(crate) struct Namespace {
    name: Arc<str>,
    handle: Arc<File>,
}

impl Namespace {
    pub(crate) fn create(name: &str) -> Result<Self> {
        tool::run("ip", &["netns", "add", name])?;
        let path = format!("/run/netns/{name}");
        let handle = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let namespace = Self {
            name: name.into(),
            handle: Arc::new(handle),
        };
        namespace.prepare()?;
        Ok(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` on a thread of its own inside this namespace; a panic in it goes on in the caller.
    pub(crate) fn inside<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let result = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    f()
                })
                .join()
        });
        result.unwrap_or_else(|cause| panic::resume_unwind(cause))
    }

    /// Runs `ip` once for all `lines`, each as it would be written after `ip`.
    pub(crate) fn ip(&self, lines: &[String]) -> Result<()> {
        tool::run_with_input(
            "ip",
            &["-n", &self.name, "-batch", "-"],
            &(lines.join("\n") + "\n"),
        )?;
        Ok(())
    }

    /// Loads a rule set, all of it or nothing.
    pub(crate) fn nft(&self, ruleset: &str) -> Result<()> {
        self.inside(|| tool::run_with_input("nft", &["-f", "-"], ruleset))?;
        Ok(())
    }

    /// Writes `/proc/sys/net/<key>`, which shows the network of the thread that opens it.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.inside(|| fs::write(&path, value))
            .with_context(|| format!("cannot write {value} to {path}"))
    }

    fn prepare(&self) -> Result<()> {
        // Without duplicate address detection an IPv6 address works at once, not after a second or two.
        for scope in ["all", "default"] {
            self.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        self.ip(&["link set lo up".to_owned()])
    }

    fn enter(&self) {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace that it made");
    }
}

/// A long-lived thread inside a namespace that starts programs.
///
/// Their parent-death signal fires when the *thread* that started them ends, so this one lives as long as its host.
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Spawner {
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let namespace = namespace.clone();
        thread::Builder::new()
            .name(namespace.name.to_string())
            .spawn(move || {
                namespace.enter();
                for job in todo {
                    job();
                }
            })?;
        Ok(Self { jobs })
    }

    pub(crate) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let (reply, answer) = mpsc::channel();
        let job = Box::new(move || {
            let _ = reply.send(command.spawn());
        });
        self.jobs
            .send(job)
            .map_err(|_| io::Error::other("the host's thread has ended"))?;
        answer
            .recv()
            .map_err(|_| io::Error::other("the host's thread has ended"))?
    }
}
