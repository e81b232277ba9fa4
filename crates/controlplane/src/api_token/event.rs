//! What became of API tokens.

use ringfence_model::{ApiTokenId, Name};
use serde::{Deserialize, Serialize};

use super::{ApiToken, Role};
use crate::Event;

/// One fact about API tokens: in [`crate::Event::ApiTokens`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ApiTokenEvent {
    /// One was made.
    ApiTokenCreated {
        /// It, without its secret.
        token: ApiToken,
    },
    /// An administrator ended one.
    ApiTokenRevoked {
        /// Which.
        token: ApiTokenId,
        /// What it was called.
        name: Name,
    },
    /// The time of one ran out.
    ApiTokenExpired {
        /// Which.
        token: ApiTokenId,
        /// What it was called.
        name: Name,
    },
}

impl ApiTokenEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApiTokenCreated { .. } => "api-token-created",
            Self::ApiTokenRevoked { .. } => "api-token-revoked",
            Self::ApiTokenExpired { .. } => "api-token-expired",
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::ApiTokenCreated { token } => {
                let of = match &token.role {
                    Role::Admin | Role::Auditor => String::new(),
                    Role::Owner { perimeters } => {
                        let names: Vec<&str> = perimeters.iter().map(AsRef::as_ref).collect();
                        format!(" of {}", names.join(", "))
                    }
                };
                let whose = token.stands_for.as_ref();
                let whose = whose.map(|address| format!(" for {address}")).unwrap_or_default();
                format!(
                    "created API token {} for an {}{of}{whose}",
                    token.name,
                    token.role.as_str()
                )
            }
            Self::ApiTokenRevoked { name, .. } => format!("revoked API token {name}"),
            Self::ApiTokenExpired { name, .. } => format!("API token {name} expired"),
        }
    }
}

impl From<ApiTokenEvent> for Event {
    fn from(event: ApiTokenEvent) -> Self {
        Self::ApiTokens(Box::new(event))
    }
}
