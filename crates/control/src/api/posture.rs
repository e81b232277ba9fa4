//! `/posture` and what is known of a node's machine.

use ringfence_model::{Name, NodeId, Revision, UnixMillis};
use ringfence_policy::{Fact, FactSource, FactValue, KnownFacts, Version};
use serde::{Deserialize, Serialize};

use super::{Finding, FlowChangeView, PolicyFile};

/// `GET /posture`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PostureDetail {
    /// The file as it was applied; `null` before the first.
    pub file: Option<PolicyFile>,
    /// What it asks, in file order.
    pub checks: Vec<CheckSummary>,
}

/// One check, and how the mesh stands to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckSummary {
    /// What rules call it.
    pub name: Name,
    /// Why it is asked.
    pub description: String,
    /// `enforce`, or `report`: then every node passes.
    pub mode: String,
    /// How old what a node measured may be.
    pub max_age_ms: u64,
    /// How many nodes meet it now.
    pub met_by: u32,
    /// Of how many.
    pub nodes: u32,
}

/// `PUT /posture`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyPostureRequest {
    /// The file.
    pub file: PolicyFile,
    /// Whether it may lack checks that are there now and that rules ask for: those rules close.
    #[serde(default)]
    pub force: bool,
}

/// What applying a posture file did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApplyPostureReport {
    /// The revision that holds it: wait for this one.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// The flows it opened or closed, the first [`super::FLOW_CHANGES_MAX`].
    pub changes: Vec<FlowChangeView>,
    /// How many more there are.
    pub more_changes: u64,
    /// The rules that ask for checks that the file does not have: they open nothing. The first
    /// [`super::CHECK_USES_MAX`].
    #[serde(default)]
    pub warnings: Vec<Finding>,
}

/// `GET /nodes/{id-or-name}/posture`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodePosture {
    /// Which node.
    pub id: NodeId,
    /// Its name.
    pub node: Name,
    /// Whether its control channel is up.
    pub connected: bool,
    /// The controller's clock, which ages are counted by.
    pub now_ms: UnixMillis,
    /// What came of each check, in file order.
    pub checks: Vec<CheckResult>,
    /// What is known, in order of name.
    pub facts: Vec<FactView>,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckResult {
    /// Which.
    pub name: Name,
    /// `enforce` or `report`.
    pub mode: String,
    /// Whether rules that require it count it as passed.
    pub passes: bool,
    /// Whether what it asks holds.
    pub holds: bool,
    /// When it stops holding if nothing new comes.
    pub until_ms: Option<UnixMillis>,
    /// One sentence for each thing that is asked.
    pub findings: Vec<CheckFinding>,
}

/// What came of one thing that a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckFinding {
    /// The fact it is about.
    pub fact: String,
    /// Whether it is as asked.
    pub holds: bool,
    /// In words.
    pub says: String,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FactView {
    /// Its name.
    pub name: String,
    /// What it is; `null` if it cannot be told.
    pub value: Option<FactJson>,
    /// Why it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Who says so: `node`, `script:NAME`, with the fingerprint of the key that signed it, or `api:NAME`.
    pub source: String,
    /// When it was so.
    pub measured_ms: UnixMillis,
    /// When it stops counting, if it was given a time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<UnixMillis>,
}

/// A fact's value: `true`, `5`, `"text"`, `{"version": "7.1"}` or `{"time_ms": 1800000000000}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum FactJson {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// Any words.
    Text(String),
    /// A version.
    Version {
        /// It starts with a number.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        version: Version,
    },
    /// A moment.
    Time {
        /// Milliseconds since 1970.
        time_ms: UnixMillis,
    },
}

/// `PUT /nodes/{id-or-name}/facts/{name}`: what is asked for as `custom.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GiveFactRequest {
    /// What it is.
    pub value: FactJson,
    /// How long that counts.
    pub ttl_seconds: u64,
}

impl FactView {
    /// A list of them, in order of name.
    pub fn list(facts: &KnownFacts) -> Vec<Self> {
        let views = facts.iter().map(|(name, fact)| Self {
            name: name.to_string(),
            value: fact.value.clone().ok().map(FactJson::from),
            missing: fact.value.clone().err(),
            source: fact.source.to_string(),
            measured_ms: fact.measured_at,
            expires_ms: fact.expires,
        });
        views.collect()
    }

    /// What a list says, without what this end does not understand.
    pub fn known(list: &[Self]) -> KnownFacts {
        let known = list.iter().filter_map(|view| {
            let fact = Fact {
                value: match (&view.value, &view.missing) {
                    (Some(value), _) => Ok(value.clone().into()),
                    (None, why) => Err(why.clone().unwrap_or_default()),
                },
                source: FactSource::try_from(view.source.clone()).ok()?,
                measured_at: view.measured_ms,
                expires: view.expires_ms,
            };
            Some((view.name.parse().ok()?, fact))
        });
        known.collect()
    }
}

impl From<FactValue> for FactJson {
    fn from(value: FactValue) -> Self {
        match value {
            FactValue::Bool(is) => Self::Bool(is),
            FactValue::Number(number) => Self::Number(number),
            FactValue::Text(text) => Self::Text(text),
            FactValue::Version(version) => Self::Version { version },
            FactValue::Time(time_ms) => Self::Time { time_ms },
        }
    }
}

impl From<FactJson> for FactValue {
    fn from(value: FactJson) -> Self {
        match value {
            FactJson::Bool(is) => Self::Bool(is),
            FactJson::Number(number) => Self::Number(number),
            FactJson::Text(text) => Self::Text(text),
            FactJson::Version { version } => Self::Version(version),
            FactJson::Time { time_ms } => Self::Time(time_ms),
        }
    }
}
