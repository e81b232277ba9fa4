//! `/drills`: what taking access away takes, measured.

use ringfence_model::{Name, Revision};
use serde::{Deserialize, Serialize};

/// `POST /drills/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeDrillRequest {
    /// In which perimeter.
    pub perimeter: Name,
    /// Which node opens the conversation; any that is connected if absent.
    #[serde(default)]
    pub from: Option<Name>,
    /// Which node is reached; any other that is connected if absent.
    #[serde(default)]
    pub to: Option<Name>,
}

/// What one drill measured. Nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokeDrillReport {
    /// In which perimeter.
    pub perimeter: Name,
    /// Who opened the conversation.
    pub from: Name,
    /// Who was reached.
    pub to: Name,
    /// At which UDP port.
    pub port: u16,
    /// The revision that took the access away: its receipt tells more.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// How many datagrams went there and back while it was open.
    pub answered: u64,
    /// From the order to take it away until the last answer came through, in milliseconds: never less than it was. Zero
    /// if none came after the order.
    pub silent_ms: u64,
    /// From the revision until the second of the two nodes had said that it enforces it.
    pub enforced_ms: u64,
    /// The later of the two.
    pub took_ms: u64,
}
