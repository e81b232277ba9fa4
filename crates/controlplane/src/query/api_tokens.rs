//! Who else may ask, and who it is that asks.

use ringfence_control::api;
use ringfence_model::{ApiTokenId, UnixMillis};

use crate::{Actor, ApiToken, Controller, Role, TokenHash};

impl Controller {
    /// Who presents a secret of this hash, if it is that of an API token that counts at `wall`.
    pub fn api_actor(
        &self,
        (token, secret_hash): (ApiTokenId, &TokenHash),
        wall: UnixMillis,
        request_id: &str,
    ) -> Option<Actor> {
        let token = self.state().counting(token, wall)?;
        // In constant time (TokenHash).
        (token.secret_hash == *secret_hash).then(|| Actor::api_token(token, request_id))
    }

    /// Every API token, in order of id.
    pub fn api_tokens(&self) -> impl Iterator<Item = &ApiToken> {
        self.state().api_tokens.values().map(AsRef::as_ref)
    }

    /// The API token that a name or id means.
    pub fn find_api_token(&self, text: &str) -> Option<ApiTokenId> {
        let id: Option<ApiTokenId> = text.parse().ok();
        let mut meant = self
            .api_tokens()
            .filter(|token| Some(token.id) == id || token.name.as_ref() == text);
        meant.next().map(|token| token.id)
    }

    /// Every API token, in order of name, without its secret.
    pub fn api_token_views(&self, wall: UnixMillis) -> Vec<api::ApiTokenView> {
        let each = self.api_tokens();
        let mut views: Vec<_> = each
            .map(|token| api::ApiTokenView {
                id: token.id,
                name: token.name.clone(),
                role: role_view(&token.role),
                perimeters: match &token.role {
                    Role::Admin | Role::Auditor => Vec::new(),
                    Role::Owner { perimeters } => perimeters.iter().cloned().collect(),
                },
                stands_for: token.stands_for.clone(),
                created_ms: token.created_at,
                created_by: token.created_by.clone(),
                expires_ms: token.expires,
                counts: self.state().counting(token.id, wall).is_some(),
            })
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }
}

fn role_view(role: &Role) -> api::Role {
    match role {
        Role::Admin => api::Role::Admin,
        Role::Auditor => api::Role::Auditor,
        Role::Owner { .. } => api::Role::Owner,
    }
}
