use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use procession_model::{Confinement, InvalidArgument, LaunchOptions, ProcId};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Relayed};

/// Bounds how many launches of a launcher go on at the same time, and how many begin in a second.
///
/// The others wait in the host, in their order, and are never sent when they are stopped before. A launch goes on until it was
/// answered; of a launcher that reports, until it says that the proc was started.
pub struct Throttle {
    inner: Arc<dyn ProcLauncher>,
    name: String,
    room: Arc<Semaphore>,
    /// When the next launch may begin, and how long after it another one.
    pace: Option<(Mutex<Instant>, Duration)>,
}

impl Throttle {
    /// At most `at_once` launches at the same time, none for any number; and `per_second` in a second, evenly spread, none for
    /// as many as come.
    ///
    /// # Errors
    /// One of them is nothing that can be waited for.
    pub fn new(
        inner: Arc<dyn ProcLauncher>,
        at_once: Option<usize>,
        per_second: Option<f64>,
    ) -> Result<Self, InvalidArgument> {
        if at_once == Some(0) {
            return Err(InvalidArgument::new(
                "at_once",
                "0",
                "nothing would ever be launched; give 1 at least",
            ));
        }
        let pace = match per_second {
            None => None,
            Some(rate) => {
                let gap = Duration::try_from_secs_f64(rate.recip()).ok().filter(|_| rate > 0.0);
                let rule = "has to be a number of launches above 0, such as 20.0 or 0.5";
                let gap = gap.ok_or_else(|| InvalidArgument::new("per_second", rate.to_string(), rule))?;
                Some((Mutex::new(Instant::now()), gap))
            }
        };
        let name = format!("throttle({})", inner.name());
        let room = at_once.unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Ok(Self { inner, name, room: Arc::new(Semaphore::new(room)), pace })
    }
}

#[async_trait]
impl ProcLauncher for Throttle {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn knows_status_by_parenthood(&self) -> bool {
        self.inner.knows_status_by_parenthood()
    }

    fn own_proc(&self) -> Option<ProcId> {
        self.inner.own_proc()
    }

    fn launched_in(&self, proc_id: &ProcId) -> Option<ProcId> {
        self.inner.launched_in(proc_id)
    }

    fn check(&self, confinement: &Confinement) -> Result<(), InvalidArgument> {
        self.inner.check(confinement)
    }

    async fn relay(&self, proc_id: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        self.inner.relay(proc_id, host).await
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        // It is never closed.
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.map_or_else(|_| Admission::default(), Admission::from);
        if let Some((next, gap)) = &self.pace {
            // Who waits holds it, so that the others come after it; who gives up leaves its turn to them.
            let mut next = next.lock().await;
            sleep_until(*next).await;
            *next = Instant::now() + *gap;
        }
        Ok(room.and(self.inner.admit().await?))
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        self.inner.launch(proc_id, options).await
    }

    async fn adopt(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        self.inner.adopt(proc_id, options, pid).await
    }

    async fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        self.inner.dry_run(proc_id, options).await
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.inner.terminate(proc_id, timeout).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.inner.kill(proc_id).await
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Throttle").field(&self.name).finish()
    }
}
