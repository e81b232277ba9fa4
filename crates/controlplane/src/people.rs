//! The people of a mesh: who was ever vouched for, and who is at which node now.
//!
//! **Invariant:** at a node there is one session at most, and it ends by itself; what a session says is as of the moment
//! an identity provider vouched for it, and an age is always counted from then.

mod command;
mod event;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ringfence_model::{Name, NodeId, SessionId, UnixMillis};
use ringfence_policy::UserFacts;
use serde::{Deserialize, Serialize};

pub use self::command::{PeopleCommand, SessionsOf};
pub use self::event::PeopleEvent;
use crate::Refusal;
use crate::limit::{
    CONTEXT_BYTES_MAX, EMAIL_BYTES_MAX, GROUP_BYTES_MAX, GROUPS_PER_PERSON_MAX, METHODS_PER_LOGIN_MAX,
    PERSON_NAME_BYTES_MAX, SUBJECT_BYTES_MAX,
};

/// One person, as one provider knows them: `corp/248289761001`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId {
    /// Who vouches for them.
    pub provider: Name,
    /// Their name there, which never becomes anyone else's (`sub`, OpenID Connect Core section 8).
    pub subject: String,
}

/// A text is not a [`UserId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user is written as the provider's name, a slash and the subject")]
pub struct UserIdError;

/// What an identity provider, or a local account, vouched for. The shell has verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedLogin {
    /// Who it is.
    pub user: UserId,
    /// Who they are in the provider's SCIM directory, if a claim of their token says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_id: Option<Box<str>>,
    /// What people call them: the address, else the login name.
    pub name: String,
    /// The address, if the provider has verified it.
    pub email: Option<String>,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// The provider's own session (`sid`), by which it may end this one.
    pub provider_session: Option<String>,
    /// The context class reference (`acr`).
    pub acr: Option<String>,
    /// By which methods (`amr`).
    pub amr: BTreeSet<String>,
    /// When they last proved who they are.
    pub authenticated_at: UnixMillis,
    /// When they last proved a second factor.
    pub mfa_at: Option<UnixMillis>,
}

/// A person at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id, which stays through every renewal.
    pub id: SessionId,
    /// At which node.
    pub node: NodeId,
    /// What was last vouched for.
    pub login: VerifiedLogin,
    /// When they logged in.
    pub started_at: UnixMillis,
    /// When it ends, if nothing ends it before.
    pub expires: UnixMillis,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionEnd {
    /// Its time ran out.
    Expired,
    /// The person logged out at the node.
    LoggedOut,
    /// An administrator ended it.
    Ended,
    /// The provider ended it (back-channel logout).
    ByProvider,
    /// Someone else logged in at the node.
    Replaced,
    /// The person may not log in any more.
    Deactivated,
    /// The person was locked out.
    Locked,
    /// The node was removed.
    NodeRemoved,
}

/// A person who was vouched for at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Who they are in the provider's SCIM directory, as the token of the last login said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_id: Option<Box<str>>,
    /// What people called them at the last login.
    pub name: String,
    /// Their address then.
    pub email: Option<String>,
    /// Their groups then.
    pub groups: BTreeSet<String>,
    /// When they first logged in.
    pub added_at: UnixMillis,
    /// When they last did.
    pub seen_at: UnixMillis,
    /// Whether they may log in.
    pub standing: UserStanding,
}

/// Whether a person may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserStanding {
    /// They may.
    Active,
    /// They may not, until an administrator says otherwise.
    Deactivated,
}

impl Session {
    /// As policy sees the person.
    pub(crate) fn facts(&self) -> UserFacts {
        UserFacts {
            name: self.login.name.clone(),
            email: self.login.email.clone(),
            groups: self.login.groups.clone(),
            mfa_at: self.login.mfa_at,
            until: self.expires,
        }
    }
}

impl VerifiedLogin {
    /// Checks what would have to be kept, and takes no time from the future: a provider's clock that runs ahead would
    /// make a second factor hold for longer than the policy says.
    pub(crate) fn checked(mut self, wall: UnixMillis) -> Result<Self, Refusal> {
        if self.user.subject.is_empty() || self.name.is_empty() {
            return Err(Refusal::Nameless);
        }
        let longest = |texts: &BTreeSet<String>| texts.iter().map(String::len).max().unwrap_or(0);
        let bytes = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let bounds = [
            (
                self.user.subject.len(),
                SUBJECT_BYTES_MAX,
                "bytes of a person's subject",
            ),
            (
                self.directory_id.as_ref().map_or(0, |id| id.len()),
                SUBJECT_BYTES_MAX,
                "bytes of a person's id in a directory",
            ),
            (self.name.len(), PERSON_NAME_BYTES_MAX, "bytes of a person's name"),
            (bytes(&self.email), EMAIL_BYTES_MAX, "bytes of a person's address"),
            (self.groups.len(), GROUPS_PER_PERSON_MAX, "groups of one person"),
            (longest(&self.groups), GROUP_BYTES_MAX, "bytes of a group's name"),
            (self.amr.len(), METHODS_PER_LOGIN_MAX, "methods of one login"),
            (longest(&self.amr), CONTEXT_BYTES_MAX, "bytes of a login's method"),
            (
                bytes(&self.acr),
                CONTEXT_BYTES_MAX,
                "bytes of a login's context class",
            ),
            (
                bytes(&self.provider_session),
                CONTEXT_BYTES_MAX,
                "bytes of a provider's session",
            ),
        ];
        for (count, max, what) in bounds {
            if count > max {
                return Err(Refusal::Limit { what, max });
            }
        }
        self.authenticated_at = self.authenticated_at.min(wall);
        self.mfa_at = self.mfa_at.map(|at| at.min(wall));
        Ok(self)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.subject)
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        // A provider's name has no slash, so the first one ends it.
        let (provider, subject) = text.split_once('/').ok_or(UserIdError)?;
        let provider = Name::parse(provider).map_err(|_| UserIdError)?;
        if !(1..=SUBJECT_BYTES_MAX).contains(&subject.len()) {
            return Err(UserIdError);
        }
        Ok(Self {
            provider,
            subject: subject.to_owned(),
        })
    }
}

impl TryFrom<String> for UserId {
    type Error = UserIdError;

    fn try_from(text: String) -> Result<Self, UserIdError> {
        text.parse()
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.to_string()
    }
}

impl SessionEnd {
    /// In words, after "the session of alice".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::LoggedOut => "was ended by its person",
            Self::Ended => "was ended by an administrator",
            Self::ByProvider => "was ended by the identity provider",
            Self::Replaced => "ended because someone else logged in",
            Self::Deactivated => "ended because the person was deactivated",
            Self::Locked => "ended because the person was locked out",
            Self::NodeRemoved => "ended because the node was removed",
        }
    }
}
