//! `/workload-issuers`: whose tokens let machines in without a join token.

use std::fmt;

use ringfence_model::{Labels, Name};
use serde::{Deserialize, Serialize};

use super::PolicyFile;

/// `GET /workload-issuers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkloadIssuerList {
    /// In order of name.
    pub issuers: Vec<WorkloadIssuerView>,
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkloadIssuerView {
    /// What it is called here.
    pub name: Name,
    /// What its tokens say as `iss`.
    pub url: String,
    /// What its tokens must say as `aud`.
    pub audience: String,
    /// Where its keys come from: `discovered`, `given`, or a URL.
    pub keys: String,
    /// The longest life of a token that counts.
    pub max_life_seconds: u64,
    /// How many rules it has.
    pub rules: usize,
    /// How many nodes of the mesh came in by its word.
    pub nodes: usize,
    /// Whether it is locked: nobody comes in by it.
    pub locked: bool,
}

/// `GET /workload-issuers/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkloadIssuerDetail {
    /// It.
    pub issuer: WorkloadIssuerView,
    /// Its file as it was set.
    pub file: PolicyFile,
    /// What its workloads are given to find this controller by: no secret.
    pub locator: String,
}

/// `PUT /workload-issuers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetWorkloadIssuerRequest {
    /// The issuer's file: its name is in it.
    pub file: PolicyFile,
}

/// `POST /workload-issuers/{name}/test`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TestWorkloadRequest {
    /// A token of the platform. It is verified and not used.
    pub jwt: String,
}

/// What a token would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkloadTest {
    /// Whose it is; `null` if it is not valid.
    pub subject: Option<String>,
    /// Whether it would let a machine in.
    pub admitted: bool,
    /// By which rule, counted from 1.
    pub rule: Option<u32>,
    /// With which labels.
    pub labels: Option<Labels>,
    /// As what, if the rule says so.
    pub name: Option<Name>,
    /// Why not, one line for each reason.
    pub why: Vec<String>,
}

// A token in a log is a way in (red line 11).
impl fmt::Debug for TestWorkloadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestWorkloadRequest")
    }
}
