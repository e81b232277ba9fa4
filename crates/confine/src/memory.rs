//! Keeps secrets in memory out of swap.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Wall;

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
