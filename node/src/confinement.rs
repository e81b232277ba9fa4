//! What the node keeps of its rights: CAP_NET_ADMIN, its own files, TUN devices, and the way to resolve a name.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ringfence_confine::{CapabilitySet, Confined, Connect, Needs, RESOLVER_FILES, confine};

use crate::arguments::{AgentArguments, Command, JoinArguments, StateArguments};
use crate::failure::Failure;
use crate::state::StateDir;
use crate::{echo, posture, scripts, uapi};

/// Gives up all but what `command` needs. For the only thread of a process that has just begun.
///
/// # Errors
/// If the state directory cannot be made, or capabilities cannot be given up.
pub fn give_up(command: &Command) -> Result<Confined, Failure> {
    let needs = match command {
        Command::Enroll(enroll) => of_enrolment(&enroll.state, &enroll.join)?,
        Command::Run(run) => of_agent(&run.agent, of_state(&run.state)),
        Command::Up(up) => of_agent(&up.agent, of_enrolment(&up.state, &up.join)?),
        Command::RunScripts(_) => return Err(Failure::Usage(scripts::NOT_FOR_PEOPLE.to_owned())),
    };
    let confined = confine(&needs).map_err(anyhow::Error::new)?;
    confined.log();
    Ok(confined)
}

fn of_state(state: &StateArguments) -> Needs {
    Needs {
        capabilities: CapabilitySet::empty(),
        read: READ.iter().chain(&RESOLVER_FILES).map(PathBuf::from).collect(),
        write: vec![state.state_dir.clone()],
        sockets: Vec::new(),
        devices: state.tpm.iter().map(|tpm| tpm.path().to_owned()).collect(),
        listen_tcp: Vec::new(),
        // Long answers to name queries come over TCP, and probes of `ringfence verify` try it.
        connect_tcp: Connect::Anywhere,
    }
}

fn of_enrolment(state: &StateArguments, join: &JoinArguments) -> Result<Needs, Failure> {
    // A folder can be walled in only once it is there.
    StateDir::create(&state.state_dir)?;
    let mut needs = of_state(state);
    let tickets = join.token_file.iter().chain(&join.jwt_file);
    needs.read.extend(tickets.filter(|path| path.is_file()).cloned());
    Ok(needs)
}

fn of_agent(agent: &AgentArguments, needs: Needs) -> Needs {
    let mut capabilities = CapabilitySet::NET_ADMIN;
    if (1..1024).contains(&agent.listen_port) {
        capabilities |= CapabilitySet::NET_BIND_SERVICE;
    }
    if !echo::needs_no_right() {
        capabilities |= CapabilitySet::NET_RAW;
    }
    let folder = agent
        .socket
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let sockets = [folder.unwrap_or(Path::new(".")), Path::new(uapi::DIRECTORY)];
    for folder in sockets {
        // What is wrong with it is said when the socket is made.
        let _ = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    }
    let mut needs = needs;
    needs.read.extend(posture::PATHS.iter().map(PathBuf::from));
    needs.read.extend(agent.posture_files.iter().cloned());
    needs.devices.push(TUN_CONTROL.into());
    Needs {
        capabilities,
        sockets: sockets.map(PathBuf::from).into(),
        // Probes of `ringfence verify` go out from an overlay address.
        listen_tcp: vec![0],
        ..needs
    }
}

const TUN_CONTROL: &str = "/dev/net/tun";

/// The host's name, and which boot this is. With [`RESOLVER_FILES`], whose files may be replaced: should that keep names
/// from resolving, [`crate::link`] goes by the last address.
const READ: [&str; 3] = ["/proc/sys/kernel", "/proc/self", "/sys/fs/cgroup"];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::ToSocketAddrs as _;

    use super::*;

    #[test]
    fn names_still_resolve_and_what_lies_beside_their_files_is_closed() {
        let state = StateArguments {
            state_dir: "/not/there".into(),
            tpm: None,
        };
        let refused = |path: &str| fs::read(path).err().map(|error| error.kind());

        // A thread of its own: nothing of it can be undone.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                confine(&of_state(&state)).unwrap();

                fs::read("/etc/hosts").unwrap();
                assert!(("localhost", 1).to_socket_addrs().unwrap().next().is_some());
                for closed in ["/etc/shadow", "/etc/passwd", "/etc/ssl", "/etc/ssh", "/etc"] {
                    assert_eq!(refused(closed), Some(ErrorKind::PermissionDenied), "{closed}");
                }
            });
        });
    }
}
