//! What may be asked about directories.

use std::collections::BTreeSet;

use ringfence_model::{DirectoryId, Name};

use super::{GroupProfile, PersonProfile};
use crate::{TokenHash, UserStanding};

/// What may be asked about directories: in [`crate::Command::Directory`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryCommand {
    /// Gives a provider a SCIM token, in the place of the one that it had.
    CreateToken {
        /// Which provider.
        provider: Name,
        /// The hash of the token, which the core never sees.
        secret_hash: TokenHash,
    },
    /// Ends a provider's SCIM token. What was said with it stays.
    RevokeToken {
        /// Which provider.
        provider: Name,
    },
    /// A provider describes somebody new.
    AddPerson {
        /// Which provider.
        provider: Name,
        /// Whom.
        profile: PersonProfile,
    },
    /// A provider describes somebody anew.
    ChangePerson {
        /// Which provider.
        provider: Name,
        /// Whom.
        id: DirectoryId,
        /// As they are now.
        profile: PersonProfile,
    },
    /// A provider has somebody no longer.
    RemovePerson {
        /// Which provider.
        provider: Name,
        /// Whom.
        id: DirectoryId,
    },
    /// A provider describes a new group.
    AddGroup {
        /// Which provider.
        provider: Name,
        /// What it is called.
        profile: GroupProfile,
        /// Who is in it.
        members: BTreeSet<DirectoryId>,
    },
    /// A provider describes a group anew.
    ChangeGroup {
        /// Which provider.
        provider: Name,
        /// Which group.
        id: DirectoryId,
        /// What it is called now.
        profile: GroupProfile,
        /// Who is in it now.
        members: BTreeSet<DirectoryId>,
    },
    /// A provider has a group no longer.
    RemoveGroup {
        /// Which provider.
        provider: Name,
        /// Which group.
        id: DirectoryId,
    },
}

impl DirectoryCommand {
    /// Whose directory it is about.
    pub fn provider(&self) -> &Name {
        match self {
            Self::CreateToken { provider, .. }
            | Self::RevokeToken { provider }
            | Self::AddPerson { provider, .. }
            | Self::ChangePerson { provider, .. }
            | Self::RemovePerson { provider, .. }
            | Self::AddGroup { provider, .. }
            | Self::ChangeGroup { provider, .. }
            | Self::RemoveGroup { provider, .. } => provider,
        }
    }

    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::RevokeToken { .. } | Self::RemovePerson { .. } | Self::RemoveGroup { .. } => true,
            Self::ChangePerson { profile, .. } => profile.standing == UserStanding::Deactivated,
            Self::CreateToken { .. }
            | Self::AddPerson { .. }
            | Self::AddGroup { .. }
            | Self::ChangeGroup { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::CreateToken { .. } => "scim-token.create",
            Self::RevokeToken { .. } => "scim-token.revoke",
            Self::AddPerson { .. } => "person.provision",
            Self::ChangePerson { .. } => "person.change",
            Self::RemovePerson { .. } => "person.deprovision",
            Self::AddGroup { .. } => "group.provision",
            Self::ChangeGroup { .. } => "group.change",
            Self::RemoveGroup { .. } => "group.deprovision",
        }
    }
}
