//! `/oidc/backchannel-logout/…`: an identity provider tells of a session that ended there.
//!
//! Nobody proves who asks: the signed token in the body is the whole authority.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use ringfence_controlplane::{Actor, Command, PeopleCommand, Refusal, SessionEnd, SessionsOf, UserId};
use ringfence_model::Name;
use ringfence_transport::Source;

use super::ApiState;
use super::perimeters::parse_name;
use super::problem::ApiProblem;
use crate::core::CommitError;
use crate::identity::EndedAtProvider;

/// Ends the sessions that a logout token names.
pub(super) async fn logout(
    State(state): State<ApiState>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiProblem> {
    let remote = remote.map_or(IpAddr::from([0, 0, 0, 0]), |Extension(info)| info.0.ip());
    let provider = parse_name(&provider)?;
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    let mut fields = form_urlencoded::parse(&body);
    let token = fields
        .find(|(name, _)| name == "logout_token")
        .map(|(_, token)| token.into_owned());
    let Some(token) = token.filter(|_| essence.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    else {
        return Err(refused());
    };
    if !state.gate.hears_tokens(Source::of(remote), Instant::now()) {
        return Err(ApiProblem::of_status(StatusCode::TOO_MANY_REQUESTS));
    }
    match state.logins.ended_at_provider(&provider, &token).await {
        Ok(ended) => {
            end(&state, &provider, ended).await?;
            Ok(StatusCode::OK)
        }
        Err(error) => {
            tracing::warn!(%provider, %remote, %error, "a logout token was refused");
            Err(refused())
        }
    }
}

async fn end(state: &ApiState, provider: &Name, ended: EndedAtProvider) -> Result<(), ApiProblem> {
    let of = match ended {
        EndedAtProvider {
            session: Some(session),
            ..
        } => SessionsOf::ProviderSession {
            provider: provider.clone(),
            session,
        },
        EndedAtProvider {
            subject: Some(subject),
            ..
        } => SessionsOf::User(UserId {
            provider: provider.clone(),
            subject,
        }),
        EndedAtProvider { .. } => return Ok(()),
    };
    let command = Command::People(PeopleCommand::EndSessions {
        of,
        cause: SessionEnd::ByProvider,
    });
    let actor = Actor::system("identity", "backchannel-logout");
    match state.core.commit(actor, command).await? {
        // Nobody is logged in by it any more: what was asked for.
        Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// 400, as section 2.8 of Back-Channel Logout 1.0 has it. Why is in our log, not for whoever sent it.
fn refused() -> ApiProblem {
    ApiProblem::bad_request("this is no logout token that counts here: the controller's log says why")
}
