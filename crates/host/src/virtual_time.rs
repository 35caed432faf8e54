use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use procession_model::{InvalidArgument, ProcId, ProcStatus};
use procession_supervise::{HOST, StopHow};
use tokio::runtime::RuntimeFlavor;
use tokio::time::{Instant, pause, resume, sleep};

use crate::core::Core;
use crate::host::Host;
use crate::proc_ref::ProcRef;

/// Stops the clock of a host's runtime until it is dropped: minutes then pass as soon as nothing else is to be done.
///
/// All that the host does by the clock goes by this one: deadlines, ladders of stops, back-off and limits of restarts, and the
/// times that it tells. It is for procs of a [`FakeLauncher`](procession_launch::FakeLauncher) alone: a process has a time of its own.
pub struct VirtualTime {
    core: Arc<Core>,
    began: Instant,
    /// What lived when it began.
    before: HashSet<ProcId>,
}

impl VirtualTime {
    /// In the runtime of that host, which has one thread.
    ///
    /// # Errors
    /// It is a runtime with more threads; or a proc of the host is being started or stopped, which is done by the clock.
    pub fn begin(host: &Host) -> Result<Self, InvalidArgument> {
        let core = Arc::clone(host.core());
        let refused = |value: String, rule: &str| InvalidArgument::new("host", value, rule);
        let flavor = core.runtime.runtime_flavor();
        if flavor != RuntimeFlavor::CurrentThread {
            return Err(refused(
                format!("{flavor:?}"),
                "its clock can be stopped in a runtime of one thread",
            ));
        }
        let live = core.live();
        let waits_for_nothing = |one: &&ProcRef| match one.status().status {
            ProcStatus::Ready => true,
            ProcStatus::Running => !one.0.calls_back,
            _ => false,
        };
        if let Some(one) = live.iter().find(|one| !waits_for_nothing(one)) {
            let rule = "it is being started or stopped, by a clock that would be stopped; wait for it first";
            return Err(refused(format!("{} ({})", one.id(), one.status().status), rule));
        }
        let _inside = core.runtime.enter();
        pause();
        core.clock.follow(true);
        let began = core.clock.now();
        Ok(Self { before: live.iter().map(|one| one.id().clone()).collect(), core, began })
    }

    /// How much of it has passed.
    pub fn elapsed(&self) -> Duration {
        self.core.clock.now().saturating_duration_since(self.began)
    }

    /// What time of the day it is by it.
    pub fn time_of_day(&self) -> SystemTime {
        self.core.clock.time_of_day()
    }

    /// Lets so much of it pass, with all that is due in it, one after the other.
    pub async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    /// Kills what was launched by it and lives, and lets the clock go on.
    pub async fn end(self) {
        let mut live = self.core.live();
        live.retain(|proc_| !self.before.contains(proc_.id()));
        for proc_ in &live {
            proc_.ask(StopHow::Kill, Duration::ZERO, HOST, "virtual time ends", None);
        }
        for proc_ in live {
            proc_.ended().await;
        }
    }

    /// No time passes until this is dropped, so that other threads have all of theirs.
    pub fn stand_still(&self) -> Standstill {
        let (release, released) = mpsc::channel();
        // A stopped clock does not go on while something is done on a thread of the pool.
        self.core.runtime.spawn_blocking(move || {
            let _it_was_dropped = released.recv();
        });
        Standstill { _release: release }
    }
}

impl Drop for VirtualTime {
    fn drop(&mut self) {
        self.core.clock.follow(false);
        let _inside = self.core.runtime.enter();
        resume();
    }
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualTime").field(&self.elapsed()).finish()
    }
}

/// Keeps virtual time from passing.
#[derive(Debug)]
pub struct Standstill {
    _release: mpsc::Sender<()>,
}
