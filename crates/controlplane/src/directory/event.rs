//! What became of directories.

use std::collections::BTreeSet;

use ringfence_model::{DirectoryId, Name};
use serde::{Deserialize, Serialize};

use super::{DirectoryGroup, DirectoryPerson, DirectoryToken, GroupProfile, PersonProfile};
use crate::UserStanding;

/// One fact about directories: in [`crate::Event::Directory`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum DirectoryEvent {
    /// A provider got a SCIM token; the one before is worth nothing.
    ScimTokenCreated {
        /// Which provider.
        provider: Name,
        /// It, without the token.
        token: DirectoryToken,
    },
    /// A provider's SCIM token is worth nothing any more.
    ScimTokenRevoked {
        /// Which provider.
        provider: Name,
    },
    /// What a provider said is forgotten, because the provider is gone.
    DirectoryForgotten {
        /// Which provider.
        provider: Name,
    },
    /// A provider described somebody new.
    PersonProvisioned {
        /// Which provider.
        provider: Name,
        /// Whom.
        person: DirectoryPerson,
    },
    /// A provider described somebody anew.
    PersonChanged {
        /// Which provider.
        provider: Name,
        /// Whom.
        id: DirectoryId,
        /// As they were.
        before: PersonProfile,
        /// As they are.
        after: PersonProfile,
    },
    /// A provider has somebody no longer, in no group either.
    PersonDeprovisioned {
        /// Which provider.
        provider: Name,
        /// Whom.
        before: DirectoryPerson,
    },
    /// A provider described a new group.
    GroupProvisioned {
        /// Which provider.
        provider: Name,
        /// The group.
        group: DirectoryGroup,
    },
    /// A group is called otherwise, or holds others.
    GroupChanged {
        /// Which provider.
        provider: Name,
        /// Which group.
        id: DirectoryId,
        /// What it was called.
        before: GroupProfile,
        /// What it is called.
        after: GroupProfile,
        /// Who came in.
        joined: BTreeSet<DirectoryId>,
        /// Who left.
        left: BTreeSet<DirectoryId>,
    },
    /// A provider has a group no longer.
    GroupDeprovisioned {
        /// Which provider.
        provider: Name,
        /// What it was.
        before: DirectoryGroup,
    },
}

impl DirectoryEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ScimTokenCreated { .. } => "scim-token-created",
            Self::ScimTokenRevoked { .. } => "scim-token-revoked",
            Self::DirectoryForgotten { .. } => "directory-forgotten",
            Self::PersonProvisioned { .. } => "person-provisioned",
            Self::PersonChanged { .. } => "person-changed",
            Self::PersonDeprovisioned { .. } => "person-deprovisioned",
            Self::GroupProvisioned { .. } => "group-provisioned",
            Self::GroupChanged { .. } => "group-changed",
            Self::GroupDeprovisioned { .. } => "group-deprovisioned",
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::ScimTokenCreated { provider, .. } => format!("gave provider {provider} a SCIM token"),
            Self::ScimTokenRevoked { provider } => format!("revoked the SCIM token of provider {provider}"),
            Self::DirectoryForgotten { provider } => format!("forgot the directory of provider {provider}"),
            Self::PersonProvisioned { provider, person } => {
                format!("{provider} provisioned {}", person.profile.user_name)
            }
            Self::PersonChanged {
                provider,
                before,
                after,
                ..
            } => {
                let what = match (before.standing, after.standing) {
                    (UserStanding::Active, UserStanding::Deactivated) => "deactivated",
                    (UserStanding::Deactivated, UserStanding::Active) => "reactivated",
                    (UserStanding::Active, UserStanding::Active)
                    | (UserStanding::Deactivated, UserStanding::Deactivated) => "described anew",
                };
                format!("{provider} {what} {}", after.user_name)
            }
            Self::PersonDeprovisioned { provider, before } => {
                format!("{provider} deprovisioned {}", before.profile.user_name)
            }
            Self::GroupProvisioned { provider, group } => {
                let (name, members) = (&group.profile.name, group.members.len());
                format!("{provider} provisioned group {name} with {members} member(s)")
            }
            Self::GroupChanged {
                provider,
                after,
                joined,
                left,
                ..
            } => {
                let (name, joined, left) = (&after.name, joined.len(), left.len());
                format!("{provider} changed group {name}: {joined} joined, {left} left")
            }
            Self::GroupDeprovisioned { provider, before } => {
                format!("{provider} deprovisioned group {}", before.profile.name)
            }
        }
    }
}
