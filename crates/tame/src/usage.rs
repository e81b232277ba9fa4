//! Command lines, which may hold what a script took from elsewhere.

use std::io::{self, Write as _};

use crate::tame;

/// The program's arguments; or, as clap has it, help or a complaint and the end of the process. A complaint repeats
/// what was given, but steers no terminal with it.
pub fn parse_arguments<T: clap::Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| refuse(&error))
}

fn refuse(error: &clap::Error) -> ! {
    let told = error.to_string();
    let tamed = tame(&told);
    if told == tamed {
        error.exit();
    }
    // Standard error may be closed; the exit code still tells.
    let _ = write!(io::stderr(), "{tamed}");
    std::process::exit(error.exit_code());
}
