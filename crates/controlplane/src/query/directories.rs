//! What providers said of their people and groups by SCIM.

use std::collections::BTreeMap;

use ringfence_control::api;
use ringfence_model::Name;

use crate::directory::Finder;
use crate::state::State;
use crate::{Controller, Directory, Provider, TokenHash, User, UserStanding};

impl Controller {
    /// The directory of a provider.
    pub fn directory(&self, provider: &Name) -> Option<&Directory> {
        self.state().directories.get(provider).map(AsRef::as_ref)
    }

    /// The provider whose SCIM token has this hash. Each is compared, in constant time.
    pub fn provider_by_scim_token(&self, secret_hash: &TokenHash) -> Option<&Name> {
        let directories = self.state().directories.iter();
        let tokens = directories.filter_map(|(name, directory)| Some((name, directory.token.as_ref()?)));
        let meant = tokens.filter(|(_, token)| token.secret_hash == *secret_hash);
        meant.fold(None, |found, (name, _)| found.or(Some(name)))
    }

    /// How a provider's directory stands, for administrators.
    pub fn scim_view(&self, provider: &Provider) -> Option<api::ScimView> {
        let directory = self.directory(&provider.name)?;
        Some(api::ScimView {
            token_created_ms: directory.token.as_ref().map(|token| token.created_at),
            people: directory.people.len(),
            groups: directory.groups.len(),
        })
    }

    /// Whose account is open: as an administrator and the provider's directory have it.
    pub(crate) fn standings(&self) -> Standings<'_> {
        let directories = self.state().directories.iter();
        Standings {
            state: self.state(),
            finders: directories
                .map(|(name, directory)| (name, Finder::new(directory)))
                .collect(),
        }
    }
}

/// Whose account is open, asked of many.
pub(crate) struct Standings<'a> {
    state: &'a State,
    finders: BTreeMap<&'a Name, Finder<'a>>,
}

impl Standings<'_> {
    /// Whether a person may log in, as far as their account goes.
    pub(crate) fn is_open(&self, user: &User) -> bool {
        let in_directory = self.finders.get(&user.id.provider).is_none_or(|finder| {
            let person = finder.find(&user.marks());
            person.is_some_and(|person| person.profile.standing == UserStanding::Active)
        });
        user.standing == UserStanding::Active && in_directory && !self.state.lacks_account(&user.id)
    }
}
