//! Locks: set, lifted, ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringfence_model::{LockId, NodeId};

use super::people;
use crate::draft::Draft;
use crate::limit::{LOCK_KEEP_MAX, LOCK_REASON_BYTES_MAX, LOCK_TTL_MAX, LOCKS_MAX, SUBJECT_BYTES_MAX};
use crate::{Lock, LockCommand, LockEvent, LockTarget, Refusal, SessionEnd, UserId};

pub(super) fn dispatch(draft: &mut Draft, command: LockCommand) -> Result<(), Refusal> {
    match command {
        LockCommand::Set {
            target,
            keep,
            reason,
            ttl,
        } => set(draft, target, keep, reason, ttl),
        LockCommand::Lift { lock } => lift(draft, lock),
    }
}

/// Locks at once, and cuts what is there: a person's sessions end in the same change.
fn set(
    draft: &mut Draft,
    target: LockTarget,
    keep: BTreeSet<NodeId>,
    reason: String,
    ttl: Option<Duration>,
) -> Result<(), Refusal> {
    check(draft, &target, &keep)?;
    let bounds = [
        (draft.state.locks.len() + 1, LOCKS_MAX, "locks"),
        (keep.len(), LOCK_KEEP_MAX, "members that a lock keeps"),
        (reason.len(), LOCK_REASON_BYTES_MAX, "bytes of a lock's reason"),
    ];
    if let Some((_, max, what)) = bounds.into_iter().find(|(count, max, _)| count > max) {
        return Err(Refusal::Limit { what, max });
    }
    if ttl.is_some_and(|ttl| !(LOCK_TTL_MIN..=LOCK_TTL_MAX).contains(&ttl)) {
        return Err(Refusal::LockTtl);
    }
    let lock = Lock {
        id: draft.draw_lock_id(),
        users: meant_by(draft, &target),
        target,
        keep,
        reason,
        set_at: draft.wall,
        set_by: draft.actor.name.clone(),
        until: ttl.map(|ttl| draft.wall.saturating_add(ttl)),
    };
    draft.record(LockEvent::LockSet { lock }.into());
    let locked = draft.state.sessions.values();
    let locked = locked.filter(|session| draft.state.login_lock(&session.login).is_some());
    let nodes: Vec<NodeId> = locked.map(|session| session.node).collect();
    for node in nodes {
        people::end_at(draft, node, SessionEnd::Locked);
    }
    Ok(())
}

/// Whether there is such a thing to lock. A perimeter or person need not be there yet.
fn check(draft: &Draft, target: &LockTarget, keep: &BTreeSet<NodeId>) -> Result<(), Refusal> {
    let state = &draft.state;
    let unknown = keep.iter().find(|id| state.name_of(**id).is_none());
    if let Some(unknown) = unknown {
        return Err(Refusal::NoNode(*unknown));
    }
    match target {
        LockTarget::Node { node } if state.name_of(*node).is_none() => Err(Refusal::NoNode(*node)),
        LockTarget::Node { node } if keep.contains(node) => Err(Refusal::KeepsItself),
        LockTarget::Token { token } if !state.tokens.contains_key(token) => {
            Err(Refusal::NothingToRevoke(*token))
        }
        LockTarget::User { user } if user.is_empty() || user.len() > SUBJECT_BYTES_MAX => {
            Err(Refusal::NoUser(user.chars().take(SUBJECT_BYTES_MAX).collect()))
        }
        LockTarget::User { .. } | LockTarget::Token { .. } | LockTarget::Workload { .. }
            if !keep.is_empty() =>
        {
            Err(Refusal::KeepsNobody)
        }
        LockTarget::Node { .. }
        | LockTarget::User { .. }
        | LockTarget::Perimeter { .. }
        | LockTarget::Label { .. }
        | LockTarget::Token { .. }
        | LockTarget::Workload { .. } => Ok(()),
    }
}

fn meant_by(draft: &Draft, target: &LockTarget) -> BTreeSet<UserId> {
    let LockTarget::User { user: text } = target else {
        return BTreeSet::new();
    };
    let users = draft.state.users.values();
    let meant = users.filter(|user| user.is_called(text));
    meant.map(|user| user.id.clone()).collect()
}

fn lift(draft: &mut Draft, id: LockId) -> Result<(), Refusal> {
    let before = draft.state.locks.get(&id).cloned();
    let before = Arc::unwrap_or_clone(before.ok_or(Refusal::NoLock(id))?);
    draft.record(LockEvent::LockLifted { before }.into());
    Ok(())
}

/// Ends every lock that is due.
pub(super) fn end_due(draft: &mut Draft) {
    let locks = draft.state.locks.values();
    let due = locks.filter(|lock| lock.until.is_some_and(|until| until <= draft.wall));
    let due: Vec<Arc<Lock>> = due.cloned().collect();
    for lock in due {
        let before = Arc::unwrap_or_clone(lock);
        draft.record(LockEvent::LockExpired { before }.into());
    }
}

const LOCK_TTL_MIN: Duration = Duration::from_secs(1);
