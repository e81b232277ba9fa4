//! API tokens: who may ask the REST API besides whoever holds the token that `init` made, for what, and until when.
//!
//! **Invariant:** what a token may do is judged from the state at each request. Once it is revoked or its time is over, or
//! the person it stands for may not log in, it opens nothing. An owner's perimeters are there: with a perimeter ends what
//! its owners may do in it.

mod command;
mod event;

use std::collections::BTreeSet;

use ringfence_model::{ApiTokenId, Name, UnixMillis};
use serde::{Deserialize, Serialize};

pub use self::command::ApiTokenCommand;
pub use self::event::ApiTokenEvent;
use crate::limit::{API_TOKEN_PERIMETERS_MAX, EMAIL_BYTES_MAX};
use crate::state::State;
use crate::{Actor, ActorKind, RefusalKind, TokenHash, User, UserStanding};

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its id, which is no secret.
    pub id: ApiTokenId,
    /// What it is called: unique among those that count.
    pub name: Name,
    /// What it is good for.
    pub role: Role,
    /// The address of the person that it stands for, if it is not a machine's.
    pub stands_for: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires: UnixMillis,
    /// The hash of its secret.
    pub secret_hash: TokenHash,
}

/// What somebody may see and change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Role {
    /// Sees and changes all.
    Admin,
    /// Sees all and changes nothing.
    Auditor,
    /// Sees what is in some perimeters, changes their files and answers who asks for access to them.
    Owner {
        /// Which.
        perimeters: BTreeSet<Name>,
    },
}

/// Why something about API tokens is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiTokenRefusal {
    /// No such token.
    #[error("there is no API token {0}: `ringfence api-token ls` lists them")]
    Unknown(ApiTokenId),
    /// A name that another token has, or that stands for something else.
    #[error(
        "an API token cannot be called {0}: another is, or it reads like an id or the first administrator"
    )]
    Name(Name),
    /// A life of no time or too long.
    #[error("an API token lives for 1 second to 365 days")]
    Life,
    /// A token that would outlive the one that makes it.
    #[error("an API token makes none that outlives it: this one ends before that")]
    Outlives,
    /// An owner of nothing, or of too much.
    #[error("an owner's token names 1 to {API_TOKEN_PERIMETERS_MAX} perimeters")]
    Perimeters,
    /// An address that is none.
    #[error("{0:?} is no e-mail address")]
    Address(String),
    /// An answer by a token of which nobody knows whose word it is.
    #[error(
        "this API token stands for nobody, and nobody answers for themselves: use one that was made with --for"
    )]
    StandsForNobody,
}

impl Role {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Owner { .. } => "owner",
        }
    }

    /// Whether nothing is hidden from it.
    pub fn sees_all(&self) -> bool {
        match self {
            Self::Admin | Self::Auditor => true,
            Self::Owner { .. } => false,
        }
    }

    /// Whether it may know of a perimeter.
    pub fn sees(&self, perimeter: &Name) -> bool {
        match self {
            Self::Admin | Self::Auditor => true,
            Self::Owner { perimeters } => perimeters.contains(perimeter),
        }
    }

    /// Whether it may change a perimeter.
    pub fn owns(&self, perimeter: &Name) -> bool {
        match self {
            Self::Admin => true,
            Self::Auditor => false,
            Self::Owner { perimeters } => perimeters.contains(perimeter),
        }
    }
}

impl ApiToken {
    /// What is said of who uses it: the person it stands for, or what it is called.
    pub(crate) fn speaker(&self) -> &str {
        self.stands_for.as_deref().unwrap_or_else(|| self.name.as_ref())
    }
}

impl State {
    /// What an actor may do at `wall`; `None` if it has no role here.
    pub(crate) fn role_of(&self, actor: &Actor, wall: UnixMillis) -> Option<&Role> {
        match actor.kind {
            ActorKind::Admin => Some(&Role::Admin),
            ActorKind::ApiToken => self.counting(actor.api_token?, wall).map(|token| &token.role),
            ActorKind::Node
            | ActorKind::System
            | ActorKind::Token
            | ActorKind::Workload
            | ActorKind::Directory => None,
        }
    }

    /// A token, if it counts at `wall`.
    pub(crate) fn counting(&self, id: ApiTokenId, wall: UnixMillis) -> Option<&ApiToken> {
        let token = self.api_tokens.get(&id)?;
        let counts = token.expires > wall && !self.is_shut_out(token);
        counts.then_some(token)
    }

    /// Whether the person that a token stands for may not log in: then nobody speaks in their name either.
    fn is_shut_out(&self, token: &ApiToken) -> bool {
        let Some(address) = &token.stands_for else {
            return false;
        };
        if self.address_lock(address).is_some() {
            return true;
        }
        let has_address = |email: &Option<String>| {
            let alike = |email: &String| email.eq_ignore_ascii_case(address);
            email.as_ref().is_some_and(alike)
        };
        let mut meant = self.users.values().filter(|user| has_address(&user.email));
        let is_closed = |user: &User| {
            user.standing != UserStanding::Active
                || self.user_lock(user).is_some()
                || !self.is_in_directory(user)
                || self.lacks_account(&user.id)
        };
        meant.any(|user| is_closed(user)) || self.is_ended_in_a_directory(address)
    }

    /// Whether a person is one, and may log in, as their provider's directory has it; if there is none, they are.
    fn is_in_directory(&self, user: &User) -> bool {
        let Some(directory) = self.directories.get(&user.id.provider) else {
            return true;
        };
        let person = directory.find(&user.marks());
        person.is_some_and(|person| person.profile.standing == UserStanding::Active)
    }

    /// Whether a directory says of somebody with this address that they may not log in.
    fn is_ended_in_a_directory(&self, address: &str) -> bool {
        let mut people = self.directories.values().flat_map(|directory| directory.people());
        people.any(|person| {
            person.profile.standing != UserStanding::Active && person.profile.has_address(address)
        })
    }
}

impl ApiTokenRefusal {
    /// What it means to the one who asked.
    pub(crate) fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown(_) => RefusalKind::NotFound,
            Self::Name(_) => RefusalKind::Conflict,
            Self::Life | Self::Perimeters | Self::Address(_) => RefusalKind::Invalid,
            Self::Outlives | Self::StandsForNobody => RefusalKind::Denied,
        }
    }

    /// A stable word for it, for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "no-api-token",
            Self::Name(_) => "api-token-name",
            Self::Life => "api-token-life",
            Self::Outlives => "api-token-outlives",
            Self::Perimeters => "api-token-perimeters",
            Self::Address(_) => "api-token-address",
            Self::StandsForNobody => "stands-for-nobody",
        }
    }
}

/// Whether a text can be somebody's address: what logins are compared with, so it need not be every address there is.
pub(crate) fn is_address(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let parts = text.split_once('@');
    let is_whole =
        parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    is_plain && is_whole && text.len() <= EMAIL_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_word_with_one_at_sign() {
        for good in ["alice@example.com", "a@b"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "alice", "@b", "a@", "a@b@c", "a b@c", "é@example.com"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
