//! What a process that is about to become another program gives up or keeps.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the program killed when the thread that starts it ends, and so when this process does, however it does.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let die = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(Errno::SRCH.into())
        }
    };
    // SAFETY: the closure runs between fork and exec. It makes two system calls, and neither allocates nor locks: an `Errno`
    // becomes an `io::Error` without.
    unsafe { command.pre_exec(die) };
}

/// Leaves one file open in the program. It must stay open here until the program is started.
pub(crate) fn keep_open(command: &mut Command, file: BorrowedFd<'_>) {
    let file: RawFd = file.as_raw_fd();
    let keep = move || {
        // SAFETY: by the contract above it is open in this process, which is a copy of the one that opened it.
        let file = unsafe { BorrowedFd::borrow_raw(file) };
        Ok(fcntl_setfd(file, FdFlags::empty())?)
    };
    // SAFETY: the closure runs between fork and exec. It makes one system call, and neither allocates nor locks.
    unsafe { command.pre_exec(keep) };
}

/// Closes all that is open besides the standard streams, once this process becomes another program.
///
/// # Errors
/// Before Linux 5.11.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: the call takes three numbers. It changes what happens to open files in an exec, and closes none here.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
