//! Waiting for something to become true, with an error that says what it was.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Waits until `ready` yields something, and gives it.
///
/// # Errors
/// When `timeout` passes first; the error names `what`.
pub fn wait_for<T>(timeout: Duration, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if start.elapsed() >= timeout {
            bail!("waited {timeout:?} in vain for {what}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until `ready` holds, and tells how long that took.
///
/// # Errors
/// When `timeout` passes first; the error names `what`.
pub fn wait_until(timeout: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Result<Duration> {
    let start = Instant::now();
    wait_for(timeout, what, || ready().then_some(()))?;
    Ok(start.elapsed())
}

const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_says_what_it_waited_for() {
        let error = wait_until(Duration::from_millis(20), "rain", || false).unwrap_err();

        assert!(error.to_string().contains("rain"), "{error}");
    }

    #[test]
    fn a_wait_gives_what_it_waited_for() {
        let mut left = 3;

        let got = wait_for(Duration::from_secs(5), "the third try", || {
            left -= 1;
            (left == 0).then_some("here")
        });

        assert_eq!(got.unwrap(), "here");
    }
}
