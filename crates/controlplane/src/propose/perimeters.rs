//! Perimeters by policy file: checked, tested and compiled for every member touched, all files or none.

use std::collections::BTreeSet;

use ringfence_model::{Name, Revision};
use ringfence_policy::{Diagnostic, check_expectations};

use super::{drills, requests};
use crate::address::{self, V4_BLOCKS, V6_SUBNETS};
use crate::compile::compile_file;
use crate::draft::Draft;
use crate::limit::{APPLY_BYTES_MAX, FILE_NAME_BYTES_MAX, FILES_PER_APPLY_MAX, PERIMETERS_MAX};
use crate::perimeter::PolicySource;
use crate::{AccessEnd, Event, PolicyFile, Refusal, access, membership};

/// That perimeters in none of the files go.
#[derive(Clone, Copy)]
pub(super) struct Prune;

/// Refuses a change that was made against an older policy than there is: what was reviewed is what is applied.
fn check_base(draft: &Draft, base: Option<Revision>) -> Result<(), Refusal> {
    let Some(base) = base else { return Ok(()) };
    if base > draft.state.revision {
        return Err(Refusal::FutureBase {
            base,
            current: draft.state.revision,
        });
    }
    if draft.state.policy_revision > base {
        return Err(Refusal::Stale {
            base,
            current: draft.state.policy_revision,
        });
    }
    Ok(())
}

pub(super) fn apply(
    draft: &mut Draft,
    files: Vec<PolicyFile>,
    base: Option<Revision>,
    prune: Option<Prune>,
) -> Result<(), Refusal> {
    check_base(draft, base)?;
    let sources = read(files)?;
    for source in &sources {
        access::check_owner(draft, &source.policy().name)?;
    }
    if prune.is_some() {
        let named: BTreeSet<&Name> = sources.iter().map(|source| &source.policy().name).collect();
        let all: Vec<Name> = draft.state.perimeters.keys().cloned().collect();
        for name in all.iter().filter(|name| !named.contains(name)) {
            remove(draft, name)?;
        }
    }
    let mut failed = Vec::new();
    for source in sources {
        let name = source.policy().name.clone();
        set(draft, source)?;
        failed.extend(failed_expectations(draft, &name));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Policy(failed))
    }
}

/// Removes a perimeter: its devices, then itself with every membership in it.
pub(super) fn remove(draft: &mut Draft, name: &Name) -> Result<(), Refusal> {
    let before = draft.perimeter(name)?.source.file().clone();
    let devices = draft.state.devices.values();
    let inside: Vec<_> = devices
        .filter(|device| device.perimeter == *name)
        .cloned()
        .collect();
    for device in inside {
        let before = device.as_ref().clone();
        draft.record(Event::DeviceRemoved { before });
    }
    requests::end_where(draft, AccessEnd::PerimeterRemoved, |request| {
        request.perimeter == *name
    });
    drills::end_where(draft, |drill| drill.perimeter == *name);
    draft.record(Event::PerimeterRemoved {
        perimeter: name.clone(),
        before,
    });
    Ok(())
}

/// Checks the files; all that is wrong with any of them is told at once.
fn read(files: Vec<PolicyFile>) -> Result<Vec<PolicySource>, Refusal> {
    if files.is_empty() {
        return Err(Refusal::NoFiles);
    }
    bound(files.len(), FILES_PER_APPLY_MAX, "policy files in one apply")?;
    let bytes = files.iter().map(|file| file.text.len()).sum();
    bound(bytes, APPLY_BYTES_MAX, "bytes of policy in one apply")?;
    let mut errors = Vec::new();
    let mut sources: Vec<PolicySource> = Vec::new();
    for file in files {
        bound(file.file.len(), FILE_NAME_BYTES_MAX, "bytes of a file name")?;
        match PolicySource::try_from(file) {
            Ok(source) => {
                let name = &source.policy().name;
                match sources.iter().find(|other| other.policy().name == *name) {
                    Some(other) => errors.push(named_twice(&source, other)),
                    None => sources.push(source),
                }
            }
            Err(found) => errors.extend(found.0),
        }
    }
    if errors.is_empty() {
        Ok(sources)
    } else {
        Err(Refusal::Policy(errors))
    }
}

fn named_twice(source: &PolicySource, other: &PolicySource) -> Diagnostic {
    let name = &source.policy().name;
    let other = &other.file().file;
    Diagnostic {
        file: source.file().file.clone(),
        line: 1,
        column: 1,
        offset: 0,
        length: 0,
        message: format!("perimeter {name} is also in {other}: one file a perimeter"),
        help: None,
    }
}

/// Makes a file its perimeter's policy, and its members those that the policy selects.
fn set(draft: &mut Draft, source: PolicySource) -> Result<(), Refusal> {
    let name = source.policy().name.clone();
    let after = PolicyFile::from(source);
    match draft.state.perimeters.get(&name) {
        Some(there) if there.source.file().text == after.text => return Ok(()),
        Some(there) => {
            let before = there.source.file().clone();
            draft.record(Event::PerimeterChanged {
                perimeter: name.clone(),
                before,
                after,
            });
            end_without_group(draft, &name);
        }
        None => create(draft, name.clone(), after)?,
    }
    membership::settle_perimeter(draft, &name)
}

/// Ends access to groups that the file does not have any more.
fn end_without_group(draft: &mut Draft, name: &Name) {
    let Some(perimeter) = draft.state.perimeters.get(name).cloned() else {
        return;
    };
    let groups = &perimeter.policy().groups;
    requests::end_where(draft, AccessEnd::GroupRemoved, |request| {
        request.perimeter == *name && !groups.contains_key(&request.to)
    });
}

fn create(draft: &mut Draft, perimeter: Name, after: PolicyFile) -> Result<(), Refusal> {
    bound(draft.state.perimeters.len() + 1, PERIMETERS_MAX, "perimeters")?;
    let subnet = draft.state.v6_subnets.next(V6_SUBNETS, draft.wall, |_| true);
    let subnet = subnet.ok_or(Refusal::AddressesExhausted("IPv6 /64"))?;
    let block = draft.state.v4_blocks.next(V4_BLOCKS, draft.wall, |_| true);
    let block = block.ok_or(Refusal::AddressesExhausted("IPv4 block"))?;
    let created = Event::PerimeterCreated {
        perimeter,
        v6: address::v6_subnet(draft.state.mesh.prefix, subnet),
        v4: address::v4_block(block),
        after,
    };
    draft.record(created);
    Ok(())
}

/// What the file's own tests say about it, whatever was granted besides. They are asked even if the text is the same: labels may have moved.
fn failed_expectations(draft: &Draft, name: &Name) -> Vec<Diagnostic> {
    let perimeter = draft.state.perimeters.get(name);
    let (Some(perimeter), Some(compiled)) = (perimeter, compile_file(&draft.state, name)) else {
        return Vec::new();
    };
    let members = draft.state.members_for(name);
    check_expectations(perimeter.policy(), &compiled, &members)
}

fn bound(count: usize, max: usize, what: &'static str) -> Result<(), Refusal> {
    if count > max {
        return Err(Refusal::Limit { what, max });
    }
    Ok(())
}
