//! Whether the kernel's clock follows a source of time.

use std::io;

/// By adjtimex(2), which changes nothing if it is asked to change nothing.
///
/// # Errors
/// What the kernel says.
pub(crate) fn is_clock_synchronized() -> io::Result<bool> {
    // SAFETY: `timex` is a C struct of integers, for which zeros are a value: `modes` 0 asks for nothing to be set.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` that lives during the call; the kernel fills it and keeps no pointer to it.
    let result = unsafe { libc::syscall(libc::SYS_adjtimex, &raw mut state) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_tells() {
        assert!(super::is_clock_synchronized().is_ok());
    }
}
