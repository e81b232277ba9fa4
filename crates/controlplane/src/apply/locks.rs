//! Events of locks, applied.

use std::sync::Arc;

use super::{Misfit, ensure};
use crate::state::State;
use crate::{LockEvent, LockTarget};

impl State {
    pub(super) fn apply_lock_event(&mut self, event: &LockEvent) -> Result<(), Misfit> {
        match event {
            LockEvent::LockSet { lock } => {
                let before = self.locks.insert(lock.id, Arc::new(lock.clone()));
                ensure(before.is_none(), "its id is held")
            }
            LockEvent::LockLifted { before } | LockEvent::LockExpired { before } => {
                ensure(self.locks.remove(&before.id).is_some(), "there is no such lock")
            }
        }
    }

    /// Forgets the locks on what is gone for good: nobody else ever gets its id.
    pub(super) fn forget_locks(&mut self, on: &LockTarget) {
        self.locks.retain(|_, lock| lock.target != *on);
    }
}
