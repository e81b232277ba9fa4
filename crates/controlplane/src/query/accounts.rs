//! Who has a local account.

use ringfence_control::api;
use ringfence_model::Name;

use crate::{Account, Controller};

impl Controller {
    /// A local account.
    pub fn account(&self, name: &Name) -> Option<&Account> {
        self.state().accounts.get(name).map(AsRef::as_ref)
    }

    /// Every local account, in order of name, for administrators.
    pub fn account_views(&self) -> Vec<api::AccountView> {
        let accounts = self.state().accounts.values();
        let views = accounts.map(|account| api::AccountView {
            name: account.name.clone(),
            email: account.email.clone(),
            groups: account.groups.clone(),
            session_seconds: account.session().as_secs(),
            added_ms: account.added_at,
            set_up_ms: account.set_up_at,
        });
        views.collect()
    }
}
