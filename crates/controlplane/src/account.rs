//! Local accounts: people whom no identity provider vouches for, but an administrator. Their passwords and second factors
//! are the shell's and never come here.
//!
//! **Invariant:** what somebody proves by the credentials of one generation counts for nothing once there is another:
//! whoever is added or reset begins a new one.

mod command;
mod event;

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{Name, UnixMillis};
use serde::{Deserialize, Serialize};

pub use self::command::AccountCommand;
pub use self::event::AccountEvent;
use crate::api_token::is_address;
use crate::limit::{GROUP_BYTES_MAX, GROUPS_PER_PERSON_MAX, SESSION_LENGTH_MAX, SESSION_LENGTH_MIN};
use crate::state::State;
use crate::{Refusal, RefusalKind, UserId};

/// A person whom an administrator vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What they log in as.
    pub name: Name,
    /// Their address.
    pub email: Option<String>,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// How long a session of theirs lasts, in milliseconds.
    pub session_ms: u64,
    /// Since when they are here.
    pub added_at: UnixMillis,
    /// Which credentials count: drawn anew whenever they have to choose others.
    pub generation: u64,
    /// When they chose those, if they have.
    pub set_up_at: Option<UnixMillis>,
}

/// Why something about local accounts is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountRefusal {
    /// No such account.
    #[error("there is no local account {0}: `ringfence account ls` lists them")]
    Unknown(Name),
    /// One that is there already.
    #[error(
        "there is a local account {0} already: `ringfence account reset {0}` has its person set it up anew"
    )]
    Taken(Name),
    /// An address that is none.
    #[error("{0:?} is no e-mail address")]
    Address(String),
    /// A group that nobody can be in.
    #[error("a group is called by 1 to {GROUP_BYTES_MAX} bytes without control characters")]
    Group,
    /// Credentials that count no longer.
    #[error("the account was reset or removed meanwhile")]
    Superseded,
}

impl Account {
    /// Whom their sessions are of.
    pub fn user(&self) -> UserId {
        Self::user_of(&self.name)
    }

    /// Whom the sessions of a local account are of, whether there is one or not.
    pub fn user_of(name: &Name) -> UserId {
        UserId {
            provider: Name::parse(Self::PROVIDER).expect("the constant is a name"),
            subject: name.to_string(),
        }
    }

    /// How long a session lasts.
    pub fn session(&self) -> Duration {
        Duration::from_millis(self.session_ms)
    }

    /// What people call them.
    pub fn called(&self) -> &str {
        self.email.as_deref().unwrap_or_else(|| self.name.as_str())
    }

    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if let Some(email) = &self.email
            && !is_address(email)
        {
            return Err(AccountRefusal::Address(email.chars().take(SHOWN_CHARS_MAX).collect()).into());
        }
        if !(SESSION_LENGTH_MIN..=SESSION_LENGTH_MAX).contains(&self.session()) {
            return Err(Refusal::SessionLength);
        }
        check_groups(&self.groups)
    }

    /// What stands for a provider where there is none. No identity provider is called so.
    pub const PROVIDER: &str = "local";
}

pub(crate) fn check_groups(groups: &BTreeSet<String>) -> Result<(), Refusal> {
    let is_sound =
        |group: &String| (1..=GROUP_BYTES_MAX).contains(&group.len()) && !group.chars().any(char::is_control);
    if !groups.iter().all(is_sound) {
        return Err(AccountRefusal::Group.into());
    }
    if groups.len() > GROUPS_PER_PERSON_MAX {
        return Err(Refusal::Limit {
            what: "groups of one person",
            max: GROUPS_PER_PERSON_MAX,
        });
    }
    Ok(())
}

impl State {
    /// Whether somebody is one whom an administrator vouches for, and nobody else.
    pub(crate) fn is_local(&self, user: &UserId) -> bool {
        // Providers of that name were possible before there were accounts.
        user.provider.as_str() == Account::PROVIDER && !self.providers.contains_key(&user.provider)
    }

    /// The account of somebody, if they have one.
    pub(crate) fn account_of(&self, user: &UserId) -> Option<&Account> {
        let name = Name::parse(&user.subject).ok()?;
        self.accounts.get(&name).map(AsRef::as_ref)
    }

    /// Whether somebody had a local account and has none any more.
    pub(crate) fn lacks_account(&self, user: &UserId) -> bool {
        self.is_local(user) && self.account_of(user).is_none()
    }
}

impl AccountRefusal {
    /// What it means to the one who asked.
    pub(crate) fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown(_) => RefusalKind::NotFound,
            Self::Taken(_) => RefusalKind::Conflict,
            Self::Address(_) | Self::Group => RefusalKind::Invalid,
            Self::Superseded => RefusalKind::Denied,
        }
    }

    /// A stable word for it, for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "no-account",
            Self::Taken(_) => "account-taken",
            Self::Address(_) => "account-address",
            Self::Group => "account-group",
            Self::Superseded => "account-superseded",
        }
    }
}

const SHOWN_CHARS_MAX: usize = 80;
