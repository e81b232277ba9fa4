//! `ringfence-node`: the agent's program.

use std::alloc::System;
use std::io::{self, Write as _};
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use ringfence_confine::ZeroAlloc;
use ringfence_node::arguments::{Arguments, Command};
use ringfence_node::{Failure, Scripts, give_up, logging, run, run_scripts};
use ringfence_tame::tame;

/// Keys that are done with do not lie about in freed memory, whoever held them.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let arguments: Arguments = ringfence_tame::parse_arguments();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(io::stderr(), "ringfence-node: {}", tame(&failure.to_string()));
            failure.exit_code()
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    logging::start(arguments.log_level, arguments.log_format)?;
    if cfg!(feature = "null-cipher") {
        tracing::error!("this build does NOT ENCRYPT: it is for benchmarks alone");
    }
    forbid_core_dumps();
    if let Command::RunScripts(arguments) = &arguments.command {
        return Ok(run_scripts(arguments)?);
    }
    // It may start programs for as long as it lives, so it is another process.
    let scripts = Scripts::start(&arguments);
    // Before the runtime: what its threads have, they keep.
    give_up(&arguments.command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(anyhow::Error::new)?;
    runtime.block_on(run(arguments.command, scripts))
}

/// Private keys are in this process's memory: a dump would write them to disk, a debugger of the same user could read
/// them.
fn forbid_core_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this process's memory can be dumped");
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps are not switched off");
    }
}

/// The control side and local askers; packets have a thread of their own.
const WORKERS: usize = 2;
