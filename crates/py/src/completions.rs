use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use crate::event_fd::EventFd;

/// Tokens on their way into an event loop, which watches the descriptor.
pub(crate) struct Completions {
    tokens: Mutex<Vec<i64>>,
    /// Set and cleared under the lock of the tokens, so that it tells whether there are any.
    event: EventFd,
}

impl Completions {
    /// An empty queue.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { tokens: Mutex::default(), event: EventFd::new()? })
    }

    /// Adds `token`.
    pub(crate) fn push(&self, token: i64) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.is_empty() {
            self.event.set();
        }
        tokens.push(token);
    }

    /// All tokens since the last call.
    pub(crate) fn drain(&self) -> Vec<i64> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if !tokens.is_empty() {
            self.event.clear();
        }
        std::mem::take(&mut tokens)
    }

    /// The descriptor, readable while there is something to drain.
    pub(crate) fn fd(&self) -> RawFd {
        self.event.fd()
    }
}
