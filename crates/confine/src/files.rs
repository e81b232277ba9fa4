//! Files and TCP ports, by Landlock.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use crate::{Connect, Needs, Wall};

pub(crate) fn restrict(needs: &Needs) -> Wall {
    match try_restrict(needs) {
        Ok(RulesetStatus::FullyEnforced) => Wall::Whole,
        Ok(RulesetStatus::PartiallyEnforced) => Wall::Partial,
        Ok(RulesetStatus::NotEnforced) => Wall::missing(&"this kernel has no Landlock"),
        Err(error) => Wall::missing(&error),
    }
}

fn try_restrict(needs: &Needs) -> Result<RulesetStatus, RulesetError> {
    let mut network: BitFlags<AccessNet> = AccessNet::BindTcp.into();
    let connect: &[u16] = match &needs.connect_tcp {
        Connect::Ports(ports) => ports,
        Connect::Anywhere | Connect::Nowhere => &[],
    };
    if needs.connect_tcp != Connect::Anywhere {
        network |= AccessNet::ConnectTcp;
    }
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(network)?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(there(&needs.read), READ))?
        .add_rules(path_beneath_rules(there(&needs.write), WRITE))?
        .add_rules(path_beneath_rules(there(&needs.sockets), SOCKETS))?
        .add_rules(path_beneath_rules(there(&needs.devices), DEVICES))?;
    for port in &needs.listen_tcp {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Links are followed now: a rule is about what they lead to.
fn there(paths: &[PathBuf]) -> impl Iterator<Item = PathBuf> + '_ {
    paths.iter().filter_map(|path| path.canonicalize().ok())
}

/// What Linux 6.12 knows. Older kernels enforce what they know of it.
const NEWEST: ABI = ABI::V6;
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});
const SOCKETS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
const DEVICES: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
