//! What may be asked about API tokens.

use std::time::Duration;

use ringfence_model::{ApiTokenId, Name};

use super::Role;
use crate::TokenHash;

/// What may be asked about API tokens: in [`crate::Command::ApiTokens`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiTokenCommand {
    /// Makes one.
    Create {
        /// What to call it.
        name: Name,
        /// What it is good for.
        role: Role,
        /// The address of the person that it stands for.
        stands_for: Option<String>,
        /// How long it counts.
        ttl: Duration,
        /// The hash of its secret, which the core never sees.
        secret_hash: TokenHash,
    },
    /// Ends one.
    Revoke {
        /// Which.
        token: ApiTokenId,
    },
}

impl ApiTokenCommand {
    /// Whether it takes access away, whatever the state.
    pub(crate) fn is_removal(&self) -> bool {
        match self {
            Self::Create { .. } => false,
            Self::Revoke { .. } => true,
        }
    }

    /// The word for it in the log and in refusals.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Create { .. } => "api-token.create",
            Self::Revoke { .. } => "api-token.revoke",
        }
    }
}
