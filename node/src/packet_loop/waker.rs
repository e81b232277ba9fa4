//! Wakes a packet loop that waits for its descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one packet loop; a clone wakes the same.
#[derive(Clone)]
pub(super) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// One that nobody waits for yet.
    ///
    /// # Errors
    /// If the kernel gives no eventfd.
    pub(super) fn new() -> io::Result<Self> {
        let counter = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(counter)))
    }

    /// Ends the loop's wait, this one or the next.
    pub(super) fn wake(&self) {
        // A full counter means the loop is about to wake anyway.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Lets the loop wait again.
    pub(super) fn clear(&self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&*self.0, &mut counter);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
