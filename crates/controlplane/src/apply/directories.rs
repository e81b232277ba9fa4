//! Events of directories, applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringfence_model::{DirectoryId, Name, UnixMillis};

use super::{Misfit, ensure};
use crate::directory::DirectoryEvent;
use crate::state::State;
use crate::{Directory, DirectoryGroup, DirectoryPerson};

impl State {
    pub(super) fn apply_directory_event(
        &mut self,
        event: &DirectoryEvent,
        wall: UnixMillis,
    ) -> Result<(), Misfit> {
        match event {
            DirectoryEvent::ScimTokenCreated { provider, token } => {
                ensure(self.providers.contains_key(provider), "there is no such provider")?;
                let directory = self.directories.entry(provider.clone()).or_default();
                Arc::make_mut(directory).token = Some(token.clone());
                Ok(())
            }
            DirectoryEvent::ScimTokenRevoked { provider } => {
                let token = self.directory_mut(provider)?.token.take();
                ensure(token.is_some(), "there is no such token")
            }
            DirectoryEvent::DirectoryForgotten { provider } => {
                self.directories.remove(provider).map(drop).ok_or(NO_DIRECTORY)
            }
            DirectoryEvent::PersonProvisioned { provider, person } => {
                self.directory_mut(provider)?.add_person(person)
            }
            DirectoryEvent::PersonChanged {
                provider, id, after, ..
            } => {
                let person = self.directory_mut(provider)?.person_mut(*id)?;
                person.profile.clone_from(after);
                person.changed_at = wall;
                Ok(())
            }
            DirectoryEvent::PersonDeprovisioned { provider, before } => {
                self.directory_mut(provider)?.remove_person(before.id)
            }
            DirectoryEvent::GroupProvisioned { provider, group } => {
                self.directory_mut(provider)?.add_group(group)
            }
            DirectoryEvent::GroupChanged {
                provider,
                id,
                after,
                joined,
                left,
                ..
            } => {
                let directory = self.directory_mut(provider)?;
                directory.ensure_known(joined)?;
                let group = directory.group_mut(*id)?;
                group.profile.clone_from(after);
                group.members.retain(|member| !left.contains(member));
                group.members.extend(joined);
                group.changed_at = wall;
                Ok(())
            }
            DirectoryEvent::GroupDeprovisioned { provider, before } => {
                let groups = &mut self.directory_mut(provider)?.groups;
                groups.remove(&before.id).map(drop).ok_or(NO_GROUP)
            }
        }
    }

    fn directory_mut(&mut self, provider: &Name) -> Result<&mut Directory, Misfit> {
        let directory = self.directories.get_mut(provider);
        directory.map(Arc::make_mut).ok_or(NO_DIRECTORY)
    }
}

impl Directory {
    fn add_person(&mut self, person: &DirectoryPerson) -> Result<(), Misfit> {
        let before = self.people.insert(person.id, Arc::new(person.clone()));
        ensure(before.is_none(), "its id is held")
    }

    fn person_mut(&mut self, id: DirectoryId) -> Result<&mut DirectoryPerson, Misfit> {
        self.people.get_mut(&id).map(Arc::make_mut).ok_or(NO_PERSON)
    }

    fn remove_person(&mut self, id: DirectoryId) -> Result<(), Misfit> {
        self.people.remove(&id).ok_or(NO_PERSON)?;
        for group in self.groups.values_mut() {
            if group.members.contains(&id) {
                Arc::make_mut(group).members.remove(&id);
            }
        }
        Ok(())
    }

    fn add_group(&mut self, group: &DirectoryGroup) -> Result<(), Misfit> {
        self.ensure_known(&group.members)?;
        let before = self.groups.insert(group.id, Arc::new(group.clone()));
        ensure(before.is_none(), "its id is held")
    }

    fn group_mut(&mut self, id: DirectoryId) -> Result<&mut DirectoryGroup, Misfit> {
        self.groups.get_mut(&id).map(Arc::make_mut).ok_or(NO_GROUP)
    }

    fn ensure_known(&self, members: &BTreeSet<DirectoryId>) -> Result<(), Misfit> {
        let known = members.iter().all(|member| self.people.contains_key(member));
        ensure(known, "a member is nobody")
    }
}

const NO_DIRECTORY: Misfit = Misfit::Impossible("there is no such directory");
const NO_PERSON: Misfit = Misfit::Impossible("there is no such person");
const NO_GROUP: Misfit = Misfit::Impossible("there is no such group");
