//! `/perimeters`: policy files in, perimeters and flow changes out.

use std::net::IpAddr;

use ringfence_model::{Name, NodeId, PublicKey, Revision, RuleId, UnixMillis};
use ringfence_policy::Service;
use serde::{Deserialize, Serialize};

use super::Finding;
use crate::PeerKind;

/// `POST /perimeters`: makes the files the policy of the perimeters they name, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// One for each perimeter.
    pub files: Vec<PolicyFile>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Remove every perimeter that no file names.
    #[serde(default)]
    pub prune: bool,
    /// Refuse if the controller is past this revision: what was reviewed is what is applied.
    #[serde(
        default,
        with = "crate::text::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub base: Option<Revision>,
}

/// A policy file and what to call it in errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Its name, for errors alone.
    pub name: String,
    /// The TOML.
    pub text: String,
}

/// What an apply did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApplyReport {
    /// The revision that holds it; for a dry run the one it was computed from.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The perimeters set.
    pub applied: Vec<Name>,
    /// The perimeters removed by `prune`.
    pub removed: Vec<Name>,
    /// The flows that opened or closed, the first [`super::FLOW_CHANGES_MAX`].
    pub changes: Vec<FlowChangeView>,
    /// How many more there are.
    #[serde(default)]
    pub more_changes: u64,
    /// What is odd about the files but no error.
    pub warnings: Vec<Finding>,
}

/// A flow that a change opens or closes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FlowChangeView {
    /// In which perimeter.
    pub perimeter: Name,
    /// Who may open the conversation.
    pub from: Name,
    /// Towards whom.
    pub to: Name,
    /// What: `tcp/5432`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub service: Service,
    /// Which way.
    pub change: FlowChangeKind,
    /// The rule that opens it now, or opened it before.
    pub rule: RuleId,
}

/// Which way a flow changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FlowChangeKind {
    /// It was denied and is allowed.
    Opens,
    /// It was allowed and is denied.
    Closes,
}

/// `GET /perimeters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PerimeterList {
    /// In order of name.
    pub perimeters: Vec<PerimeterSummary>,
}

/// A perimeter at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PerimeterSummary {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// Who answers for it.
    pub owners: Vec<String>,
    /// `low`, `medium`, `high` or `critical`.
    pub criticality: String,
    /// How often it is to be reviewed, in seconds.
    pub review_seconds: Option<u64>,
    /// How long its segments stay open without word from the controller.
    pub lease_seconds: u64,
    /// How many nodes and devices are in it now.
    pub members: u32,
    /// How many allow rules its policy has.
    pub rules: u32,
    /// When its policy was last set.
    pub changed_ms: UnixMillis,
    /// The revision that set it.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}

/// `GET /perimeters/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PerimeterDetail {
    /// At a glance.
    pub summary: PerimeterSummary,
    /// The policy file as it was applied.
    pub file: PolicyFile,
    /// Its member groups, in order of name.
    pub groups: Vec<GroupView>,
    /// Its members, in order of name.
    pub members: Vec<MemberView>,
    /// Its allow rules, in file order.
    pub rules: Vec<RuleView>,
    /// What is odd about it.
    pub warnings: Vec<Finding>,
}

/// A member group and who is in it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupView {
    /// Its name.
    pub name: Name,
    /// Its selector, as the file writes it.
    pub selector: String,
    /// Who it selects, in order of name.
    pub members: Vec<Name>,
}

/// A member of a perimeter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// What runs there.
    pub kind: PeerKind,
    /// Its overlay addresses here, IPv4 first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// Its key here; absent until it has registered one.
    pub public_key: Option<PublicKey>,
    /// How many peers it may talk to.
    pub peers: u32,
}

/// An allow rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RuleView {
    /// Its place in the file.
    pub id: RuleId,
    /// The file's line.
    pub line: u32,
    /// Who may open.
    pub from: Name,
    /// Towards whom.
    pub to: Name,
    /// What, as the file writes it.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub services: Vec<Service>,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub expires_ms: Option<UnixMillis>,
    /// Why it opens nothing now; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive: Option<String>,
}
