//! Finds the programs under test.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// The path of one of our programs: in `RINGFENCE_BIN_DIR`, or beside the running program's own folder, where
/// `cargo build` puts them.
///
/// # Errors
/// When it is not there; the error says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("RINGFENCE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => beside_this_program()?,
    };
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is not built: run `cargo build --workspace` first",
        path.display()
    );
    Ok(path)
}

fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program is in a folder")?;
    // Tests are built into target/<profile>/deps, programs into target/<profile>.
    let folder = if folder.ends_with("deps") {
        folder.parent().context("deps is in a folder")?
    } else {
        folder
    };
    Ok(folder.to_owned())
}
