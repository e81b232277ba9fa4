//! `/explain` and `/verify`: what policy says, and what the network does.

use std::net::IpAddr;

use ringfence_model::{Labels, Name, Revision, RuleId, UnixMillis};
use ringfence_policy::Service;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// `POST /explain`: may `from` open `service` towards `to`?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// A member: `node:web-1`, or just its name.
    pub from: String,
    /// A member.
    pub to: String,
    /// What: `tcp/5432`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub service: Service,
    /// In this perimeter; in every one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perimeter: Option<Name>,
    /// As if this were known of `from`; what is not named counts as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_if: Option<AsIf>,
    /// As it was at this moment, by the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<UnixMillis>,
}

/// What is supposed of a member and the moment, to ask what policy would say then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AsIf {
    /// The verified address of the person at it.
    pub user: Option<String>,
    /// Groups that they are in besides.
    pub groups: Vec<String>,
    /// How long ago they proved a second factor, in milliseconds.
    pub mfa_ms: Option<u64>,
    /// Posture checks that pass besides.
    pub posture: Vec<Name>,
    /// Where its control connection comes from.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub source: Option<IpAddr>,
    /// Labels that it has besides, or in place of others.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, String>))]
    pub labels: Labels,
    /// When it is.
    pub time_ms: Option<UnixMillis>,
}

/// The answer to an [`ExplainRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainReport {
    /// Who asks to open.
    pub from: Name,
    /// Towards whom.
    pub to: Name,
    /// What.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub service: Service,
    /// `allow` if any perimeter allows it.
    pub verdict: Verdict,
    /// By perimeter, in order of name.
    pub perimeters: Vec<Explained>,
}

/// What one perimeter says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explained {
    /// Which.
    pub perimeter: Name,
    /// Its verdict.
    pub verdict: Verdict,
    /// The rule that allows it.
    pub rule: Option<RuleId>,
    /// The policy file, as it was applied.
    pub file: Option<String>,
    /// The line of that rule.
    pub line: Option<u32>,
    /// When the clock alone ends what is allowed; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<UnixMillis>,
    /// One sentence for people.
    pub reason: String,
    /// What would have to be there for it to be allowed.
    pub missing: Vec<String>,
}

/// `POST /verify`: measure a perimeter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// Which.
    pub perimeter: Name,
    /// How long each attempt may take, in milliseconds.
    #[serde(default = "wait_ms")]
    pub wait_ms: u64,
}

/// Expected against measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerifyReport {
    /// Which perimeter.
    pub perimeter: Name,
    /// The revision it was measured at.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// Whether every row is as expected.
    pub ok: bool,
    /// Every pair and port, and the outsider.
    pub rows: Vec<VerifyRow>,
    /// Who could not be asked, and why.
    pub unmeasured: Vec<String>,
}

/// One pair and one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerifyRow {
    /// Who tried.
    pub from: Name,
    /// Whether that one is no member: it only tries to handshake.
    pub outsider: bool,
    /// Towards whom.
    pub to: Name,
    /// What: `tcp/5432`, or `handshake` for an outsider.
    pub service: String,
    /// What policy says.
    pub expected: Verdict,
    /// What happened; absent if it could not be tried.
    pub measured: Option<Verdict>,
    /// How it was seen: `connected`, `refused by peer`, `seen by target`, `silence`…
    pub detail: String,
}

impl VerifyRow {
    /// Whether what happened is what policy says. What could not be measured is not.
    pub fn is_ok(&self) -> bool {
        self.measured == Some(self.expected)
    }
}

fn wait_ms() -> u64 {
    2000
}
