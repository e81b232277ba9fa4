//! What every request passes before its handler: host, origin, token, request id, and a body that is what it says.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ringfence_control::api::{BODY_BYTES_MAX, REQUEST_ID_HEADER};
use ringfence_transport::{AttemptLimiter, SERVER_NAME, Source};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::{ApiProblem, ProblemBody};
use super::{ApiState, scim};

/// Who may ask, and under which names this API answers.
pub struct Gate {
    admin_token_hash: [u8; 32],
    hosts: Vec<String>,
    failures: Mutex<AttemptLimiter>,
    logout_tokens: Mutex<AttemptLimiter>,
}

/// The request's id: the caller's, if it is a plain one, or a new one.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub String);

/// A JSON body; what is wrong with it is said with line and column.
pub(super) struct Body<T>(pub T);

impl Gate {
    /// Lets in whoever holds the token of this hash, asking for one of `hosts` (without port).
    pub fn new(admin_token_hash: [u8; 32], hosts: Vec<String>) -> Self {
        Self {
            admin_token_hash,
            hosts,
            failures: Mutex::new(AttemptLimiter::new(FAILURES_BURST, FAILURE_EVERY)),
            logout_tokens: Mutex::new(AttemptLimiter::new(LOGOUT_TOKENS_BURST, LOGOUT_TOKEN_EVERY)),
        }
    }

    /// A name we answer to, or any address: an attacker's page can rebind a name to us, never an address (red line 9).
    fn knows(&self, host: &str) -> bool {
        let name = strip_port(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case(SERVER_NAME)
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether one more logout token from `source` is looked at.
    pub(super) fn hears_tokens(&self, source: Source, now: Instant) -> bool {
        let mut tokens = self.logout_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.admit(source, now)
    }

    /// Counts a wrong token, and says whether `source` may go on guessing.
    pub(super) fn counts_failure(&self, source: Source, now: Instant) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.admit(source, now)
    }

    /// Whether this is the token that `init` made.
    pub(super) fn is_first_admin(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        hash.ct_eq(&self.admin_token_hash).into()
    }

    /// What to tell `remote`, which presented a token that does not count; guessing is slowed down.
    pub(super) fn refuse(&self, remote: SocketAddr) -> ApiProblem {
        if !self.counts_failure(Source::of(remote.ip()), Instant::now()) {
            return ApiProblem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-failures",
                "Too many wrong tokens",
                "too many requests with a wrong token came from this address: wait a minute",
            );
        }
        tracing::warn!(remote = %remote.ip(), "a request with a wrong API token");
        unauthorized(
            "the token is not valid: use the context file that `ringfence-controller init` wrote, or a token that \
             `ringfence api-token create` made and that still counts",
        )
    }
}

/// Checks host and origin, names the request, and writes the name into answers and problems.
pub(super) async fn enter(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers().get(REQUEST_ID_HEADER));
    let problem = check_host(&state.gate, &request).err();
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let mut response = match problem {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    if let Some(problem) = response.extensions_mut().remove::<ProblemBody>() {
        response = problem.with_request_id(&id);
    } else if !response.status().is_success() && !scim::is_answer(&response) {
        // What the framework says no to by itself: a path that is no text, a request that took too long.
        response = ApiProblem::of_status(response.status())
            .with_request_id(&id)
            .into_response();
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), request_id = id, took = ?started.elapsed(), "request");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn check_host(gate: &Gate, request: &Request) -> Result<(), ApiProblem> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or(""))
    };
    let host = text(header::HOST).or_else(|| request.uri().host()).unwrap_or("");
    if !gate.knows(host) {
        return Err(ApiProblem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown-host",
            "This is not that host",
            format!("{host:?} is no name of this controller: use the address it advertises"),
        ));
    }
    // No page of ours calls this API: a browser that does is led by somebody else.
    if text(header::ORIGIN).is_some() {
        return Err(ApiProblem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "Not from a web page",
            "this API does not answer web pages",
        ));
    }
    Ok(())
}

fn request_id(given: Option<&HeaderValue>) -> String {
    let plain = |text: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if let Some(id) = given.and_then(|value| value.to_str().ok()).filter(plain) {
        return id.to_owned();
    }
    let mut random = [0; 8];
    // Without randomness the id is all zeros: it names a request, it protects nothing.
    let _ = getrandom::fill(&mut random);
    hex::encode(random)
}

impl<T: DeserializeOwned> FromRequest<ApiState> for Body<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiProblem> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let essence = kind.unwrap_or("").split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiProblem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "The body is not JSON",
                "send the body as Content-Type: application/json",
            ));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            ApiProblem::new(
                rejection.status(),
                "body",
                "The body cannot be read",
                format!("{rejection}: it may be {BODY_BYTES_MAX} bytes long"),
            )
        })?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(ApiProblem::bad_request(format!(
                "the JSON body is malformed: {error}"
            ))),
        }
    }
}

pub(super) fn unauthorized(detail: &str) -> ApiProblem {
    ApiProblem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who are you?", detail)
}

fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of a bare IPv6 address are no port's.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            if port.bytes().all(|b| b.is_ascii_digit()) {
                name
            } else {
                host
            }
        }
        _ => host,
    }
}

const REQUEST_ID_BYTES_MAX: usize = 64;
/// Wrong tokens one source may present at once…
const FAILURES_BURST: u32 = 10;
/// …and then one so often. A 256-bit token is not guessed; this keeps the log readable.
const FAILURE_EVERY: Duration = Duration::from_secs(6);

/// Logout tokens one source may show at once: a provider that ends everybody's sessions has as many…
const LOGOUT_TOKENS_BURST: u32 = 1_000;
/// …and then one so often. Verifying one takes a public-key operation.
const LOGOUT_TOKEN_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_ours_is_not_answered() {
        let gate = Gate::new([0; 32], vec!["mesh.example".to_owned()]);

        for ours in [
            "mesh.example:7443",
            "MESH.example",
            "ringfence-controller",
            "10.0.0.1:7443",
            "[fd77::1]:7443",
            "localhost:1",
        ] {
            assert!(gate.knows(ours), "{ours}");
        }
        for other in [
            "",
            "evil.example",
            "mesh.example.evil.example",
            "10.0.0.1.evil.example:7443",
        ] {
            assert!(!gate.knows(other), "{other}");
        }
    }

    #[test]
    fn only_plain_request_ids_are_taken_over() {
        let given = HeaderValue::from_static("deploy-42");
        assert_eq!(request_id(Some(&given)), "deploy-42");

        let odd = HeaderValue::from_static("a b\"c");
        assert_eq!(request_id(Some(&odd)).len(), 16);
        assert_eq!(request_id(None).len(), 16);
    }

    #[test]
    fn guessing_tokens_is_slowed_down() {
        let token = "rfa_right";
        let gate = Gate::new(Sha256::digest(token).into(), Vec::new());
        let remote: SocketAddr = "192.0.2.1:1".parse().unwrap();

        for _ in 0..FAILURES_BURST {
            assert_eq!(
                gate.refuse(remote).into_response().status(),
                StatusCode::UNAUTHORIZED
            );
        }
        let slowed = gate.refuse(remote).into_response();
        assert_eq!(slowed.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(gate.is_first_admin(token) && !gate.is_first_admin("rfa_wrong"));
    }
}
