//! What became of local accounts.

use std::collections::BTreeSet;

use ringfence_model::{Name, NodeId};
use serde::{Deserialize, Serialize};

use super::Account;
use crate::Event;

/// One fact about local accounts: in [`crate::Event::Accounts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AccountEvent {
    /// Somebody may set up an account, and log in by it.
    AccountAdded {
        /// Who.
        account: Account,
    },
    /// Somebody is in other groups.
    AccountRegrouped {
        /// Who.
        name: Name,
        /// The groups before.
        before: BTreeSet<String>,
        /// The groups now.
        after: BTreeSet<String>,
    },
    /// What somebody knew and had counts no more: they have to set it up anew.
    AccountReset {
        /// Who.
        name: Name,
        /// Which credentials counted.
        before: u64,
        /// Which will.
        after: u64,
    },
    /// Somebody chose a password and proved a second factor.
    AccountSetUp {
        /// Who.
        name: Name,
        /// At which node.
        node: NodeId,
    },
    /// Somebody may log in no longer.
    AccountRemoved {
        /// Who.
        before: Account,
    },
}

impl AccountEvent {
    /// The word for it, as in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AccountAdded { .. } => "account-added",
            Self::AccountRegrouped { .. } => "account-regrouped",
            Self::AccountReset { .. } => "account-reset",
            Self::AccountSetUp { .. } => "account-set-up",
            Self::AccountRemoved { .. } => "account-removed",
        }
    }

    /// What happened, in words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::AccountAdded { account } => {
                format!(
                    "added local account {} in [{}]",
                    account.name,
                    listed(&account.groups)
                )
            }
            Self::AccountRegrouped { name, after, .. } => {
                format!("local account {name} is in [{}] now", listed(after))
            }
            Self::AccountReset { name, .. } => format!("reset local account {name}"),
            Self::AccountSetUp { name, node } => {
                format!("local account {name} was set up at node {node}")
            }
            Self::AccountRemoved { before } => format!("removed local account {}", before.name),
        }
    }
}

impl From<AccountEvent> for Event {
    fn from(event: AccountEvent) -> Self {
        Self::Accounts(Box::new(event))
    }
}

fn listed(groups: &BTreeSet<String>) -> String {
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    groups.join(", ")
}
