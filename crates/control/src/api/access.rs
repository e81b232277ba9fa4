//! `/access`: what was asked to be reached for a time, by whom, and what became of it.

use ringfence_model::{AccessId, Name, NodeId, Revision, UnixMillis};
use ringfence_policy::Service;
use serde::{Deserialize, Serialize};

use super::FlowChangeView;

/// `POST /access`: for the node or for the user, one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AskAccessRequest {
    /// From which node, by name or id. If somebody is logged in there, it is for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// For whom, by address, name or id: from the one node where they are logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// In which perimeter.
    pub perimeter: Name,
    /// Which of its groups is to be reached.
    pub to: Name,
    /// What is to be opened; what rules of the file open towards that group if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub ports: Vec<Service>,
    /// For how long, from the moment it is granted.
    pub for_seconds: u64,
    /// Why.
    pub reason: String,
    /// Whether it cannot wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// `POST /access/{id}/approve`, `…/deny` and `…/review`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswerAccessRequest {
    /// What there is to say to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What asking, answering or ending did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessReport {
    /// How it stands now; absent once it has ended and owes no review.
    pub access: Option<AccessView>,
    /// The revision that holds it: wait for this one.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
    /// The flows it opened or closed, the first [`super::FLOW_CHANGES_MAX`].
    pub changes: Vec<FlowChangeView>,
    /// How many more there are.
    pub more_changes: u64,
}

/// `GET /access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessList {
    /// Oldest first.
    pub access: Vec<AccessView>,
}

/// A request for access that waits, is granted, or owes a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessView {
    /// Its number.
    pub id: AccessId,
    /// What became of it.
    pub standing: AccessState,
    /// In which perimeter.
    pub perimeter: Name,
    /// From which node.
    pub node: Name,
    /// The node's id.
    pub node_id: NodeId,
    /// Whom it is for: the provider's name, a slash and the subject; absent if it is for the node, whoever is there.
    pub user: Option<String>,
    /// What people call them.
    pub name: Option<String>,
    /// Their verified address.
    pub email: Option<String>,
    /// Which group is to be reached.
    pub to: Name,
    /// What is to be opened.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub ports: Vec<Service>,
    /// For how long, from the moment it is granted.
    pub for_seconds: u64,
    /// Why.
    pub reason: String,
    /// Whether it could not wait.
    pub break_glass: bool,
    /// Who asked.
    pub asked_by: String,
    /// When.
    pub asked_ms: UnixMillis,
    /// Until when it may be answered, while it waits.
    pub answer_by_ms: Option<UnixMillis>,
    /// Who approved it so far.
    pub approvals: Vec<ApprovalView>,
    /// How many have to.
    pub approvals_needed: u32,
    /// Since when it is granted, while it is.
    pub since_ms: Option<UnixMillis>,
    /// Until when.
    pub until_ms: Option<UnixMillis>,
    /// If it was opened before anybody approved, and nobody has reviewed it yet: by when somebody is to.
    pub review_by_ms: Option<UnixMillis>,
}

/// What became of a request for access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AccessState {
    /// It waits for approval.
    Waiting,
    /// It is granted.
    Open,
    /// It has ended, and owes a review.
    Closed,
}

/// That somebody approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalView {
    /// Who.
    pub by: String,
    /// What they said to it.
    pub reason: Option<String>,
    /// When.
    pub at_ms: UnixMillis,
}

impl AccessState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}
