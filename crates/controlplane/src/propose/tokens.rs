//! Join tokens: made, used and ended.

use std::time::Duration;

use ringfence_model::{Labels, TokenId};

use crate::draft::Draft;
use crate::limit::{TOKEN_TTL_MAX, TOKEN_USES_MAX, TOKENS_MAX};
use crate::{Event, Refusal, Token, TokenHash, TokenState};

pub(super) fn create(
    draft: &mut Draft,
    labels: Labels,
    ttl: Duration,
    uses: u32,
    secret_hash: TokenHash,
) -> Result<(), Refusal> {
    if !(1..=TOKEN_USES_MAX).contains(&uses) {
        return Err(Refusal::TokenUses(uses));
    }
    if !(TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&ttl) {
        return Err(Refusal::TokenTtl);
    }
    make_room(draft)?;
    let token = Token {
        id: draft.draw_token_id(),
        secret_hash,
        labels,
        created_at: draft.wall,
        created_by: draft.actor.name.clone(),
        expires: draft.wall.saturating_add(ttl),
        uses,
        uses_left: uses,
        state: TokenState::Active,
    };
    draft.record(Event::TokenCreated { token });
    Ok(())
}

pub(super) fn revoke(draft: &mut Draft, id: TokenId) -> Result<(), Refusal> {
    let token = draft.state.tokens.get(&id).ok_or(Refusal::NothingToRevoke(id))?;
    match token.state {
        TokenState::Active => {
            let before = token.uses_left;
            draft.record(Event::TokenRevoked { token: id, before });
            Ok(())
        }
        // Dead already: it admits nobody, which is what was asked for.
        TokenState::Used | TokenState::Revoked | TokenState::Expired => Err(Refusal::Unchanged),
    }
}

/// Whether a node may be admitted with what it presents.
pub(super) fn admit(draft: &Draft, id: TokenId, secret_hash: &TokenHash) -> Result<(), Refusal> {
    let token = draft.state.tokens.get(&id).ok_or(Refusal::NoToken(id))?;
    token.admit(secret_hash, draft.wall)?;
    match draft.state.token_lock(id) {
        Some(_) => Err(Refusal::TokenLocked { token: id }),
        None => Ok(()),
    }
}

/// Counts a use of a token that [`admit`]ted.
pub(super) fn consume(draft: &mut Draft, id: TokenId) -> Result<(), Refusal> {
    let before = draft.state.tokens.get(&id).ok_or(Refusal::NoToken(id))?.uses_left;
    draft.record(Event::TokenUsed {
        token: id,
        before,
        after: before.saturating_sub(1),
    });
    Ok(())
}

/// Forgets the oldest dead token where there are too many. Those that still admit are never forgotten.
fn make_room(draft: &mut Draft) -> Result<(), Refusal> {
    if draft.state.tokens.len() < TOKENS_MAX {
        return Ok(());
    }
    let tokens = draft.state.tokens.values();
    let dead = tokens.filter(|token| token.state_at(draft.wall) != TokenState::Active);
    let oldest = dead
        .min_by_key(|token| (token.created_at, token.id))
        .map(|token| token.id);
    let token = oldest.ok_or(Refusal::Limit {
        what: "join tokens that still admit",
        max: TOKENS_MAX,
    })?;
    draft.record(Event::TokenForgotten { token });
    Ok(())
}

const TOKEN_TTL_MIN: Duration = Duration::from_secs(1);
