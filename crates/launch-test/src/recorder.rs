use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_launch::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Relayed};
use procession_model::{Confinement, InvalidArgument, LaunchId, LaunchOptions, ProcExitResult, ProcId};
use tokio::sync::{oneshot, watch};

/// What the launcher under test has said of one launch, in its own words: a host makes up for much that it is not told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// With what it was asked to launch.
    pub(crate) asked: Option<LaunchOptions>,
    /// Its answer: the pid and the time of the start, or the error.
    pub(crate) answer: Option<Result<(Option<u32>, SystemTime), String>>,
    /// Its report of the end: none when it let go of the channel without a word.
    pub(crate) report: Option<Option<ProcExitResult>>,
    /// How often it was asked to kill.
    pub(crate) kills: usize,
    /// How often it was asked to terminate.
    pub(crate) terminations: usize,
}

/// Stands between a host and the launcher under test, and writes down what passes.
pub(crate) struct Recorder {
    inner: Arc<dyn ProcLauncher>,
    told: Arc<Mutex<HashMap<LaunchId, Told>>>,
    changed: Arc<watch::Sender<()>>,
    /// The host is told of no pid, and so can neither watch nor kill by itself.
    blind: AtomicBool,
}

impl Recorder {
    pub(crate) fn new(inner: Arc<dyn ProcLauncher>) -> Arc<Self> {
        let changed = Arc::new(watch::channel(()).0);
        Arc::new(Self { inner, told: Arc::default(), changed, blind: AtomicBool::new(false) })
    }

    /// From now on the host learns no pid.
    pub(crate) fn keep_pids(&self) {
        self.blind.store(true, Ordering::Relaxed);
    }

    /// The launcher under test itself.
    pub(crate) fn inner(&self) -> &Arc<dyn ProcLauncher> {
        &self.inner
    }

    pub(crate) fn told(&self, proc_id: &ProcId) -> Told {
        locked(&self.told).get(&proc_id.launch_id()).cloned().unwrap_or_default()
    }

    /// Waits for `something` that is told of a launch. Cancel safe.
    pub(crate) async fn wait<T>(&self, proc_id: &ProcId, something: impl Fn(&Told) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = something(&self.told(proc_id)) {
                return found;
            }
            let _the_sender_is_ours = changes.changed().await;
        }
    }

    fn note(&self, proc_id: &ProcId, change: impl FnOnce(&mut Told)) {
        change(locked(&self.told).entry(proc_id.launch_id()).or_default());
        self.changed.send_replace(());
    }

    /// Passes the launch on, with a channel for the exit that is read on its way.
    fn tap(&self, proc_id: &ProcId, launched: LaunchResult) -> LaunchResult {
        let answer = Ok((launched.pid, launched.started_at));
        self.note(proc_id, |told| told.answer = Some(answer));
        let (forward, exit_rx) = oneshot::channel();
        let (told, changed, launch) =
            (Arc::clone(&self.told), Arc::clone(&self.changed), proc_id.launch_id());
        let report = launched.exit_rx;
        tokio::spawn(async move {
            let report = report.await.ok();
            locked(&told).entry(launch).or_default().report = Some(report.clone());
            changed.send_replace(());
            if let Some(report) = report {
                let _host_gone = forward.send(report);
            }
        });
        let pid = launched.pid.filter(|_| !self.blind.load(Ordering::Relaxed));
        LaunchResult { pid, exit_rx, ..launched }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ProcLauncher for Recorder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let claimed = self.inner.capabilities();
        Capabilities { pid: claimed.pid && !self.blind.load(Ordering::Relaxed), ..claimed }
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

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        self.inner.admit().await
    }

    async fn relay(&self, proc_id: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        self.inner.relay(proc_id, host).await
    }

    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        self.note(proc_id, |told| told.asked = Some(opts.clone()));
        match self.inner.launch(proc_id, opts).await {
            Ok(launched) => Ok(self.tap(proc_id, launched)),
            Err(error) => {
                self.note(proc_id, |told| told.answer = Some(Err(error.to_string())));
                Err(error)
            }
        }
    }

    async fn adopt(
        &self,
        proc_id: &ProcId,
        opts: &LaunchOptions,
        pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let adopted = self.inner.adopt(proc_id, opts, pid).await?;
        Ok(self.tap(proc_id, adopted))
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.note(proc_id, |told| told.terminations += 1);
        self.inner.terminate(proc_id, timeout).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.note(proc_id, |told| told.kills += 1);
        self.inner.kill(proc_id).await
    }
}
