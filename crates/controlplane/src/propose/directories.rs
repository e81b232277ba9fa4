//! Directories: what providers say by SCIM, and what follows from it for who is logged in.
//!
//! **Invariant:** what a provider says of a person is in force in the change that takes it down: their sessions end with
//! it, or have their groups by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringfence_model::{DirectoryId, Name};

use super::people;
use crate::directory::{DirectoryEvent, Finder, Mark};
use crate::draft::Draft;
use crate::limit::{
    DIRECTORY_GROUPS_MAX, DIRECTORY_MEMBERSHIPS_MAX, DIRECTORY_PEOPLE_MAX, GROUPS_PER_PERSON_MAX,
};
use crate::state::State;
use crate::{
    Directory, DirectoryCommand, DirectoryGroup, DirectoryPerson, DirectoryRefusal, DirectoryToken,
    GroupProfile, PersonProfile, Refusal, Session, SessionEnd, TokenHash, UserStanding, VerifiedLogin,
};

pub(super) fn dispatch(draft: &mut Draft, command: DirectoryCommand) -> Result<(), Refusal> {
    match command {
        DirectoryCommand::CreateToken {
            provider,
            secret_hash,
        } => create_token(draft, provider, secret_hash),
        DirectoryCommand::RevokeToken { provider } => revoke_token(draft, provider),
        DirectoryCommand::AddPerson { provider, profile } => add_person(draft, &provider, profile),
        DirectoryCommand::ChangePerson {
            provider,
            id,
            profile,
        } => change_person(draft, &provider, id, profile),
        DirectoryCommand::RemovePerson { provider, id } => remove_person(draft, &provider, id),
        DirectoryCommand::AddGroup {
            provider,
            profile,
            members,
        } => add_group(draft, &provider, profile, members),
        DirectoryCommand::ChangeGroup {
            provider,
            id,
            profile,
            members,
        } => change_group(draft, &provider, id, (profile, members)),
        DirectoryCommand::RemoveGroup { provider, id } => remove_group(draft, &provider, id),
    }
}

/// A login as the directory of its provider has it, if there is one: who it is not sure of does not log in.
pub(super) fn vouched(state: &State, mut login: VerifiedLogin) -> Result<VerifiedLogin, Refusal> {
    let Some(directory) = state.directories.get(&login.user.provider) else {
        return Ok(login);
    };
    let Some(person) = directory.find(&login.marks()) else {
        return Err(DirectoryRefusal::NotProvisioned(login.name).into());
    };
    if person.profile.standing == UserStanding::Deactivated {
        return Err(Refusal::UserDeactivated(login.name));
    }
    login.groups = directory.groups_of(person.id);
    Ok(login)
}

/// Forgets a directory whose provider goes.
pub(super) fn forget(draft: &mut Draft, provider: &Name) {
    if draft.state.directories.contains_key(provider) {
        let provider = provider.clone();
        draft.record(DirectoryEvent::DirectoryForgotten { provider }.into());
    }
}

fn create_token(draft: &mut Draft, provider: Name, secret_hash: TokenHash) -> Result<(), Refusal> {
    if !draft.state.providers.contains_key(&provider) {
        return Err(Refusal::NoProvider(provider));
    }
    let token = DirectoryToken {
        secret_hash,
        created_at: draft.wall,
        created_by: draft.actor.name.clone(),
    };
    draft.record(DirectoryEvent::ScimTokenCreated { provider, token }.into());
    Ok(())
}

fn revoke_token(draft: &mut Draft, provider: Name) -> Result<(), Refusal> {
    open(draft, &provider)?;
    draft.record(DirectoryEvent::ScimTokenRevoked { provider }.into());
    Ok(())
}

fn add_person(draft: &mut Draft, provider: &Name, profile: PersonProfile) -> Result<(), Refusal> {
    let directory = open(draft, provider)?;
    check_person(&directory, None, &profile)?;
    let all = draft.state.directories.values();
    let people: usize = all.map(|directory| directory.people.len()).sum();
    bound(people + 1, DIRECTORY_PEOPLE_MAX, "people in directories")?;
    let marks = profile.marks();
    let person = DirectoryPerson {
        id: draft.draw_directory_id(&directory),
        profile,
        created_at: draft.wall,
        changed_at: draft.wall,
    };
    let event = DirectoryEvent::PersonProvisioned {
        provider: provider.clone(),
        person,
    };
    draft.record(event.into());
    settle(draft, provider, &marks)
}

fn change_person(
    draft: &mut Draft,
    provider: &Name,
    id: DirectoryId,
    after: PersonProfile,
) -> Result<(), Refusal> {
    let directory = open(draft, provider)?;
    let before = directory.person(id).ok_or(DirectoryRefusal::NotThere(id))?;
    let before = before.profile.clone();
    if before == after {
        return Err(Refusal::Unchanged);
    }
    check_person(&directory, Some(id), &after)?;
    // Who they were by an address that they have no longer is looked at too.
    let marks = before.marks().union(&after.marks()).cloned().collect();
    let event = DirectoryEvent::PersonChanged {
        provider: provider.clone(),
        id,
        before,
        after,
    };
    draft.record(event.into());
    settle(draft, provider, &marks)
}

fn remove_person(draft: &mut Draft, provider: &Name, id: DirectoryId) -> Result<(), Refusal> {
    let directory = open(draft, provider)?;
    let before = directory
        .person(id)
        .ok_or(DirectoryRefusal::NotThere(id))?
        .clone();
    let marks = before.profile.marks();
    let event = DirectoryEvent::PersonDeprovisioned {
        provider: provider.clone(),
        before,
    };
    draft.record(event.into());
    settle(draft, provider, &marks)
}

fn add_group(
    draft: &mut Draft,
    provider: &Name,
    profile: GroupProfile,
    members: BTreeSet<DirectoryId>,
) -> Result<(), Refusal> {
    let directory = open(draft, provider)?;
    check_group(&directory, None, &profile)?;
    let all = draft.state.directories.values();
    let groups: usize = all.map(|directory| directory.groups.len()).sum();
    bound(groups + 1, DIRECTORY_GROUPS_MAX, "groups in directories")?;
    check_joining(draft, &directory, &members)?;
    let marks = marks_of(&directory, &members);
    let group = DirectoryGroup {
        id: draft.draw_directory_id(&directory),
        profile,
        members,
        created_at: draft.wall,
        changed_at: draft.wall,
    };
    let event = DirectoryEvent::GroupProvisioned {
        provider: provider.clone(),
        group,
    };
    draft.record(event.into());
    settle(draft, provider, &marks)
}

fn change_group(
    draft: &mut Draft,
    provider: &Name,
    id: DirectoryId,
    (after, members): (GroupProfile, BTreeSet<DirectoryId>),
) -> Result<(), Refusal> {
    let directory = open(draft, provider)?;
    let group = directory.group(id).ok_or(DirectoryRefusal::NotThere(id))?;
    let before = group.profile.clone();
    let joined: BTreeSet<_> = members.difference(&group.members).copied().collect();
    let left: BTreeSet<_> = group.members.difference(&members).copied().collect();
    if before == after && joined.is_empty() && left.is_empty() {
        return Err(Refusal::Unchanged);
    }
    check_group(&directory, Some(id), &after)?;
    check_joining(draft, &directory, &joined)?;
    let marks = if before.name == after.name {
        marks_of(&directory, joined.iter().chain(&left))
    } else {
        marks_of(&directory, members.iter().chain(&left))
    };
    let event = DirectoryEvent::GroupChanged {
        provider: provider.clone(),
        id,
        before,
        after,
        joined,
        left,
    };
    draft.record(event.into());
    settle(draft, provider, &marks)
}

fn remove_group(draft: &mut Draft, provider: &Name, id: DirectoryId) -> Result<(), Refusal> {
    let directory = open(draft, provider)?;
    let before = directory.group(id).ok_or(DirectoryRefusal::NotThere(id))?.clone();
    let marks = marks_of(&directory, &before.members);
    let event = DirectoryEvent::GroupDeprovisioned {
        provider: provider.clone(),
        before,
    };
    draft.record(event.into());
    settle(draft, provider, &marks)
}

/// The directory of a provider that has a token for it.
fn open(draft: &Draft, provider: &Name) -> Result<Arc<Directory>, Refusal> {
    let directory = draft.state.directories.get(provider);
    let directory = directory.filter(|directory| directory.token.is_some());
    let directory = directory.cloned();
    Ok(directory.ok_or_else(|| DirectoryRefusal::NoToken(provider.clone()))?)
}

fn check_person(
    directory: &Directory,
    id: Option<DirectoryId>,
    profile: &PersonProfile,
) -> Result<(), Refusal> {
    profile.check()?;
    // `userName` is unique, and case does not count in it (RFC 7643 section 4.1.1).
    let mut others = directory.people().filter(|person| Some(person.id) != id);
    let same = others.any(|other| other.profile.user_name.eq_ignore_ascii_case(&profile.user_name));
    if same {
        return Err(DirectoryRefusal::NameTaken(profile.user_name.clone()).into());
    }
    Ok(())
}

fn check_group(
    directory: &Directory,
    id: Option<DirectoryId>,
    profile: &GroupProfile,
) -> Result<(), Refusal> {
    profile.check()?;
    // Policy knows groups by name: two of one name would be one.
    let mut others = directory.groups().filter(|group| Some(group.id) != id);
    if others.any(|other| other.profile.name.eq_ignore_ascii_case(&profile.name)) {
        return Err(DirectoryRefusal::NameTaken(profile.name.clone()).into());
    }
    Ok(())
}

/// Whether these people may come into one more group.
fn check_joining(
    draft: &Draft,
    directory: &Directory,
    joined: &BTreeSet<DirectoryId>,
) -> Result<(), Refusal> {
    if let Some(nobody) = joined.iter().find(|id| directory.person(**id).is_none()) {
        return Err(DirectoryRefusal::NoSuchMember(*nobody).into());
    }
    let all = draft.state.directories.values();
    let memberships: usize = all.map(|directory| directory.memberships()).sum();
    let what = "memberships in the groups of directories";
    bound(memberships + joined.len(), DIRECTORY_MEMBERSHIPS_MAX, what)?;
    let mut groups_of: BTreeMap<DirectoryId, usize> = BTreeMap::new();
    for group in directory.groups() {
        for member in group.members.intersection(joined) {
            *groups_of.entry(*member).or_default() += 1;
        }
    }
    let most = groups_of.into_values().max().unwrap_or(0);
    bound(most + 1, GROUPS_PER_PERSON_MAX, "groups of one person")
}

fn bound(count: usize, max: usize, what: &'static str) -> Result<(), Refusal> {
    if count > max {
        return Err(Refusal::Limit { what, max });
    }
    Ok(())
}

fn marks_of<'a>(directory: &Directory, people: impl IntoIterator<Item = &'a DirectoryId>) -> BTreeSet<Mark> {
    let people = people.into_iter().filter_map(|id| directory.person(*id));
    people.flat_map(|person| person.profile.marks()).collect()
}

/// Brings the sessions of those with any of these marks in line with the directory as it is now.
fn settle(draft: &mut Draft, provider: &Name, marks: &BTreeSet<Mark>) -> Result<(), Refusal> {
    let sessions = draft.state.sessions.values();
    let own = sessions.filter(|session| session.login.user.provider == *provider);
    let meant: Vec<Arc<Session>> = own
        .filter(|session| !session.login.marks().is_disjoint(marks))
        .cloned()
        .collect();
    let Some(directory) = draft.state.directories.get(provider).cloned() else {
        return Ok(());
    };
    if meant.is_empty() {
        return Ok(());
    }
    let finder = Finder::new(&directory);
    for session in meant {
        let person = finder.find(&session.login.marks());
        match person.filter(|person| person.profile.standing == UserStanding::Active) {
            Some(person) => people::regroup(draft, &session, directory.groups_of(person.id))?,
            None => people::end_at(draft, session.node, SessionEnd::Deactivated),
        }
    }
    Ok(())
}
