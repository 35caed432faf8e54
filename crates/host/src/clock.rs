use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::time::Instant;

/// The clock of a host, from any thread: that of its runtime, and the time of day.
///
/// Where a test has stopped the runtime's clock, the time of day is what it was then, and what that clock says to have passed since.
#[derive(Debug)]
pub(crate) struct Clock {
    runtime: Handle,
    stopped: RwLock<Option<(SystemTime, Instant)>>,
}

impl Clock {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, stopped: RwLock::default() }
    }

    pub(crate) fn now(&self) -> Instant {
        let _other_threads_have_no_clock_of_it = self.runtime.enter();
        Instant::now()
    }

    pub(crate) fn time_of_day(&self) -> SystemTime {
        match &*self.stopped.read().unwrap_or_else(PoisonError::into_inner) {
            None => SystemTime::now(),
            Some((time, at)) => *time + self.now().saturating_duration_since(*at),
        }
    }

    /// From here on the time of day follows the runtime's clock, or not any more.
    #[cfg(feature = "virtual-time")]
    pub(crate) fn follow(&self, runtime: bool) {
        let anchor = runtime.then(|| (SystemTime::now(), self.now()));
        *self.stopped.write().unwrap_or_else(PoisonError::into_inner) = anchor;
    }
}
