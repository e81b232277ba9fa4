//! Events of API tokens, applied.

use std::sync::Arc;

use ringfence_model::{ApiTokenId, Name};

use super::{Misfit, ensure};
use crate::state::State;
use crate::{ApiTokenEvent, Role};

impl State {
    pub(super) fn apply_api_token_event(&mut self, event: &ApiTokenEvent) -> Result<(), Misfit> {
        match event {
            ApiTokenEvent::ApiTokenCreated { token } => {
                let before = self.api_tokens.insert(token.id, Arc::new(token.clone()));
                ensure(before.is_none(), "its id is held")
            }
            ApiTokenEvent::ApiTokenRevoked { token, .. } | ApiTokenEvent::ApiTokenExpired { token, .. } => {
                self.end_api_token(*token)
            }
        }
    }

    fn end_api_token(&mut self, id: ApiTokenId) -> Result<(), Misfit> {
        ensure(self.api_tokens.remove(&id).is_some(), "there is no such token")
    }

    /// Nobody owns a perimeter that is gone: one of its name that comes later is somebody else's, until they are told.
    pub(super) fn forget_owners(&mut self, of: &Name) {
        for token in self.api_tokens.values_mut() {
            let owns = matches!(&token.role, Role::Owner { perimeters } if perimeters.contains(of));
            if owns && let Role::Owner { perimeters } = &mut Arc::make_mut(token).role {
                perimeters.remove(of);
            }
        }
    }
}
