//! How the API says no: RFC 9457 problems, with a status that fits.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ringfence_control::api::{Finding, PROBLEM_CONTENT_TYPE, Problem};
use ringfence_controlplane::{Refusal, RefusalKind};

use crate::core::{CommitError, CoreGone};
use crate::store::StoreError;

/// A [`Problem`] on its way out. Boxed: it is large, and the ordinary case is that there is none.
#[derive(Debug)]
pub struct ApiProblem(Box<Problem>);

impl ApiProblem {
    /// A problem of one of our kinds.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status.as_u16(), code, title, detail)))
    }

    /// The request itself is wrong.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request is malformed",
            detail,
        )
    }

    /// It names something that is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such thing",
            detail,
        )
    }

    /// What a bare status stands for.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::GATEWAY_TIMEOUT => Self::new(
                status,
                "timeout",
                "It took too long",
                "the request was not answered in time: ask whether it was carried out before trying again",
            ),
            status if status.is_server_error() => Self::internal("see the controller's log"),
            status => Self::new(
                status,
                "bad-request",
                "The request is malformed",
                "the path, the query or a header cannot be read",
            ),
        }
    }

    /// Adds the request's id, to find it in the log.
    pub fn with_request_id(mut self, id: &str) -> Self {
        self.0.request_id = Some(id.to_owned());
        self
    }

    /// Its status and what it says, for those who say no in another form.
    pub(super) fn into_parts(self) -> (StatusCode, String) {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, self.0.detail)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something broke",
            detail,
        )
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&*self.0)).into_response();
        let kind = HeaderValue::from_static(PROBLEM_CONTENT_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"ringfence\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        // The middleware adds the request's id to problems it finds here.
        response.extensions_mut().insert(ProblemBody(self.0));
        response
    }
}

/// Lets the middleware that knows the request's id write the body again with it.
#[derive(Clone, Debug)]
pub(super) struct ProblemBody(Box<Problem>);

impl ProblemBody {
    pub(super) fn with_request_id(self, id: &str) -> Response {
        ApiProblem(self.0).with_request_id(id).into_response()
    }
}

impl From<Refusal> for ApiProblem {
    fn from(refusal: Refusal) -> Self {
        let (status, title) = match refusal.kind() {
            RefusalKind::Unchanged => (StatusCode::OK, "Nothing to change"),
            RefusalKind::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The request cannot be carried out",
            ),
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, "There is no such thing"),
            RefusalKind::Conflict => (StatusCode::CONFLICT, "It does not fit what is there"),
            RefusalKind::Denied => (StatusCode::FORBIDDEN, "Not allowed"),
            RefusalKind::Limit => (StatusCode::UNPROCESSABLE_ENTITY, "A limit is reached"),
        };
        let mut problem = Self::new(status, refusal.code(), title, refusal.to_string());
        if let Refusal::Policy(diagnostics) = &refusal {
            let count = diagnostics.len();
            problem.0.detail = format!("{count} error{} in policy: nothing was applied", plural(count));
            problem.0.findings = diagnostics.iter().map(Finding::from).collect();
        }
        if let Refusal::ChecksInUse(uses) = &refusal {
            problem.0.detail = String::from(CHECKS_IN_USE);
            problem.0.findings = uses.iter().map(Finding::from).collect();
        }
        problem
    }
}

impl From<CommitError> for ApiProblem {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(refusal) => refusal.into(),
            CommitError::Store(error) => error.into(),
            CommitError::Broken(why) => Self::internal(why),
        }
    }
}

impl From<StoreError> for ApiProblem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk-full",
                "The disk is full",
                error.to_string(),
            ),
            StoreError::Damaged { .. }
            | StoreError::Format { .. }
            | StoreError::Stale { .. }
            | StoreError::Database(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<CoreGone> for ApiProblem {
    fn from(gone: CoreGone) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting-down",
            "The controller is shutting down",
            gone.to_string(),
        )
    }
}

const CHECKS_IN_USE: &str = "the file lacks checks that rules ask for: nothing was changed; take them out of the rules \
                             first, or close those rules with --force (`force` in the API)";

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
