//! Keeps secrets in memory from being written elsewhere.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps of this process, and debuggers of the same user: private keys and tokens are in its memory (red
/// line 11). Call it before the first secret is read.
///
/// # Errors
/// What the system says; what could be forbidden is.
pub fn forbid_core_dumps() -> io::Result<()> {
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(hidden?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_process_that_forbids_it_leaves_no_core() {
        forbid_core_dumps().unwrap();

        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
