//! `ringfence-controller`: founds a mesh and runs its controller.

use std::alloc::System;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringfence_confine::ZeroAlloc;
use ringfence_controller::confinement;
use ringfence_controller::init::{Config, init, parse_advertise};
use ringfence_controller::run::{new_term, run};
use ringfence_model::Name;
use ringfence_tame::{Line, tame};
use ringfence_transport::forbid_core_dumps;
use tracing_subscriber::EnvFilter;

/// Holds the perimeters of a mesh, verifies its nodes, and tells each whom it may talk to.
#[derive(Parser)]
#[command(
    name = "ringfence-controller",
    version,
    max_term_width = 110,
    propagate_version = true
)]
struct Cli {
    /// What is logged: error, warn, info, debug, trace, or a filter as in `info,ringfence_controller=debug`
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "RINGFENCE_LOG",
        default_value = "info"
    )]
    log: String,
    /// Log as JSON, one object a line
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Found a mesh: make its CA, its store, and the administrator's context DIR/admin.toml
    #[command(
        after_help = "Example:\n  ringfence-controller init --data-dir /var/lib/ringfence-controller --mesh acme \\\n      --advertise controller.example:7443"
    )]
    Init {
        /// Where to keep everything; made if it is not there, readable by its owner alone
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// What to call the mesh: 1 to 63 of a-z, 0-9 and -
        #[arg(long, value_name = "NAME")]
        mesh: Name,
        /// Where nodes and administrators reach this controller (UDP and TCP); may be given more than once
        #[arg(long, value_name = "HOST:PORT", required = true, value_parser = parse_advertise)]
        advertise: Vec<String>,
        /// Where to listen instead of all addresses on the advertised port
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<std::net::SocketAddr>,
        /// A port of an identity provider beside 443, which this controller may then reach; may be given more than once
        #[arg(long = "provider-port", value_name = "PORT")]
        provider_ports: Vec<u16>,
    },
    /// Run the controller
    #[command(after_help = "Example:\n  ringfence-controller run --data-dir /var/lib/ringfence-controller")]
    Run {
        /// What `init` made
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// After a restore from a backup: start a new term, so that nodes do not take this controller's word for old
    ///
    /// The term's number is the time, so that two restores of one backup never share it: set the clock right first.
    #[command(
        after_help = "Example:\n  ringfence-controller new-term --data-dir /var/lib/ringfence-controller"
    )]
    NewTerm {
        /// What `init` made
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

/// Keys that are done with do not lie about in freed memory, whoever held them.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let cli: Cli = ringfence_tame::parse_arguments();
    if let Err(error) = start_log(&cli.log, cli.log_json) {
        say(&format!("error: --log {:?} is no filter: {error}", cli.log));
        return ExitCode::from(2);
    }
    if let Err(error) = forbid_core_dumps() {
        tracing::warn!(%error, "this process's memory can be dumped");
    }
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init {
            data_dir,
            mesh,
            advertise,
            listen,
            provider_ports,
        } => {
            let config = Config {
                mesh,
                advertise,
                listen,
                provider_ports,
            };
            init(&data_dir, &config)?;
            let dir = data_dir.display();
            say(&format!(
                "mesh {} is founded in {dir}\n\nrun it:     ringfence-controller run --data-dir {dir}\nsteer it:   export RINGFENCE_CONTEXT={dir}/admin.toml",
                config.mesh
            ));
            Ok(())
        }
        Command::Run { data_dir } => {
            // Before the runtime: what its threads have, they keep.
            confinement::give_up(&data_dir)?;
            runtime()?.block_on(run(&data_dir))
        }
        Command::NewTerm { data_dir } => {
            let revision = runtime()?.block_on(new_term(&data_dir))?;
            say(&format!(
                "a new term has begun: revision {revision}, newer than all that nodes know if this machine's clock is right"
            ));
            Ok(())
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn start_log(filter: &str, json: bool) -> Result<(), tracing_subscriber::filter::ParseError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_ansi(false)
        .with_writer(|| Line(std::io::stderr()));
    if json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

/// To stderr: stdout is for answers that a program might read, and there are none here.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{}", tame(text));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
