//! Local accounts: added, set up, reset and removed, and what follows from it for who is logged in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringfence_model::{Name, NodeId};

use super::people;
use crate::account::{Account, AccountCommand, AccountEvent, AccountRefusal, check_groups};
use crate::draft::Draft;
use crate::limit::ACCOUNTS_MAX;
use crate::state::State;
use crate::{Refusal, Session, SessionEnd, VerifiedLogin};

pub(super) fn dispatch(draft: &mut Draft, command: AccountCommand) -> Result<(), Refusal> {
    match command {
        AccountCommand::Add {
            name,
            email,
            groups,
            session,
        } => add(draft, name, (email, groups), session),
        AccountCommand::Regroup { name, groups } => regroup(draft, name, groups),
        AccountCommand::Reset { name } => reset(draft, name),
        AccountCommand::Remove { name } => remove(draft, &name),
        AccountCommand::SetUp {
            name,
            generation,
            node,
        } => set_up(draft, name, generation, node),
    }
}

/// A login as the account has it, if it is by one: who has none any more does not log in.
pub(super) fn vouched(state: &State, mut login: VerifiedLogin) -> Result<VerifiedLogin, Refusal> {
    if !state.is_local(&login.user) {
        return Ok(login);
    }
    let Some(account) = state.account_of(&login.user) else {
        return Err(Refusal::NoUser(login.user.to_string()));
    };
    account.called().clone_into(&mut login.name);
    login.email.clone_from(&account.email);
    login.groups.clone_from(&account.groups);
    Ok(login)
}

fn add(
    draft: &mut Draft,
    name: Name,
    (email, groups): (Option<String>, BTreeSet<String>),
    session: Duration,
) -> Result<(), Refusal> {
    let account = Account {
        name,
        email,
        groups,
        session_ms: u64::try_from(session.as_millis()).unwrap_or(u64::MAX),
        added_at: draft.wall,
        generation: draft.draw_generation(),
        set_up_at: None,
    };
    account.check()?;
    if draft.state.accounts.contains_key(&account.name) {
        return Err(AccountRefusal::Taken(account.name).into());
    }
    if draft.state.providers.contains_key(&account.user().provider) {
        return Err(Refusal::ProviderTaken(account.user().provider));
    }
    if draft.state.accounts.len() >= ACCOUNTS_MAX {
        return Err(Refusal::Limit {
            what: "local accounts",
            max: ACCOUNTS_MAX,
        });
    }
    draft.record(AccountEvent::AccountAdded { account }.into());
    Ok(())
}

fn regroup(draft: &mut Draft, name: Name, after: BTreeSet<String>) -> Result<(), Refusal> {
    check_groups(&after)?;
    let before = account(draft, &name)?.groups.clone();
    if before == after {
        return Err(Refusal::Unchanged);
    }
    let sessions = sessions_of(draft, &name);
    let groups = after.clone();
    draft.record(AccountEvent::AccountRegrouped { name, before, after }.into());
    for session in sessions {
        people::regroup(draft, &session, groups.clone())?;
    }
    Ok(())
}

fn reset(draft: &mut Draft, name: Name) -> Result<(), Refusal> {
    let before = account(draft, &name)?.generation;
    end_sessions(draft, &name, SessionEnd::Ended);
    let after = draft.draw_generation();
    draft.record(AccountEvent::AccountReset { name, before, after }.into());
    Ok(())
}

fn remove(draft: &mut Draft, name: &Name) -> Result<(), Refusal> {
    let before = Account::clone(account(draft, name)?);
    end_sessions(draft, name, SessionEnd::Deactivated);
    draft.record(AccountEvent::AccountRemoved { before }.into());
    Ok(())
}

fn set_up(draft: &mut Draft, name: Name, generation: u64, node: NodeId) -> Result<(), Refusal> {
    if account(draft, &name)?.generation != generation {
        return Err(AccountRefusal::Superseded.into());
    }
    draft.node(node)?;
    draft.record(AccountEvent::AccountSetUp { name, node }.into());
    Ok(())
}

fn account<'a>(draft: &'a Draft, name: &Name) -> Result<&'a Account, Refusal> {
    let account = draft.state.accounts.get(name).map(AsRef::as_ref);
    Ok(account.ok_or_else(|| AccountRefusal::Unknown(name.clone()))?)
}

fn sessions_of(draft: &Draft, name: &Name) -> Vec<Arc<Session>> {
    let user = Account::user_of(name);
    let sessions = draft.state.sessions.values();
    let own = sessions.filter(|session| session.login.user == user);
    own.cloned().collect()
}

fn end_sessions(draft: &mut Draft, name: &Name, cause: SessionEnd) {
    let user = Account::user_of(name);
    people::end_where(draft, cause, |session| session.login.user == user);
}
