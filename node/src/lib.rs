//! The Ringfence agent: TUN, UDP and netlink around [`ringfence_dataplane`], and the control connection.
//!
//! ```text
//! packets thread   packet_loop.rs   owns the data plane; tun.rs, udp.rs
//!      ▲ command.rs ▼
//! control side     control.rs       owns the session; link.rs ⇄ controller, netlink.rs, state.rs, saved.rs
//!      ▲ report.rs, pings.rs
//! flows thread    flows.rs         owes the controller flow records; flow_files.rs keeps them on disk
//! posture thread   posture.rs      looks up what checks ask about this machine
//!      ▲ scripts.rs ▼
//! another process  scripts/runner.rs runs signed scripts, where root has pinned keys; alone it may start programs
//! attest thread    attest.rs       has the TPM prove that it is there, if there is one (tpm.rs)
//! local askers     local.rs (ringfence status), uapi.rs (wg show)
//! ```
//!
//! The control side may be slow or gone: the packets thread goes on without it.
#![deny(missing_docs)]

mod agent;
pub mod arguments;
mod attest;
mod candidates;
mod clock;
mod command;
mod confinement;
mod control;
#[doc(hidden)]
pub mod doors;
mod drill;
mod echo;
mod enroll;
mod failure;
mod flow_files;
mod flows;
mod guard;
mod identity;
mod link;
mod local;
pub mod logging;
mod logins;
mod netlink;
mod packet_loop;
mod pings;
mod posture;
mod probe;
mod report;
mod saved;
mod scripts;
mod state;
mod sys;
pub mod tpm;
mod tun;
mod uapi;
mod udp;
mod unix;

pub use confinement::give_up;
pub use failure::Failure;
pub use scripts::{Scripts, serve as run_scripts};

use arguments::Command;
use state::StateDir;

/// Does what the command line asks.
///
/// # Errors
/// [`Failure`], with the exit code that says what kind it is.
pub async fn run(command: Command, scripts: Scripts) -> Result<(), Failure> {
    match command {
        Command::Enroll(enroll) => {
            let state = StateDir::create(&enroll.state.state_dir)?;
            enroll::enroll(&state, enroll.state.tpm.as_ref(), &enroll.join).await?;
            Ok(())
        }
        Command::Run(run) => {
            let state = StateDir::open(&run.state.state_dir)?;
            agent::run(state, run.state.tpm.as_ref(), &run.agent, scripts).await
        }
        Command::Up(up) => {
            let state = StateDir::create(&up.state.state_dir)?;
            if state.check_vacant().is_ok() {
                enroll::enroll(&state, up.state.tpm.as_ref(), &up.join).await?;
            }
            agent::run(state, up.state.tpm.as_ref(), &up.agent, scripts).await
        }
        Command::RunScripts(_) => Err(Failure::Usage(scripts::NOT_FOR_PEOPLE.to_owned())),
    }
}
