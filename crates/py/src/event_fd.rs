use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

/// A flag that an event loop can watch: its descriptor is readable while it is set.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// An unset flag.
    ///
    /// # Errors
    /// No file descriptor is left (EMFILE, ENFILE).
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Sets it; nothing happens when it is set.
    pub(crate) fn set(&self) {
        // The one failure is a counter that is full, and a full one is set.
        let _full = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Unsets it; nothing happens when it is not set.
    pub(crate) fn clear(&self) {
        let _empty = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    /// The descriptor to watch.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
