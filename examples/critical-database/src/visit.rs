//! How to look around while everything is up: a script that runs a command on any of the machines.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ringfence_e2e::binary;
use ringfence_lab::Lab;

use crate::cast::{Cast, database};

/// Writes the script and gives its folder.
pub(crate) fn prepare(lab: &Lab, cast: &Cast) -> Result<PathBuf> {
    let path = lab.dir().join("on");
    let programs = binary("ringfence")?;
    let programs = programs.parent().context("a program is in a folder")?;
    fs::write(&path, script(cast, programs))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(lab.dir().to_owned())
}

/// What to try.
pub(crate) fn suggestions(cast: &Cast) -> Result<String> {
    let database = database(cast)?;
    Ok(format!(
        "./on db ringfence status\n\
         ./on api psql -h {database} -U postgres -c 'TABLE ledger'\n\
         ./on controller ringfence explain --from node:dba --to node:db --port tcp/5432\n\
         ./on controller ringfence verify payments-db\n\
         ./on controller ringfence audit\n\
         ./on db wg show\n"
    ))
}

fn script(cast: &Cast, programs: &Path) -> String {
    let context = cast.mesh.data_dir().join("admin.toml");
    let mut cases = format!(
        "controller) enter='{}'; export RINGFENCE_CONTEXT='{}' ;;\n",
        cast.mesh.host().shell_prefix(),
        context.display()
    );
    for node in cast.nodes() {
        let _ = writeln!(
            cases,
            "{}) enter='{}'; export RINGFENCE_SOCKET='{}' ;;",
            node.name(),
            node.host().shell_prefix(),
            node.socket().display()
        );
    }
    let names: Vec<&str> = cast.nodes().iter().map(|node| node.name()).collect();
    let names = names.join("|");
    format!(
        "#!/bin/sh\n# Runs a command on a machine of the demo, as root there.\ncase \"$1\" in\n{cases}\
         *) echo \"usage: $0 controller|{names} COMMAND...\" >&2; exit 2 ;;\nesac\n\
         shift\nexport PATH='{}':\"$PATH\"\nexec $enter \"$@\"\n",
        programs.display()
    )
}
