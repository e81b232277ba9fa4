//! Keeps secrets in memory out of swap, and off the stack once they are done with.

use std::hint::black_box;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::Wall;

/// Overwrites what functions that have returned left on this thread's stack: libraries do not wipe the copies of keys
/// that they move. Call it in the function that called them, or above.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
pub fn wash_stack() {
    let mut area = [0_u8; WASHED_BYTES];
    black_box(&mut area);
}

/// Locks every page of this process once it is used, now and later. What comes with the wall is the capability that it
/// takes from now on: none where the limit can be lifted.
///
/// Only where no limit binds: past one, every later allocation would fail.
pub(crate) fn lock() -> (Wall, CapabilitySet) {
    let Some(takes) = lift_limit() else {
        let why = "the limit of locked memory (RLIMIT_MEMLOCK) binds, and neither CAP_SYS_RESOURCE nor CAP_IPC_LOCK is there";
        return (Wall::missing(&why), CapabilitySet::empty());
    };
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => (Wall::Whole, takes),
        Err(error) => (Wall::missing(&error), CapabilitySet::empty()),
    }
}

/// Lifts the limit of locked memory, or names the capability on which it does not bind. `None` if it does bind.
fn lift_limit() -> Option<CapabilitySet> {
    let none = Rlimit {
        current: None,
        maximum: None,
    };
    // Takes CAP_SYS_RESOURCE, unless whoever started this has done it already.
    if getrlimit(Resource::Memlock) == none || setrlimit(Resource::Memlock, none).is_ok() {
        return Some(CapabilitySet::empty());
    }
    // Containers keep CAP_SYS_RESOURCE from their root. CAP_IPC_LOCK is good for nothing else: shared memory is refused.
    let effective = capabilities(None).ok()?.effective;
    effective
        .contains(CapabilitySet::IPC_LOCK)
        .then_some(CapabilitySet::IPC_LOCK)
}

/// Deeper than any of our calls goes, a handshake without optimisation included (60 KiB).
const WASHED_BYTES: usize = 256 * 1024;
