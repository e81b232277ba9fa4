//! `/audit`: the log of changes, and the proof that nobody has rewritten it.

use ringfence_model::{Revision, UnixMillis};
use serde::{Deserialize, Serialize};

/// `GET /audit?since_ms=&limit=`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditList {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Whether `limit` cut off older ones.
    pub truncated: bool,
}

/// One change, or one attempt that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its place in the log.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// When.
    pub at_ms: UnixMillis,
    /// Who.
    pub actor: AuditActor,
    /// The request's id.
    pub request_id: String,
    /// What was asked: `apply-perimeters`, `enroll`…
    pub method: String,
    /// One line for people.
    pub summary: String,
    /// What changed, with before and after.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub events: Vec<serde_json::Value>,
    /// The hash of the entry before, in hex.
    pub previous_hash: String,
    /// The hash of this one, over `previous_hash` too.
    pub hash: String,
}

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditActor {
    /// `admin`, `api-token`, `node`, `token` or `system`.
    pub kind: String,
    /// Which one.
    pub name: String,
}

/// `GET /audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditVerification {
    /// Whether every entry's hash is right and follows from the last.
    pub ok: bool,
    /// How many entries there are.
    pub entries: u64,
    /// The newest hash: keep it elsewhere to notice a log cut short.
    pub head: Option<String>,
    /// The newest revision.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// The first entry that is wrong.
    pub broken: Option<BrokenEntry>,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BrokenEntry {
    /// The entry.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// What is wrong with it.
    pub why: String,
}
