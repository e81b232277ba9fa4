//! Logins on their way by a browser: what was sent with the person, until they come back.
//!
//! **Invariant:** one is taken out by the first who names it, whatever comes of it: state, nonce and verifier are good
//! for one attempt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openidconnect::{CsrfToken, Nonce, PkceCodeVerifier, RedirectUrl};
use ringfence_controlplane::LoginGoal;
use ringfence_model::NodeId;

use super::discovery::Discovery;

/// Logins on their way.
#[derive(Default)]
pub(super) struct Pending(Mutex<BTreeMap<(NodeId, u64), Waiting>>);

/// One of them.
pub(super) struct Waiting {
    /// At whom.
    pub(super) discovery: Arc<Discovery>,
    /// What has to come back.
    pub(super) state: CsrfToken,
    /// What has to stand in the ID token.
    pub(super) nonce: Nonce,
    /// What proves to the provider that we began it.
    pub(super) verifier: PkceCodeVerifier,
    /// Where the browser was told to come back to.
    pub(super) redirect: RedirectUrl,
    /// What it is for.
    pub(super) goal: LoginGoal,
    /// When it began.
    pub(super) began: Instant,
}

impl Pending {
    /// Adds one. Past the bounds the oldest goes: of its node first, so that one node pushes out only its own.
    pub(super) fn add(&self, node: NodeId, id: u64, waiting: Waiting) {
        let mut all = self.lock();
        all.retain(|_, waiting| waiting.began.elapsed() < PENDING_LIFE);
        let range = (node, 0)..=(node, u64::MAX);
        if all.range(range.clone()).count() >= PENDING_PER_NODE_MAX {
            let oldest = all.range(range).min_by_key(|(_, waiting)| waiting.began);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.and_then(|key| all.remove(&key));
        } else if all.len() >= PENDING_MAX {
            let oldest = all.iter().min_by_key(|(_, waiting)| waiting.began);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.and_then(|key| all.remove(&key));
        }
        all.insert((node, id), waiting);
    }

    /// Takes one out, if its time is not over.
    pub(super) fn take(&self, node: NodeId, id: u64) -> Option<Waiting> {
        let waiting = self.lock().remove(&(node, id))?;
        (waiting.began.elapsed() < PENDING_LIFE).then_some(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(NodeId, u64), Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a person may take.
pub(super) const PENDING_LIFE: Duration = Duration::from_mins(10);
const PENDING_PER_NODE_MAX: usize = 4;
const PENDING_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use openidconnect::PkceCodeChallenge;

    use super::*;
    use crate::identity::tests::provider;

    fn waiting() -> Waiting {
        Waiting {
            discovery: Arc::new(Discovery::new(provider()).unwrap()),
            state: CsrfToken::new_random(),
            nonce: Nonce::new_random(),
            verifier: PkceCodeChallenge::new_random_sha256().1,
            redirect: RedirectUrl::new("http://127.0.0.1:1/callback".to_owned()).unwrap(),
            goal: LoginGoal::Session,
            began: Instant::now(),
        }
    }

    #[test]
    fn a_login_is_good_for_one_attempt_of_its_own_node() {
        let pending = Pending::default();
        pending.add(NodeId(1), 7, waiting());

        assert!(pending.take(NodeId(2), 7).is_none());
        assert!(pending.take(NodeId(1), 7).is_some());
        assert!(pending.take(NodeId(1), 7).is_none());
    }

    #[test]
    fn a_node_pushes_out_its_own_oldest() {
        let pending = Pending::default();
        pending.add(NodeId(2), 1, waiting());
        for id in 1..=5 {
            pending.add(NodeId(1), id, waiting());
        }

        assert!(pending.take(NodeId(1), 1).is_none());
        assert!(pending.take(NodeId(1), 5).is_some());
        assert!(pending.take(NodeId(2), 1).is_some());
    }
}
