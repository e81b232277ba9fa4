//! The REST API: what administrators ask and change, as JSON over HTTPS.
//!
//! Each route proves who asks (`caller`), asks the core, and answers; the shapes are those of
//! `ringfence_control::api`. A change is answered 2xx only once it is on the disk (red line 10).

mod access;
mod accounts;
mod api_tokens;
mod audit;
mod backchannel;
mod caller;
mod drills;
mod flows;
mod locks;
mod nodes;
mod openapi;
mod past;
mod peers;
mod people;
mod perimeters;
mod policy;
mod posture;
mod problem;
mod providers;
mod request;
mod revisions;
mod scim;
mod scim_tokens;
mod tokens;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::middleware;
use axum::routing::{delete, get, post, put};
use ringfence_control::api::{BACKCHANNEL_LOGOUT_ROUTE, BODY_BYTES_MAX, PREFIX, SCIM_ROUTE};
use tower_http::timeout::TimeoutLayer;

use crate::core::CoreHandle;
use crate::flows::Flows;
use crate::identity::{LocalAccounts, Logins, Workloads};
use crate::sessions::Sessions;

pub use problem::ApiProblem;
pub use request::Gate;

/// What every handler can reach.
#[derive(Clone)]
pub struct ApiState {
    /// State and log.
    pub core: CoreHandle,
    /// What nodes told of ended flows.
    pub flows: Flows,
    /// The logins of people at nodes.
    pub logins: Logins,
    /// Whose tokens let workloads in.
    pub workloads: Workloads,
    /// Those who need no provider.
    pub accounts: LocalAccounts,
    /// The nodes connected now.
    pub sessions: Sessions,
    /// Who may ask.
    pub gate: Arc<Gate>,
    /// What join tokens say about this controller.
    pub join: Arc<JoinFacts>,
}

/// What a join token says about its controller.
#[derive(Clone, Debug)]
pub struct JoinFacts {
    /// Where nodes reach it, `host:port`.
    pub controllers: Vec<String>,
    /// SHA-256 of the CA's certificate.
    pub ca_fingerprint: [u8; 32],
}

/// All routes.
pub fn router(state: ApiState) -> Router {
    let routes = of_people()
        .route("/openapi.json", get(openapi::document))
        .route("/health", get(revisions::health))
        .route("/perimeters", get(perimeters::list).post(perimeters::apply))
        .route(
            "/perimeters/{name}",
            get(perimeters::show).delete(perimeters::remove),
        )
        .route("/nodes", get(nodes::list))
        .route(
            "/nodes/{node}",
            get(nodes::show).patch(nodes::update).delete(nodes::remove),
        )
        .route("/nodes/{node}/posture", get(posture::of_node))
        .route("/nodes/{node}/facts/{name}", put(posture::give))
        .route("/posture", get(posture::show).put(posture::apply))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}", delete(tokens::revoke))
        .route("/api-tokens", get(api_tokens::list).post(api_tokens::create))
        .route("/api-tokens/{token}", delete(api_tokens::revoke))
        .route("/peers", get(peers::list).post(peers::add))
        .route("/peers/{name}", get(peers::show).delete(peers::remove))
        .route("/locks", get(locks::list).post(locks::set))
        .route("/locks/{id}", delete(locks::lift))
        .route("/access", get(access::list).post(access::ask))
        .route("/access/{id}", get(access::show))
        .route("/access/{id}/approve", post(access::approve))
        .route("/access/{id}/deny", post(access::deny))
        .route("/access/{id}/end", post(access::end))
        .route("/access/{id}/review", post(access::review))
        .route("/workload-issuers", get(workloads::list).put(workloads::set))
        .route(
            "/workload-issuers/{name}",
            get(workloads::show).delete(workloads::remove),
        )
        .route("/workload-issuers/{name}/test", post(workloads::test))
        .route("/explain", post(policy::explain))
        .route("/verify", post(policy::verify))
        .route("/drills/revoke", post(drills::revoke))
        .route("/audit", get(audit::list))
        .route("/audit/verify", get(audit::verify))
        .route("/flows", get(flows::list))
        .route("/revisions/latest", get(revisions::latest))
        .route("/revisions/{revision}/wait", get(revisions::wait))
        .route("/revisions/{revision}/receipt", get(revisions::receipt));
    Router::new()
        .nest(PREFIX, routes)
        .nest(SCIM_ROUTE, scim::routes())
        .route(BACKCHANNEL_LOGOUT_ROUTE, post(backchannel::logout))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            REQUEST_TIME_MAX,
        ))
        .layer(middleware::from_fn_with_state(state.clone(), request::enter))
        .with_state(state)
}

/// Who people are, by whose word, and where they are logged in.
fn of_people() -> Router<ApiState> {
    Router::new()
        .route("/sessions", get(people::sessions))
        .route("/sessions/{id}", delete(people::end))
        .route("/users", get(people::users).patch(people::update))
        .route("/accounts", get(accounts::list).post(accounts::add))
        .route(
            "/accounts/{name}",
            delete(accounts::remove).patch(accounts::update),
        )
        .route("/accounts/{name}/reset", post(accounts::reset))
        .route("/providers", get(providers::list).post(providers::add))
        .route("/providers/{name}", delete(providers::remove))
        .route(
            "/providers/{name}/scim-token",
            post(scim_tokens::create).delete(scim_tokens::revoke),
        )
}

async fn unknown_route(uri: Uri) -> ApiProblem {
    ApiProblem::not_found(format!("there is no {}: see {PREFIX}/openapi.json", uri.path()))
}

async fn wrong_method(uri: Uri) -> ApiProblem {
    ApiProblem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "The method does not fit",
        format!(
            "{} does not take this method: see {PREFIX}/openapi.json",
            uri.path()
        ),
    )
}

/// The longest a request may take, a `wait` included.
const REQUEST_TIME_MAX: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests;
