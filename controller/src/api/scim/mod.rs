//! `/scim/v2`: identity providers say who their people are (SCIM 2.0, RFC 7643 and RFC 7644).
//!
//! **Invariant:** a request is carried out in the same turn of the core that finds its token good, and for the provider
//! of that token alone.

mod discovery;
mod filter;
mod group;
mod list;
mod patch;
mod problem;
mod user;

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ringfence_control::api::{BODY_BYTES_MAX, SCIM_ROUTE};
use ringfence_controlplane::{Actor, Command, Directory, DirectoryCommand, DirectoryEvent, Event, TokenHash};
use ringfence_model::{DirectoryId, Name, UnixMillis};
use ringfence_transport::Source;
use serde_json::{Map, Value, json};

use self::problem::ScimProblem;
use super::ApiState;
use super::request::RequestId;
use crate::core::Core;

/// Whoever shows a SCIM token that counts.
#[derive(Clone)]
struct Caller {
    token_hash: TokenHash,
    request_id: String,
    /// What the addresses of resources begin with.
    base: String,
}

/// A directory while its provider speaks.
struct Opened<'a> {
    core: &'a mut Core,
    provider: Name,
    caller: &'a Caller,
}

/// A resource in JSON, as SCIM sends it.
struct Resource(Map<String, Value>);

/// All routes of it.
pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/Users", get(user::list).post(user::create))
        .route(
            "/Users/{id}",
            get(user::show)
                .put(user::replace)
                .patch(user::change)
                .delete(user::remove),
        )
        .route("/Groups", get(group::list).post(group::create))
        .route(
            "/Groups/{id}",
            get(group::show)
                .put(group::replace)
                .patch(group::change)
                .delete(group::remove),
        )
        .route("/ServiceProviderConfig", get(discovery::service_provider))
        .route("/ResourceTypes", get(discovery::resource_types))
        .route("/Schemas", get(discovery::schemas))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
}

/// Whether an answer speaks SCIM already.
pub(super) fn is_answer(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind == CONTENT_TYPE)
}

async fn unknown_route(uri: Uri) -> ScimProblem {
    ScimProblem::not_found(format!("there is no {}", uri.path()))
}

async fn wrong_method(uri: Uri) -> ScimProblem {
    ScimProblem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        None,
        format!("{} does not take this method", uri.path()),
    )
}

impl ApiState {
    /// Does something in the directory of whoever calls.
    async fn in_directory<R: Send + 'static>(
        &self,
        caller: Caller,
        work: impl FnOnce(&mut Opened<'_>) -> Result<R, ScimProblem> + Send + 'static,
    ) -> Result<R, ScimProblem> {
        self.core
            .with(move |core| {
                let provider = core.controller().provider_by_scim_token(&caller.token_hash);
                // Revoked since it was looked at.
                let provider = provider.cloned().ok_or_else(ScimProblem::unauthorized)?;
                work(&mut Opened {
                    core,
                    provider,
                    caller: &caller,
                })
            })
            .await?
    }
}

impl Opened<'_> {
    fn directory(&self) -> Result<&Directory, ScimProblem> {
        let directory = self.core.controller().directory(&self.provider);
        directory.ok_or_else(ScimProblem::unauthorized)
    }

    /// Says it to the core. What is so already is a success; the id is that of what is new.
    fn say(&mut self, command: DirectoryCommand) -> Result<Option<DirectoryId>, ScimProblem> {
        let actor = Actor::directory(&self.provider, self.caller.request_id.as_str());
        let (change, _) = self.core.commit_described(&actor, &Command::Directory(command))?;
        let events = change.iter().flat_map(|change| &change.events);
        let mut created = events.filter_map(|event| match event {
            Event::Directory(event) => match event.as_ref() {
                DirectoryEvent::PersonProvisioned { person, .. } => Some(person.id),
                DirectoryEvent::GroupProvisioned { group, .. } => Some(group.id),
                _ => None,
            },
            _ => None,
        });
        Ok(created.next())
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ScimProblem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ScimProblem> {
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let token = text(header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
        let Some(token) = token else {
            return Err(ScimProblem::unauthorized());
        };
        let token_hash = TokenHash::of_secret(token.trim().as_bytes());
        let is_known = move |core: &mut Core| core.controller().provider_by_scim_token(&token_hash).is_some();
        if !state.core.with(is_known).await? {
            let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>();
            let remote = remote.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |info| info.0);
            if !state.gate.counts_failure(Source::of(remote.ip()), Instant::now()) {
                return Err(ScimProblem::too_many_failures());
            }
            tracing::warn!(remote = %remote.ip(), "a request with a wrong SCIM token");
            return Err(ScimProblem::unauthorized());
        }
        let request_id = parts.extensions.get::<RequestId>();
        let host = text(header::HOST).or_else(|| parts.uri.host());
        Ok(Self {
            token_hash,
            request_id: request_id.map(|id| id.0.clone()).unwrap_or_default(),
            base: format!("https://{}{SCIM_ROUTE}", host.unwrap_or("")),
        })
    }
}

impl FromRequest<ApiState> for Resource {
    type Rejection = ScimProblem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ScimProblem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
        let essence = kind.split(';').next().unwrap_or("").trim();
        if ![CONTENT_TYPE, "application/json"].contains(&essence.to_ascii_lowercase().as_str()) {
            let detail = format!("send the body as Content-Type: {CONTENT_TYPE}");
            return Err(ScimProblem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let detail = format!("{rejection}: it may be {BODY_BYTES_MAX} bytes long");
            ScimProblem::new(rejection.status(), None, detail)
        })?;
        let body = serde_json::from_slice(&bytes);
        body.map(Self)
            .map_err(|error| ScimProblem::invalid_syntax(error.to_string()))
    }
}

/// An answer with a body.
fn answer(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, CONTENT_TYPE)];
    (status, kind, body.to_string()).into_response()
}

/// The answer to what made something: it, and where it is.
fn created(resource: &Value) -> Response {
    let mut response = answer(StatusCode::CREATED, resource);
    let location = resource["meta"]["location"].as_str().unwrap_or("");
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// `meta` of a resource (RFC 7643 section 3.1).
fn meta(kind: &str, location: &str, (created, changed): (UnixMillis, UnixMillis)) -> Value {
    json!({
        "resourceType": kind,
        "created": time(created),
        "lastModified": time(changed),
        "location": location,
    })
}

fn time(at: UnixMillis) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    at.to_string()
}

/// An id from a path: what is none names nothing.
fn parse_id(text: &str) -> Result<DirectoryId, ScimProblem> {
    text.parse()
        .map_err(|_| ScimProblem::not_found(format!("there is no {text}")))
}

const CONTENT_TYPE: &str = "application/scim+json";

#[cfg(test)]
mod tests;
