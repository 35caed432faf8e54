use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::call::check;

/// One descriptor that [`poll`] watches.
#[repr(transparent)]
#[derive(Debug)]
pub struct Watch<'fd>(libc::pollfd, PhantomData<BorrowedFd<'fd>>);

impl<'fd> Watch<'fd> {
    /// Ready when there is something to read, or nothing ever will be again.
    pub fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self(libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }, PhantomData)
    }

    /// Ready also when there is room to write.
    #[must_use]
    pub fn or_writable(mut self) -> Self {
        self.0.events |= libc::POLLOUT;
        self
    }

    /// Whether the last [`poll`] found it ready.
    pub fn is_ready(&self) -> bool {
        self.0.revents != 0
    }
}

/// Waits until one of `watches` is ready or `timeout` (rounded up to milliseconds) is over.
///
/// A signal ends the wait early, with nothing ready.
///
/// # Errors
/// The kernel had no memory to wait.
pub fn poll(watches: &mut [Watch<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let milliseconds = timeout.map_or(-1, |t| t.as_micros().div_ceil(1000).try_into().unwrap_or(i32::MAX));
    let count = watches.len() as libc::nfds_t;
    // SAFETY: `Watch` is transparent over pollfd, and the slice is `count` of them.
    match check(unsafe { libc::poll(watches.as_mut_ptr().cast(), count, milliseconds) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            watches.iter_mut().for_each(|watch| watch.0.revents = 0);
            Ok(())
        }
        other => other.map(drop),
    }
}
