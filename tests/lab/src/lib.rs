//! Real networks for tests, examples and benchmarks: hosts, bridges and NAT routers made of Linux network namespaces.
//!
//! A [`Lab`] owns everything it makes and takes it away again, also after a panic, Ctrl-C or SIGKILL: a janitor
//! process of its own waits for the lab's end. Labs do not see each other, so tests that own one run in parallel.
//! Needs root, `ip` (iproute2), `nft` (nftables), `nsenter`, `unshare` and `setpriv` (util-linux).
//!
//! ```no_run
//! use ringfence_lab::{Lab, Reach};
//! use std::time::Duration;
//!
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::new("greeting")?;
//! let lan = lab.network("lan")?;
//! let (alice, bob) = (lab.host("alice")?, lab.host("bob")?);
//! alice.join(&lan, &["10.0.0.1/24", "fd00::1/64"])?;
//! bob.join(&lan, &["10.0.0.2/24", "fd00::2/64"])?;
//!
//! let _echo = bob.serve("10.0.0.2:7".parse()?)?;
//! assert_eq!(alice.try_tcp("10.0.0.2:7".parse()?, Duration::from_secs(1)), Reach::Open);
//! lab.partition(&alice, &bob)?;
//! # Ok(())
//! # }
//! ```

mod fabric;
mod host;
mod janitor;
mod lab;
mod namespace;
mod nat;
mod program;
mod running;
mod tool;
mod traffic;
mod wait;

pub use rustix::process::Signal;

pub use fabric::{Network, Percent};
pub use host::Host;
pub use lab::Lab;
pub use nat::Nat;
pub use program::{Output, Program};
pub use running::Running;
pub use traffic::{Reach, Serving};
pub use wait::{wait_for, wait_until};
