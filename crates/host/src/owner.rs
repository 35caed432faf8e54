use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::Pidfd;

use crate::witness::kill_descendants;

/// Set once this process ends by itself, so that the end of its connection is no surprise.
#[derive(Clone, Default)]
pub(crate) struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The host is gone: ends every descendant, then this process, whatever its other threads do.
pub(crate) fn end_with_owner() -> ! {
    kill_descendants();
    // A signal and not an exit: no handler of the user's gets to wait for somebody who is gone.
    if let Ok(own) = Pidfd::own() {
        let _not_reached = own.signal(9);
    }
    std::process::abort()
}
