//! The shapes of the REST API, shared by the controller that serves it and the CLI that asks it.
//!
//! Requests refuse unknown fields; answers may gain fields. Times are milliseconds since 1970 in fields that end in
//! `_ms`; revisions are text, `"1.42"`; node ids are 16 hex digits, keys base64 as `wg` writes them.

mod access;
mod account;
mod api_token;
mod audit;
mod device;
mod drill;
mod explain;
mod flow;
mod lock;
mod node;
mod people;
mod perimeter;
mod posture;
mod problem;
mod provider;
mod revision;
mod token;
mod workload;

pub use access::{
    AccessList, AccessReport, AccessState, AccessView, AnswerAccessRequest, ApprovalView, AskAccessRequest,
};
pub use account::{AccountList, AccountView, AddAccountRequest, InvitedAccount, PatchAccountRequest};
pub use api_token::{ApiTokenList, ApiTokenView, CreateApiTokenRequest, CreatedApiToken, Role};
pub use audit::{AuditActor, AuditEntry, AuditList, AuditVerification, BrokenEntry};
pub use device::{AddPeerRequest, PeerConfig, PeerList, PeerView};
pub use drill::{RevokeDrillReport, RevokeDrillRequest};
pub use explain::{AsIf, ExplainReport, ExplainRequest, Explained, VerifyReport, VerifyRequest, VerifyRow};
pub use flow::{FlowList, FlowView, MissingFlows};
pub use lock::{LockList, LockReport, LockRequest, LockView};
pub use node::{AdmissionView, NodeList, NodeView, PatchNodeRequest};
pub use people::{PatchUserRequest, SessionList, SessionView, UserList, UserView};
pub use perimeter::{
    ApplyReport, ApplyRequest, FlowChangeKind, FlowChangeView, GroupView, MemberView, PerimeterDetail,
    PerimeterList, PerimeterSummary, PolicyFile, RuleView,
};
pub use posture::{
    ApplyPostureReport, ApplyPostureRequest, CheckFinding, CheckResult, CheckSummary, FactJson, FactView,
    GiveFactRequest, NodePosture, PostureDetail,
};
pub use problem::{Finding, Problem};
pub use provider::{AddProviderRequest, CreatedScimToken, ProviderList, ProviderView, ScimView};
pub use revision::{ChangeReport, Health, LatestRevision, NodeAck, OfflineNode, Receipt, RevisionReceipt};
pub use token::{CreateTokenRequest, CreatedToken, TokenList, TokenState, TokenView};
pub use workload::{
    SetWorkloadIssuerRequest, TestWorkloadRequest, WorkloadIssuerDetail, WorkloadIssuerList,
    WorkloadIssuerView, WorkloadTest,
};

/// What a flow may do, in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

/// Where every route starts.
pub const PREFIX: &str = "/api/v1";

/// Where identity providers tell of sessions that ended there (OpenID Connect Back-Channel Logout 1.0).
pub const BACKCHANNEL_LOGOUT_ROUTE: &str = "/oidc/backchannel-logout/{provider}";

/// Where identity providers say who their people are (SCIM 2.0, RFC 7644).
pub const SCIM_ROUTE: &str = "/scim/v2";

/// The longest request body the controller reads.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How many changed flows a report lists: groups of a thousand make a million pairs, which nobody reads.
pub const FLOW_CHANGES_MAX: usize = 10_000;

/// How many rules an answer about the posture file lists that ask for checks which it does not have.
pub const CHECK_USES_MAX: usize = 1_000;

/// How many nodes a receipt lists of those that enforce a revision.
pub const RECEIPT_NODES_MAX: usize = 1_000;

/// The content type of a [`Problem`].
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// The header that names a request in the audit trail; the controller makes one up where it is missing.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

#[cfg(test)]
mod tests;
