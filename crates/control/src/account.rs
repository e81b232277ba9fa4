//! A login by a local account: what node and controller say to each other about it.
//!
//! The node hands on what a person types, and keeps nothing of it; the controller judges it. One question has one answer.

use std::fmt;

use ringfence_model::Name;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::SessionFacts;

/// What a person says about their local account: answered by [`LocalLoginDone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalLogin {
    /// The node's number for it, drawn at random. Comes back in the answer.
    pub id: u64,
    /// What they log in as; with a code alone, whoever is logged in there if absent.
    #[serde(default)]
    pub name: Option<Name>,
    /// What they say.
    pub proof: LocalProof,
}

/// What a person says to prove who they are. A field that is absent was not asked for: what it takes is the controller's to
/// say.
///
/// | | log in | prove the second factor again | ask for a second factor | set the account up |
/// | --- | --- | --- | --- | --- |
/// | set-up secret | | | × | × |
/// | password | × | | | × |
/// | code | × | × | | × |
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalProof {
    /// The secret that an administrator gave them to set their account up by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_up: Option<LocalSecret>,
    /// Their password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<LocalSecret>,
    /// The code that their authenticator shows, or a recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<LocalSecret>,
}

/// Something of a local account that nobody else may know. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocalSecret(pub Zeroizing<String>);

impl LocalSecret {
    /// This text, from here on kept secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LocalSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalSecret(..)")
    }
}

/// What came of a [`LocalLogin`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalLoginDone {
    /// Which.
    pub id: u64,
    /// What it gave; nothing if it was refused.
    #[serde(default)]
    pub gain: LocalGain,
    /// Why it gave nothing, for people; empty if it did.
    #[serde(default)]
    pub why: String,
}

/// What a person gets for what they said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalGain {
    /// The session, once they proved who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionFacts>,
    /// The secret for their authenticator, as an `otpauth:` URL, while they set their account up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<LocalSecret>,
    /// Codes for the day that the authenticator is lost, once they have set it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<LocalSecret>,
}

/// The first [`crate::CAPABILITY`] with local accounts.
pub const LOCAL_LOGINS_SINCE: u32 = 5;
