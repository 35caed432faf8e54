use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event_fd::EventFd;

/// Tokens on their way into an event loop, which watches the descriptor.
pub(crate) struct Completions(Mutex<Inner>);

struct Inner {
    tokens: Vec<i64>,
    event: Option<EventFd>,
}

impl Completions {
    /// An empty queue.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Mutex::new(Inner { tokens: Vec::new(), event: Some(EventFd::new()?) })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `token`; a queue that is closed forgets it.
    pub(crate) fn push(&self, token: i64) {
        let mut inner = self.lock();
        let first = inner.tokens.is_empty();
        let Some(event) = &inner.event else { return };
        if first {
            event.set();
        }
        inner.tokens.push(token);
    }

    /// All tokens since the last call.
    pub(crate) fn drain(&self) -> Vec<i64> {
        let mut inner = self.lock();
        if let Some(event) = &inner.event
            && !inner.tokens.is_empty()
        {
            event.clear();
        }
        std::mem::take(&mut inner.tokens)
    }

    /// The descriptor, readable while there is something to drain; none once closed.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.lock().event.as_ref().map(EventFd::fd)
    }

    /// Gives the descriptor back; what completes later is forgotten.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.event = None;
        inner.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_forgets_what_completes() {
        let queue = Completions::new().unwrap();
        queue.push(1);
        assert!(queue.fd().is_some());
        queue.close();
        queue.push(2);
        assert_eq!(queue.fd(), None);
        assert!(queue.drain().is_empty());
    }
}
