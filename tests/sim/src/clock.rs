//! Virtual time for everything on this thread that reads a clock.
//!
//! The cores are handed `now`; boringtun reads two clocks of its own. Its `Instant` is `mock_instant`'s. Its base for
//! TAI64N stamps is `SystemTime`, which that feature leaves alone: a node that restarts after a virtual hour would
//! stamp its handshakes an hour before its last ones, and be refused as a replay. So this program answers
//! `clock_gettime` itself, and gives virtual time for the wall clock on a thread that simulates.
//!
//! **Invariant:** on one thread, virtual time only goes up while a simulation runs.

use std::cell::Cell;
use std::time::Duration;

use mock_instant::MockClock;

thread_local! {
    /// Since the epoch; `None` on a thread that does not simulate.
    static WALL: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Sets this thread's clocks to `at` after the start of the simulation.
pub fn set(at: Duration) {
    MockClock::set_time(at);
    WALL.set(Some(WALL_START + at));
}

/// Gives this thread its real clocks back.
pub fn release() {
    MockClock::set_time(Duration::ZERO);
    WALL.set(None);
}

/// Stands in for the C library's function: programs look a name up in themselves first.
///
/// # Safety
/// As for the one it replaces: `out` must be null or point to a `timespec`.
#[allow(
    unsafe_code,
    reason = "a C function of the operating system is answered here, and asked"
)]
// SAFETY: it takes the C library's place with the same signature and the same promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, out: *mut libc::timespec) -> libc::c_int {
    if clock == libc::CLOCK_REALTIME
        && !out.is_null()
        && let Some(wall) = WALL.get()
    {
        let now = libc::timespec {
            tv_sec: wall.as_secs().cast_signed(),
            tv_nsec: i64::from(wall.subsec_nanos()),
        };
        // SAFETY: the caller promises that `out` points to a `timespec`, and it is not null.
        unsafe { out.write(now) };
        return 0;
    }
    // SAFETY: the arguments go on unchanged; the kernel checks the pointer.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, out) as libc::c_int }
}

/// The wall clock at the start of every simulation: in January 2027, after every certificate and release was made.
pub const WALL_START: Duration = Duration::from_hours(500_000);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn wall() -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
    }

    #[test]
    fn the_wall_clock_is_virtual_while_a_simulation_runs_and_real_afterwards() {
        let real = wall();

        set(Duration::from_secs(7));
        assert_eq!(wall(), WALL_START + Duration::from_secs(7));

        release();
        assert!(wall() >= real);
    }
}
