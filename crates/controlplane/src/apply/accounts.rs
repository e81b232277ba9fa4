//! Events of local accounts, applied.

use std::sync::Arc;

use ringfence_model::{Name, UnixMillis};

use super::{Misfit, ensure};
use crate::account::{Account, AccountEvent};
use crate::state::State;

impl State {
    pub(super) fn apply_account_event(
        &mut self,
        event: &AccountEvent,
        wall: UnixMillis,
    ) -> Result<(), Misfit> {
        match event {
            AccountEvent::AccountAdded { account } => {
                let added = Arc::new(account.clone());
                let before = self.accounts.insert(account.name.clone(), added);
                ensure(before.is_none(), "there is such an account already")
            }
            AccountEvent::AccountRegrouped { name, before, after } => {
                let account = self.account_mut(name)?;
                ensure(account.groups == *before, "it is in other groups")?;
                account.groups.clone_from(after);
                Ok(())
            }
            AccountEvent::AccountReset { name, before, after } => {
                let account = self.account_mut(name)?;
                ensure(account.generation == *before, "other credentials count")?;
                account.generation = *after;
                account.set_up_at = None;
                Ok(())
            }
            AccountEvent::AccountSetUp { name, .. } => {
                self.account_mut(name)?.set_up_at = Some(wall);
                Ok(())
            }
            AccountEvent::AccountRemoved { before } => {
                let gone = self.accounts.remove(&before.name);
                gone.map(drop).ok_or(NO_ACCOUNT)
            }
        }
    }

    fn account_mut(&mut self, name: &Name) -> Result<&mut Account, Misfit> {
        self.accounts.get_mut(name).map(Arc::make_mut).ok_or(NO_ACCOUNT)
    }
}

const NO_ACCOUNT: Misfit = Misfit::Impossible("there is no such account");
