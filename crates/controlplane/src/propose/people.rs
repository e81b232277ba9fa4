//! People: their sessions start, are renewed and end; their accounts close and open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringfence_model::{NodeId, SessionId, UnixMillis};

use super::{accounts, directories, requests};
use crate::draft::Draft;
use crate::limit::{SESSION_LENGTH_MAX, SESSION_LENGTH_MIN, USERS_MAX};
use crate::people::PeopleEvent;
use crate::{
    AccessEnd, PeopleCommand, Refusal, Session, SessionEnd, SessionsOf, User, UserId, UserStanding,
    VerifiedLogin, membership,
};

pub(super) fn dispatch(draft: &mut Draft, command: PeopleCommand) -> Result<(), Refusal> {
    match command {
        PeopleCommand::StartSession { node, login, length } => start(draft, node, login, length),
        PeopleCommand::EndSession { session } => end_one(draft, session),
        PeopleCommand::EndSessions { of, cause } => {
            end_of(draft, &of, cause);
            Ok(())
        }
        PeopleCommand::LogOut { node } => {
            end_at(draft, node, SessionEnd::LoggedOut);
            Ok(())
        }
        PeopleCommand::DeactivateUser { user } => deactivate(draft, user),
        PeopleCommand::ReactivateUser { user } => reactivate(draft, user),
    }
}

fn start(draft: &mut Draft, node: NodeId, login: VerifiedLogin, length: Duration) -> Result<(), Refusal> {
    draft.node(node)?;
    if !(SESSION_LENGTH_MIN..=SESSION_LENGTH_MAX).contains(&length) {
        return Err(Refusal::SessionLength);
    }
    let login = directories::vouched(&draft.state, login.checked(draft.wall)?)?;
    let login = accounts::vouched(&draft.state, login)?;
    admit(draft, &login)?;
    // What policy grants for it ends with the second.
    let expires = draft.wall.saturating_add(length).whole_second();
    let held = draft.state.sessions.get(&node).cloned();
    match held {
        Some(before) if before.login.user == login.user => renew(draft, &before, login, expires),
        Some(_) => {
            end_at(draft, node, SessionEnd::Replaced);
            begin(draft, node, login, expires);
        }
        None => begin(draft, node, login, expires),
    }
    membership::settle_node(draft, node)
}

/// Whether a person may have a session; who is new is made known.
fn admit(draft: &mut Draft, login: &VerifiedLogin) -> Result<(), Refusal> {
    if draft.state.login_lock(login).is_some() {
        return Err(Refusal::UserLocked(login.name.clone()));
    }
    if let Some(user) = draft.state.users.get(&login.user) {
        return match user.standing {
            UserStanding::Active => Ok(()),
            UserStanding::Deactivated => Err(Refusal::UserDeactivated(user.name.clone())),
        };
    }
    make_room(draft)?;
    let user = User {
        id: login.user.clone(),
        directory_id: login.directory_id.clone(),
        name: login.name.clone(),
        email: login.email.clone(),
        groups: login.groups.clone(),
        added_at: draft.wall,
        seen_at: draft.wall,
        standing: UserStanding::Active,
    };
    draft.record(PeopleEvent::UserAdded { user }.into());
    Ok(())
}

fn begin(draft: &mut Draft, node: NodeId, login: VerifiedLogin, expires: UnixMillis) {
    let session = Session {
        id: draft.draw_session_id(),
        node,
        login,
        started_at: draft.wall,
        expires,
    };
    draft.record(PeopleEvent::SessionStarted { session }.into());
}

/// What the person proved before they have still proved: a login without a second factor does not take it away.
fn renew(draft: &mut Draft, before: &Session, mut login: VerifiedLogin, expires: UnixMillis) {
    login.mfa_at = login.mfa_at.max(before.login.mfa_at);
    let after = Session {
        login,
        expires,
        ..before.clone()
    };
    let renewed = PeopleEvent::SessionRenewed {
        before: Box::new(before.clone()),
        after: Box::new(after),
    };
    draft.record(renewed.into());
}

/// Has the person of a session be in these groups, and in no others.
pub(super) fn regroup(draft: &mut Draft, before: &Session, groups: BTreeSet<String>) -> Result<(), Refusal> {
    if before.login.groups == groups {
        return Ok(());
    }
    let node: NodeId = before.node;
    let mut after = before.clone();
    after.login.groups = groups;
    let regrouped = PeopleEvent::SessionRegrouped {
        before: Box::new(before.clone()),
        after: Box::new(after),
    };
    draft.record(regrouped.into());
    membership::settle_node(draft, node)
}

fn end_one(draft: &mut Draft, id: SessionId) -> Result<(), Refusal> {
    let mut sessions = draft.state.sessions.values();
    let session = sessions.find(|session| session.id == id);
    let node = session.ok_or(Refusal::NoSession(id))?.node;
    end_at(draft, node, SessionEnd::Ended);
    Ok(())
}

fn end_of(draft: &mut Draft, of: &SessionsOf, cause: SessionEnd) {
    end_where(draft, cause, |session| match of {
        SessionsOf::User(user) => session.login.user == *user,
        SessionsOf::ProviderSession {
            provider,
            session: sid,
        } => session.login.user.provider == *provider && session.login.provider_session.as_ref() == Some(sid),
    });
}

/// Ends every session that is meant.
pub(super) fn end_where(draft: &mut Draft, cause: SessionEnd, meant: impl Fn(&Session) -> bool) {
    let sessions = draft.state.sessions.values();
    let meant = sessions.filter(|session| meant(session));
    let nodes: Vec<NodeId> = meant.map(|session| session.node).collect();
    for node in nodes {
        end_at(draft, node, cause);
    }
}

/// Ends the session at a node, if there is one, and what the node is a member of by it alone.
pub(super) fn end_at(draft: &mut Draft, node: NodeId, cause: SessionEnd) {
    let Some(before) = draft.state.sessions.get(&node).cloned() else {
        return;
    };
    let before = Arc::unwrap_or_clone(before);
    let id = before.id;
    draft.record(PeopleEvent::SessionEnded { before, cause }.into());
    requests::end_where(draft, AccessEnd::SessionEnded, |request| {
        let person = request.asked_by.person.as_ref();
        person.is_some_and(|person| person.session == id)
    });
    membership::withdraw_node(draft, node);
}

fn deactivate(draft: &mut Draft, id: UserId) -> Result<(), Refusal> {
    let user = draft.state.users.get(&id);
    let user = user.ok_or_else(|| Refusal::NoUser(id.to_string()))?;
    if user.standing == UserStanding::Deactivated {
        return Err(Refusal::Unchanged);
    }
    let name = user.name.clone();
    end_of(draft, &SessionsOf::User(id.clone()), SessionEnd::Deactivated);
    draft.record(PeopleEvent::UserDeactivated { user: id, name }.into());
    Ok(())
}

fn reactivate(draft: &mut Draft, id: UserId) -> Result<(), Refusal> {
    let user = draft.state.users.get(&id);
    let user = user.ok_or_else(|| Refusal::NoUser(id.to_string()))?;
    if user.standing == UserStanding::Active {
        return Err(Refusal::Unchanged);
    }
    let name = user.name.clone();
    draft.record(PeopleEvent::UserReactivated { user: id, name }.into());
    Ok(())
}

/// Forgets who has not logged in for longest where too many are known. Whoever is logged in or deactivated is never
/// forgotten: the one would lose a record in use, the other could log in again.
fn make_room(draft: &mut Draft) -> Result<(), Refusal> {
    if draft.state.users.len() < USERS_MAX {
        return Ok(());
    }
    let here: BTreeSet<&UserId> = draft
        .state
        .sessions
        .values()
        .map(|session| &session.login.user)
        .collect();
    let users = draft.state.users.values();
    let idle = users.filter(|user| user.standing == UserStanding::Active && !here.contains(&user.id));
    let oldest = idle.min_by_key(|user| (user.seen_at, &user.id)).cloned();
    let before = oldest.ok_or(Refusal::Limit {
        what: "people who are logged in or deactivated",
        max: USERS_MAX,
    })?;
    let before = Arc::unwrap_or_clone(before);
    draft.record(PeopleEvent::UserForgotten { before }.into());
    Ok(())
}
