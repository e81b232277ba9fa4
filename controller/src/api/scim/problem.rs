//! How SCIM says no (RFC 7644 section 3.12).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ringfence_controlplane::{DirectoryRefusal, Refusal};
use serde_json::json;

use super::answer;
use crate::api::problem::ApiProblem;
use crate::core::{CommitError, CoreGone};

/// An error on its way out.
#[derive(Debug)]
pub(super) struct ScimProblem {
    status: StatusCode,
    /// `scimType`, one of the words of the RFC.
    kind: Option<&'static str>,
    detail: String,
}

impl ScimProblem {
    pub(super) fn new(status: StatusCode, kind: Option<&'static str>, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
        }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, None, detail)
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "this needs the SCIM token of an identity provider: `ringfence scim token` makes one";
        Self::new(StatusCode::UNAUTHORIZED, None, detail)
    }

    pub(super) fn too_many_failures() -> Self {
        let detail = "too many requests with a wrong token came from this address: wait a minute";
        Self::new(StatusCode::TOO_MANY_REQUESTS, None, detail)
    }

    pub(super) fn invalid_syntax(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalidSyntax"), detail)
    }

    pub(super) fn invalid_filter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalidFilter"), detail)
    }

    pub(super) fn invalid_path(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalidPath"), detail)
    }

    pub(super) fn invalid_value(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalidValue"), detail)
    }

    pub(super) fn no_target(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("noTarget"), detail)
    }
}

impl IntoResponse for ScimProblem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": self.status.as_str(),
            "detail": self.detail,
        });
        if let Some(kind) = self.kind {
            body["scimType"] = kind.into();
        }
        let mut response = answer(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"ringfence-scim\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<CommitError> for ScimProblem {
    fn from(error: CommitError) -> Self {
        let kind = match &error {
            CommitError::Refused(Refusal::Directory(DirectoryRefusal::NameTaken(_))) => Some("uniqueness"),
            CommitError::Refused(_) | CommitError::Store(_) | CommitError::Broken(_) => None,
        };
        let (status, detail) = ApiProblem::from(error).into_parts();
        // The RFC knows no 422.
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            return Self::invalid_value(detail);
        }
        Self::new(status, kind, detail)
    }
}

impl From<CoreGone> for ScimProblem {
    fn from(gone: CoreGone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, gone.to_string())
    }
}
