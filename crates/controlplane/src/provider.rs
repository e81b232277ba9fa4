//! Identity providers: whose word about people counts here, and which of their words mean a second factor.
//!
//! Their client secrets are the shell's and never come here.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::Name;
use serde::{Deserialize, Serialize};

use crate::limit::{SESSION_LENGTH_MAX, SESSION_LENGTH_MIN};
use crate::{Account, Refusal};

/// An OpenID provider as an administrator configured it, without its client secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// What it is called here.
    pub name: Name,
    /// Its issuer identifier, an `https` URL: what discovery begins with and what its tokens must say.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// Whether we have a secret there; without one PKCE alone proves us.
    pub confidential: bool,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that lists a person's groups; without one nobody has any.
    pub groups_claim: Option<String>,
    /// The claim that says which person of its SCIM directory it is, by their `externalId`, where `sub` does not: `oid` of
    /// Entra ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_claim: Option<Box<str>>,
    /// How long a session lasts, in milliseconds.
    pub session_ms: u64,
    /// What of its words proves a second factor.
    pub second_factor: SecondFactor,
    /// Whether its addresses may be private ones (red line 9).
    pub allow_private_address: bool,
    /// The CA its certificates come from, if it is not one the public trusts.
    pub ca_pem: Option<String>,
}

/// What may be asked about providers: in [`crate::Command::Provider`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderCommand {
    /// Has a provider's word about people count.
    Add {
        /// It, without its client secret.
        provider: Provider,
    },
    /// Ends that, and the sessions of those it vouched for.
    Remove {
        /// Which.
        name: Name,
    },
}

impl ProviderCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::Remove { .. } => true,
            Self::Add { .. } => false,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Add { .. } => "provider.add",
            Self::Remove { .. } => "provider.remove",
        }
    }
}

/// Which words of a provider prove a second factor. With none, nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// Values of `acr`, any one of which is enough.
    pub acr: BTreeSet<String>,
    /// Values of `amr` (RFC 8176), any one of which is enough.
    pub amr: BTreeSet<String>,
}

impl Provider {
    /// How long a session lasts.
    pub fn session(&self) -> Duration {
        Duration::from_millis(self.session_ms)
    }

    /// Whether it may be configured so.
    ///
    /// # Errors
    /// [`Refusal::Provider`] with what is wrong.
    pub fn check(&self) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::Provider(why.to_owned()));
        if self.name.as_str() == Account::PROVIDER {
            return refuse("no provider is called local: that is who logs in by a local account");
        }
        let rest = self.issuer.strip_prefix("https://").unwrap_or("");
        if rest.is_empty() || rest.starts_with('/') || !is_plain(&self.issuer) {
            return refuse("the issuer is an https:// URL");
        }
        if self.issuer.contains(['?', '#', '@', '\\']) {
            return refuse("the issuer has no query, no fragment and no user (OpenID Connect Discovery 1.0)");
        }
        if !is_plain(&self.client_id) {
            return refuse("the client id is 1 to 512 printable characters");
        }
        if !(SESSION_LENGTH_MIN..=SESSION_LENGTH_MAX).contains(&self.session()) {
            return Err(Refusal::SessionLength);
        }
        let words = [&self.second_factor.acr, &self.second_factor.amr]
            .into_iter()
            .flatten();
        let words = words
            .chain(&self.scopes)
            .chain(&self.groups_claim)
            .map(String::as_str);
        let words = words.chain(self.directory_claim.as_deref());
        let (mut count, mut plain) = (0, true);
        for word in words {
            count += 1;
            plain &= is_plain(word) && !word.contains(' ');
        }
        if !plain || count > WORDS_MAX {
            return refuse("scopes, claims, acr and amr values are at most 64 words without spaces");
        }
        if self.ca_pem.as_ref().is_some_and(|pem| pem.len() > CA_BYTES_MAX) {
            return refuse("the CA file is longer than 64 KiB");
        }
        Ok(())
    }
}

impl SecondFactor {
    /// Whether these words prove one.
    pub fn is_proved_by(&self, acr: Option<&str>, amr: &BTreeSet<String>) -> bool {
        acr.is_some_and(|acr| self.acr.contains(acr)) || !self.amr.is_disjoint(amr)
    }

    /// Whether no word would.
    pub fn is_empty(&self) -> bool {
        self.acr.is_empty() && self.amr.is_empty()
    }
}

fn is_plain(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

const TEXT_BYTES_MAX: usize = 512;
/// Of all lists together.
const WORDS_MAX: usize = 64;
const CA_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
pub(crate) mod tests;
