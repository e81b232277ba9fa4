//! What is known about somebody who is asked for it: an identity provider's metadata, an issuer's keys.
//!
//! **Invariant:** whoever shows tokens with unknown keys cannot make us ask more often than [`REFRESH_EVERY`], nor of
//! somebody who does not answer more often than [`RETRY_EVERY`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// What is known, and since when.
pub(super) struct Cache<T>(Mutex<Memory<T>>);

struct Memory<T> {
    known: Option<(Arc<T>, Instant)>,
    failed: Option<(String, Instant)>,
    refreshed: Option<Instant>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Mutex::new(Memory {
            known: None,
            failed: None,
            refreshed: None,
        }))
    }
}

impl<T> Cache<T> {
    /// What is known, at most [`AGE_MAX`] old unless they do not answer. `ask` is only asked if need be.
    ///
    /// # Errors
    /// What `ask` says is wrong, now or a moment ago.
    pub(super) async fn known(&self, ask: impl Future<Output = Result<T, String>>) -> Result<Arc<T>, String> {
        let mut memory = self.0.lock().await;
        let old = match &memory.known {
            Some((known, at)) if at.elapsed() < AGE_MAX => return Ok(Arc::clone(known)),
            Some((known, at)) if at.elapsed() < LIFE_MAX => Some(Arc::clone(known)),
            Some(_) | None => None,
        };
        if let Some((why, at)) = &memory.failed
            && at.elapsed() < RETRY_EVERY
        {
            return old.ok_or_else(|| why.clone());
        }
        match ask.await {
            Ok(known) => Ok(memory.learn(known)),
            Err(why) => {
                memory.failed = Some((why.clone(), Instant::now()));
                old.ok_or(why)
            }
        }
    }

    /// The same, newer than `than`: a token was signed with a key that is not in it. `than` itself if they were asked a
    /// moment ago.
    ///
    /// # Errors
    /// What `ask` says is wrong.
    pub(super) async fn newer(
        &self,
        than: &Arc<T>,
        ask: impl Future<Output = Result<T, String>>,
    ) -> Result<Arc<T>, String> {
        let mut memory = self.0.lock().await;
        if let Some((known, _)) = &memory.known
            && !Arc::ptr_eq(known, than)
        {
            return Ok(Arc::clone(known));
        }
        if memory.refreshed.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
            return Ok(Arc::clone(than));
        }
        memory.refreshed = Some(Instant::now());
        let known = ask.await?;
        Ok(memory.learn(known))
    }
}

impl<T> Memory<T> {
    fn learn(&mut self, known: T) -> Arc<T> {
        let known = Arc::new(known);
        self.known = Some((Arc::clone(&known), Instant::now()));
        self.failed = None;
        known
    }
}

const AGE_MAX: Duration = Duration::from_hours(1);
/// How long they may be out of reach before what was known is no longer believed.
const LIFE_MAX: Duration = Duration::from_hours(24);
/// How often unknown keys make us ask.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// How soon who did not answer is asked again.
const RETRY_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn nobody_is_asked_again_at_once() {
        let cache = Cache::default();
        let asked = Cell::new(0);
        let ask = |answer: Result<u32, &str>| {
            let answer = answer.map_err(str::to_owned);
            let asked = &asked;
            async move {
                asked.set(asked.get() + 1);
                answer
            }
        };

        assert_eq!(cache.known(ask(Err("down"))).await, Err("down".to_owned()));
        assert_eq!(cache.known(ask(Ok(1))).await, Err("down".to_owned()));
        assert_eq!(asked.get(), 1);

        let cache = Cache::default();
        let first = cache.known(ask(Ok(1))).await.unwrap();
        assert_eq!(cache.known(ask(Ok(2))).await, Ok(Arc::clone(&first)));
        let second = cache.newer(&first, ask(Ok(2))).await.unwrap();
        assert_eq!((*first, *second, asked.get()), (1, 2, 3));
        assert_eq!(cache.newer(&second, ask(Ok(3))).await, Ok(Arc::clone(&second)));
        assert_eq!(cache.newer(&first, ask(Ok(3))).await, Ok(second));
        assert_eq!(asked.get(), 3);
    }
}
