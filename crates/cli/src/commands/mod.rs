//! What each command does: ask, then answer.

mod access;
mod account;
mod api_token;
mod audit;
mod drill;
mod explain;
mod flows;
mod local_login;
mod lock;
mod login;
mod node;
mod peer;
mod people;
mod perimeter;
mod person;
mod posture;
mod provider;
mod receipt;
mod scim;
mod status;
mod token;
mod verify;
mod wait;
mod watch;
mod why;
mod workload;

use clap::CommandFactory as _;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;

/// Runs the command that was given.
///
/// # Errors
/// With the exit code and what to tell.
pub(crate) fn run(cli: Cli, output: &mut Output) -> Result<(), Failure> {
    let connect = || Context::load(cli.context.as_deref()).and_then(Client::new);
    match cli.command {
        Command::Perimeter(command) => perimeter::run(command, connect, output),
        Command::Token(command) => token::run(command, &connect()?, output),
        Command::Workload(command) => workload::run(command, connect, output),
        Command::ApiToken(command) => api_token::run(command, Context::load(cli.context.as_deref())?, output),
        Command::Node(command) => node::run(command, &connect()?, output),
        Command::Peer(command) => peer::run(command, &connect()?, output),
        Command::Session(command) => people::session(command, &connect()?, output),
        Command::User(command) => people::user(command, &connect()?, output),
        Command::Access(command) => {
            let desk = access::Desk {
                connect,
                is_administrators: Context::is_there(cli.context.as_deref()),
            };
            access::run(command, desk, output)
        }
        Command::Quarantine(args) => lock::quarantine(args, &connect()?, output),
        Command::Release(args) => lock::unlock(&args.target, &connect()?, output),
        Command::Lock(args) => lock::lock(args, &connect()?, output),
        Command::Unlock(args) => lock::unlock(&args.which, &connect()?, output),
        Command::Locks => lock::ls(&connect()?, output),
        Command::Posture(command) => posture::run(command, connect, output),
        Command::Watch(args) => watch::run(&args, output),
        Command::Why(args) => why::run(args, output),
        Command::Explain(args) => explain::run(args, &connect()?, output),
        Command::Audit(args) => audit::run(&args, &connect()?, output),
        Command::Flows(args) => flows::run(&args, &connect()?, output),
        Command::Verify(args) => verify::run(&args, &connect()?, output),
        Command::Drill(command) => drill::run(command, &connect()?, output),
        Command::Wait(args) => wait::run(&args, &connect()?, output),
        Command::Receipt(args) => receipt::run(&args, &connect()?, output),
        Command::Status(args) => status::status(&args, output),
        Command::Ping(args) => status::ping(args, output),
        Command::Provider(command) => provider::run(command, &connect()?, output),
        Command::Account(command) => account::run(command, &connect()?, output),
        Command::Scim(command) => scim::run(command, &connect()?, output),
        Command::Login(args) => login::login(&args, output),
        Command::Logout(args) => login::logout(&args, output),
        Command::Whoami(args) => login::whoami(&args, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ringfence", &mut script);
            output.raw(&script);
            Ok(())
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(Failure::failed)?;
            output.raw(&page);
            Ok(())
        }
    }
}
