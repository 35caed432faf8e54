use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_launch_local::watched;
use procession_model::LaunchId;
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

/// Waits until the process `pid` is gone; for ever when it cannot be seen from here.
pub(crate) async fn owner_gone(pid: u32) {
    let ended = match Pidfd::open(pid) {
        Ok(pidfd) => match watched(pidfd) {
            Ok(pidfd) => pidfd.readable().await.is_ok(),
            Err(_) => false,
        },
        // ESRCH: it was there a moment ago, when it took the call.
        Err(error) => error.raw_os_error() == Some(3),
    };
    if !ended {
        std::future::pending::<()>().await;
    }
}

/// The host is gone: ends every descendant, then this process, whatever its other threads do.
pub(crate) fn end_with_owner(launch: LaunchId) -> ! {
    kill_descendants(launch);
    // A signal and not an exit: no handler of the user's gets to wait for somebody who is gone.
    if let Ok(own) = Pidfd::own() {
        let _not_reached = own.signal(9);
    }
    std::process::abort()
}
