//! Keeps secrets in memory out of swap, and off the stack once they are done with.

use std::hint::black_box;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Wall;

/// Overwrites what functions that have returned left on this thread's stack: libraries do not wipe the copies of keys
/// that they move. Call it in the function that called them, or above.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
pub fn wash_stack() {
    let mut area = [0_u8; WASHED_BYTES];
    black_box(&mut area);
}

/// Locks every page of this process once it is used, now and later.
///
/// Only where there is no limit to it: past one, every later allocation would fail.
pub(crate) fn lock() -> Wall {
    let none = Rlimit {
        current: None,
        maximum: None,
    };
    // Takes CAP_SYS_RESOURCE, unless whoever started this has done it already.
    if getrlimit(Resource::Memlock) != none && setrlimit(Resource::Memlock, none).is_err() {
        return Wall::missing(&"the limit of locked memory (RLIMIT_MEMLOCK) is not infinite");
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => Wall::Whole,
        Err(error) => Wall::missing(&error),
    }
}

/// Deeper than any of our calls goes, a handshake without optimisation included (60 KiB).
const WASHED_BYTES: usize = 256 * 1024;
