//! Directories: what identity providers say by SCIM (RFC 7643) of their people and groups, before anybody logs in.
//!
//! **Invariant:** where a provider has a directory, nobody logs in whom it does not hold as active, and a person's groups
//! are those that it lists them in, whatever a token claims.

mod command;
mod event;
mod finder;
mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringfence_model::{DirectoryId, UnixMillis};
use serde::{Deserialize, Serialize};

pub use self::command::DirectoryCommand;
pub use self::event::DirectoryEvent;
pub(crate) use self::finder::{Finder, Mark};
pub use self::refusal::DirectoryRefusal;
use crate::limit::{
    EMAIL_BYTES_MAX, EMAILS_PER_PERSON_MAX, GROUP_BYTES_MAX, PERSON_NAME_BYTES_MAX, SUBJECT_BYTES_MAX,
};
use crate::{Refusal, TokenHash, UserStanding};

/// What one provider said. It stays when its token is revoked: who left the company does not come back by that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// By what the provider proves itself here.
    pub token: Option<DirectoryToken>,
    pub(crate) people: BTreeMap<DirectoryId, Arc<DirectoryPerson>>,
    pub(crate) groups: BTreeMap<DirectoryId, Arc<DirectoryGroup>>,
}

/// A provider's SCIM token, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryToken {
    /// The hash of all of it.
    pub secret_hash: TokenHash,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Who made it.
    pub created_by: String,
}

/// A person, as the provider's directory describes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryPerson {
    /// Their SCIM `id` here.
    pub id: DirectoryId,
    /// What is said of them.
    pub profile: PersonProfile,
    /// Since when.
    pub created_at: UnixMillis,
    /// When that last changed.
    pub changed_at: UnixMillis,
}

/// What is kept of what a directory says of a person, and no more of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonProfile {
    /// `userName`.
    pub user_name: String,
    /// `externalId`: where it is the `sub` of their tokens, they are found by it.
    pub external_id: Option<String>,
    /// `displayName`.
    pub display_name: Option<String>,
    /// `emails`: they are found by each that their tokens show as verified.
    pub emails: Vec<DirectoryEmail>,
    /// `active`.
    pub standing: UserStanding,
}

/// One address of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEmail {
    /// It.
    pub value: String,
    /// Its `type`: `work`, `home`.
    pub kind: Option<String>,
    /// Whether it is the first to write to.
    pub primary: bool,
}

/// A group, as the provider's directory describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryGroup {
    /// Its SCIM `id` here.
    pub id: DirectoryId,
    /// What it is called.
    pub profile: GroupProfile,
    /// Who is in it.
    pub members: BTreeSet<DirectoryId>,
    /// Since when it is known.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub changed_at: UnixMillis,
}

/// What a group is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupProfile {
    /// `displayName`: what policy calls it.
    pub name: String,
    /// `externalId`.
    pub external_id: Option<String>,
}

impl Directory {
    /// Everyone in it, in order of id.
    pub fn people(&self) -> impl Iterator<Item = &DirectoryPerson> {
        self.people.values().map(AsRef::as_ref)
    }

    /// One person.
    pub fn person(&self, id: DirectoryId) -> Option<&DirectoryPerson> {
        self.people.get(&id).map(AsRef::as_ref)
    }

    /// Every group, in order of id.
    pub fn groups(&self) -> impl Iterator<Item = &DirectoryGroup> {
        self.groups.values().map(AsRef::as_ref)
    }

    /// One group.
    pub fn group(&self, id: DirectoryId) -> Option<&DirectoryGroup> {
        self.groups.get(&id).map(AsRef::as_ref)
    }

    /// The names of the groups that a person is in.
    pub(crate) fn groups_of(&self, id: DirectoryId) -> BTreeSet<String> {
        let groups = self.groups().filter(|group| group.members.contains(&id));
        groups.map(|group| group.profile.name.clone()).collect()
    }

    /// Memberships in all groups together.
    pub(crate) fn memberships(&self) -> usize {
        self.groups().map(|group| group.members.len()).sum()
    }
}

impl PersonProfile {
    /// Whether it may be kept.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_text("a userName", Some(&self.user_name), PERSON_NAME_BYTES_MAX)?;
        check_text("an externalId", self.external_id.as_ref(), SUBJECT_BYTES_MAX)?;
        check_text("a displayName", self.display_name.as_ref(), PERSON_NAME_BYTES_MAX)?;
        if self.emails.len() > EMAILS_PER_PERSON_MAX {
            return Err(Refusal::Limit {
                what: "addresses of one person",
                max: EMAILS_PER_PERSON_MAX,
            });
        }
        for email in &self.emails {
            check_text("an address", Some(&email.value), EMAIL_BYTES_MAX)?;
            check_text(
                "the type of an address",
                email.kind.as_ref(),
                EMAIL_KIND_BYTES_MAX,
            )?;
        }
        Ok(())
    }
}

impl GroupProfile {
    /// Whether it may be kept.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_text("a group's displayName", Some(&self.name), GROUP_BYTES_MAX)?;
        check_text("an externalId", self.external_id.as_ref(), SUBJECT_BYTES_MAX)
    }
}

fn check_text(what: &'static str, text: Option<&String>, bytes_max: usize) -> Result<(), Refusal> {
    let is_sound =
        |text: &String| (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
    match text {
        Some(text) if !is_sound(text) => Err(DirectoryRefusal::Text { what, max: bytes_max }.into()),
        Some(_) | None => Ok(()),
    }
}

const EMAIL_KIND_BYTES_MAX: usize = 64;
