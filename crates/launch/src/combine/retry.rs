use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use procession_model::{Confinement, InvalidArgument, LaunchOptions, ProcId};
use tokio::time::sleep;

use super::attempts::{Attempt, Attempts};
use super::known::{End, Known};
use crate::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Relayed};

/// No pause gets longer than this.
const LONGEST: Duration = Duration::from_secs(60);

/// Tries again what a launcher could not start.
///
/// That is what it refuses, and what it says to have failed without ever having said that it was started. A proc that was
/// started is never launched again by this: restart policies are for that. A stop that comes between two attempts ends the launch.
pub struct Retry {
    inner: Arc<dyn ProcLauncher>,
    name: String,
    plan: Arc<[Attempt]>,
    known: Arc<Known>,
}

impl Retry {
    /// As many as `times` further attempts, the first of them after `pause`, each later one after twice the pause before, a
    /// minute at most; up to a half of each is left to chance, so that many do not come back at the same moment.
    pub fn new(inner: Arc<dyn ProcLauncher>, times: u32, pause: Duration) -> Self {
        let pauses = std::iter::successors(Some(pause.min(LONGEST)), |last| Some((*last * 2).min(LONGEST)));
        let attempt = |pause| Attempt { launcher: Arc::clone(&inner), pause, admit: false };
        let plan = std::iter::once(Duration::ZERO).chain(pauses.take(times as usize)).map(attempt).collect();
        let name = format!("retry({})", inner.name());
        Self { inner, name, plan, known: Arc::default() }
    }
}

#[async_trait]
impl ProcLauncher for Retry {
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
        let mut pauses = self.plan.iter().skip(1).map(|attempt| attempt.pause);
        loop {
            match (self.inner.admit().await, pauses.next()) {
                (Err(error), Some(pause)) => {
                    tracing::info!(launcher = self.name, %error, "it took no launch");
                    sleep(pause).await;
                }
                (answer, _) => return answer,
            }
        }
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        Attempts::new(self.known.enter(proc_id), options, Arc::clone(&self.plan)).launch().await
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
        self.known.end(proc_id, End::Terminate(timeout), std::iter::once(&self.inner)).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.known.end(proc_id, End::Kill, std::iter::once(&self.inner)).await
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retry").field(&self.name).finish()
    }
}
