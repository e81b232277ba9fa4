//! Who asks, by which token, and in which role: each handler says by its argument whom it answers.
//!
//! **Invariant:** the role is that of the state at the request, and what may be seen that of the moment it is looked at.
//! Who may not ask at all is told so before anything is looked up; of what is not theirs owners are told that it is not there.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::{StatusCode, header, request::Parts};
use ringfence_controlplane::{Actor, Role, Seen, TokenHash};
use ringfence_model::ApiTokenId;
use zeroize::Zeroizing;

use super::ApiState;
use super::problem::ApiProblem;
use super::request::{RequestId, unauthorized};
use crate::core::wall_now;

/// Somebody who may change everything.
pub(super) struct Admin(pub Actor);

/// Somebody who may see everything.
pub(super) struct Auditor;

/// Somebody who may change something: what, is judged where it is changed.
pub(super) struct Owner(pub Actor);

/// Somebody with any token: what they may see, is judged by [`ApiState::see`].
#[derive(Clone)]
pub(super) struct Reader(pub Actor);

impl ApiState {
    /// Looks at the state as this reader may see it now.
    pub(super) async fn see<R: Send + 'static>(
        &self,
        reader: &Reader,
        look: impl FnOnce(Seen<'_>) -> R + Send + 'static,
    ) -> Result<R, ApiProblem> {
        let Reader(actor) = reader.clone();
        let seen = self.core.with(move |core| {
            let seen = core.controller().seen_by(&actor, wall_now())?;
            Some(look(seen))
        });
        // It was revoked since the request came in.
        seen.await?.ok_or_else(invalid_token)
    }
}

impl FromRequestParts<ApiState> for Admin {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiProblem> {
        match caller(parts, state).await? {
            (actor, Role::Admin) => Ok(Self(actor)),
            (actor, role @ (Role::Auditor | Role::Owner { .. })) => Err(not_for(&actor, &role)),
        }
    }
}

impl FromRequestParts<ApiState> for Auditor {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiProblem> {
        match caller(parts, state).await? {
            (_, Role::Admin | Role::Auditor) => Ok(Self),
            (actor, role @ Role::Owner { .. }) => Err(not_for(&actor, &role)),
        }
    }
}

impl FromRequestParts<ApiState> for Owner {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiProblem> {
        match caller(parts, state).await? {
            (actor, Role::Admin | Role::Owner { .. }) => Ok(Self(actor)),
            (actor, role @ Role::Auditor) => Err(not_for(&actor, &role)),
        }
    }
}

impl FromRequestParts<ApiState> for Reader {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiProblem> {
        caller(parts, state).await.map(|(actor, _)| Self(actor))
    }
}

async fn caller(parts: &Parts, state: &ApiState) -> Result<(Actor, Role), ApiProblem> {
    let id = parts.extensions.get::<RequestId>();
    let id = id.map(|id| id.0.clone()).unwrap_or_default();
    let remote = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |info| info.0);
    let Some(given) = parts.headers.get(header::AUTHORIZATION) else {
        return Err(unauthorized("this needs an API token: Authorization: Bearer …"));
    };
    let token = given.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let token = token.unwrap_or("").trim();
    if state.gate.is_first_admin(token) {
        return Ok((Actor::admin("admin", id), Role::Admin));
    }
    if let Some((token, hash)) = parse(token) {
        let found = state.core.with(move |core| {
            let (controller, wall) = (core.controller(), wall_now());
            let actor = controller.api_actor((token, &hash), wall, &id)?;
            let role = controller.role_of(&actor, wall)?.clone();
            Some((actor, role))
        });
        if let Some(found) = found.await? {
            return Ok(found);
        }
    }
    Err(state.gate.refuse(remote))
}

/// An API token as it is handed out; wiped on drop.
pub(super) fn write(id: ApiTokenId, secret: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("{PREFIX}{id}_{secret}"))
}

/// Which API token a text claims to be, and the hash of the secret in it.
fn parse(text: &str) -> Option<(ApiTokenId, TokenHash)> {
    let (id, rest) = text.strip_prefix(PREFIX)?.split_at_checked(ID_CHARS)?;
    let secret = rest.strip_prefix('_')?;
    Some((id.parse().ok()?, TokenHash::of_secret(secret.as_bytes())))
}

pub(super) fn invalid_token() -> ApiProblem {
    unauthorized("the token does not count any more")
}

/// That what is asked is not for this role.
pub(super) fn not_for(actor: &Actor, role: &Role) -> ApiProblem {
    tracing::warn!(
        actor = actor.name,
        role = role.as_str(),
        "a request that is not for this role"
    );
    ApiProblem::new(
        StatusCode::FORBIDDEN,
        "not-permitted",
        "Not allowed",
        format!("this is not for a token of role {}", role.as_str()),
    )
}

/// As that of the token that `init` makes: one word for scanners of leaked secrets to look for.
const PREFIX: &str = "rfa_";
/// An id is 16 hex digits.
const ID_CHARS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_id_and_hides_its_secret() {
        let token = write(ApiTokenId(0xab), "s_e-cret");

        let (id, hash) = parse(&token).unwrap();

        assert_eq!(id, ApiTokenId(0xab));
        assert_eq!(hash, TokenHash::of_secret(b"s_e-cret"));
        for other in [
            "",
            "rfa_",
            "rfa_00000000000000ab",
            "rfa_00000000000000AB_x",
            "rfa_0000000000000é00_x",
            "rfj_00000000000000ab_x",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
