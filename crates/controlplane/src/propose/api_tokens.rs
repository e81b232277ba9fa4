//! API tokens: made, revoked, ended by the clock.

use std::time::Duration;

use ringfence_model::{ApiTokenId, Name};

use crate::api_token::is_address;
use crate::draft::Draft;
use crate::limit::{API_TOKEN_LIFE_MAX, API_TOKEN_PERIMETERS_MAX, API_TOKENS_MAX};
use crate::{ApiToken, ApiTokenCommand, ApiTokenEvent, ApiTokenRefusal, Refusal, Role, TokenHash};

pub(super) fn dispatch(draft: &mut Draft, command: ApiTokenCommand) -> Result<(), Refusal> {
    match command {
        ApiTokenCommand::Create {
            name,
            role,
            stands_for,
            ttl,
            secret_hash,
        } => {
            let wish = Wish {
                name,
                role,
                stands_for,
                ttl,
            };
            create(draft, wish, secret_hash)
        }
        ApiTokenCommand::Revoke { token } => revoke(draft, token),
    }
}

struct Wish {
    name: Name,
    role: Role,
    stands_for: Option<String>,
    ttl: Duration,
}

fn create(draft: &mut Draft, wish: Wish, secret_hash: TokenHash) -> Result<(), Refusal> {
    check(draft, &wish)?;
    let expires = draft.wall.saturating_add(wish.ttl);
    // Else whoever holds one for a day would hold another for a year.
    let maker = draft
        .actor
        .api_token
        .and_then(|id| draft.state.api_tokens.get(&id));
    if maker.is_some_and(|maker| maker.expires < expires) {
        return Err(ApiTokenRefusal::Outlives.into());
    }
    let token = ApiToken {
        id: draft.draw_api_token_id(),
        name: wish.name,
        role: wish.role,
        stands_for: wish.stands_for,
        created_at: draft.wall,
        created_by: draft.actor.name.clone(),
        expires,
        secret_hash,
    };
    draft.record(ApiTokenEvent::ApiTokenCreated { token }.into());
    Ok(())
}

fn check(draft: &Draft, wish: &Wish) -> Result<(), Refusal> {
    let mut tokens = draft.state.api_tokens.values();
    let is_taken = tokens.any(|token| token.name == wish.name);
    let reads_otherwise =
        wish.name.as_ref() == FIRST_ADMIN || wish.name.as_ref().parse::<ApiTokenId>().is_ok();
    if is_taken || reads_otherwise {
        return Err(ApiTokenRefusal::Name(wish.name.clone()).into());
    }
    if !(API_TOKEN_LIFE_MIN..=API_TOKEN_LIFE_MAX).contains(&wish.ttl) {
        return Err(ApiTokenRefusal::Life.into());
    }
    if let Some(address) = wish.stands_for.as_ref().filter(|text| !is_address(text)) {
        let shown = address.chars().take(SHOWN_CHARS_MAX).collect();
        return Err(ApiTokenRefusal::Address(shown).into());
    }
    if let Role::Owner { perimeters } = &wish.role {
        if !(1..=API_TOKEN_PERIMETERS_MAX).contains(&perimeters.len()) {
            return Err(ApiTokenRefusal::Perimeters.into());
        }
        for perimeter in perimeters {
            draft.perimeter(perimeter)?;
        }
    }
    if draft.state.api_tokens.len() >= API_TOKENS_MAX {
        return Err(Refusal::Limit {
            what: "API tokens",
            max: API_TOKENS_MAX,
        });
    }
    Ok(())
}

fn revoke(draft: &mut Draft, id: ApiTokenId) -> Result<(), Refusal> {
    let known = draft.state.api_tokens.get(&id);
    let name = known.ok_or(ApiTokenRefusal::Unknown(id))?.name.clone();
    draft.record(ApiTokenEvent::ApiTokenRevoked { token: id, name }.into());
    Ok(())
}

/// Ends those whose time is over.
pub(super) fn end_due(draft: &mut Draft) {
    let wall = draft.wall;
    let tokens = draft.state.api_tokens.values();
    let due: Vec<ApiTokenEvent> = tokens
        .filter(|token| token.expires <= wall)
        .map(|token| ApiTokenEvent::ApiTokenExpired {
            token: token.id,
            name: token.name.clone(),
        })
        .collect();
    for event in due {
        draft.record(event.into());
    }
}

/// What the log calls whoever holds the token that `init` made.
const FIRST_ADMIN: &str = "admin";
const API_TOKEN_LIFE_MIN: Duration = Duration::from_secs(1);
const SHOWN_CHARS_MAX: usize = 80;
