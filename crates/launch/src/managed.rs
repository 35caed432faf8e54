use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_model::{LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::pipe::{Full, pipe};
use crate::simple::Asked;
use crate::{
    Admission, Capabilities, Context, Found, LaunchResult, Launcher, Output, ProcLauncher, ProcLauncherError,
    Report, Reports, Signal, StdioHandling, Ticket, WaitError,
};

/// How long after its end the output of a proc may take to come, once all that came was read.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long an exit waits for the rest of its proc's output, and for what is left of it to be taken away.
const TIDY: Duration = Duration::from_secs(5);
/// How long is waited between questions to what did not answer, first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How many that have ended are told from those that were never launched.
const ENDED: usize = 1024;
/// How often it is tried to take away what is left of a proc.
const TRIES: usize = 8;

/// A [`ProcLauncher`] that is made of a [`Launcher`], which knows how to do the things of its substrate for one proc.
#[derive(Debug)]
pub struct Managed<L> {
    launcher: Arc<L>,
    room: Arc<Semaphore>,
    procs: Arc<Procs>,
}

type Procs = Mutex<Known>;

/// What was launched here.
#[derive(Debug, Default)]
struct Known {
    live: HashMap<ProcId, Arc<Entry>>,
    /// The latest that have ended.
    ended: VecDeque<ProcId>,
}

/// What is known of one proc that has not ended.
#[derive(Debug)]
struct Entry {
    handle: OnceLock<String>,
    /// What it is to get as soon as it is there.
    asked: watch::Sender<Option<Asked>>,
}

fn lock(procs: &Procs) -> MutexGuard<'_, Known> {
    procs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all launchers of substrates can do beside launching.
#[async_trait]
pub trait Engine: ProcLauncher {
    /// Whether the substrate answers, and what it is: a name and a version, for people.
    ///
    /// # Errors
    /// It does not answer.
    async fn probe(&self) -> Result<String, ProcLauncherError>;

    /// What runs Python where its procs live, where that is known.
    fn interpreter(&self) -> Option<String>;

    /// Closes its connection, where what it has launched lives no longer than that. The next launch connects anew.
    async fn close(&self) {}

    /// All that there is of procession on the substrate, whoever has launched it, as far as this user may see.
    ///
    /// # Errors
    /// The substrate cannot be asked.
    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError>;

    /// Ends what [`Self::list`] has found, and takes away what is left of it.
    ///
    /// # Errors
    /// Something of it is left, or may be.
    async fn remove(&self, handle: &str) -> Result<(), ProcLauncherError>;
}

#[async_trait]
impl<L: Launcher> Engine for Managed<L> {
    async fn probe(&self) -> Result<String, ProcLauncherError> {
        self.launcher.probe().await
    }

    fn interpreter(&self) -> Option<String> {
        self.launcher.interpreter()
    }

    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        self.launcher.list().await
    }

    async fn remove(&self, handle: &str) -> Result<(), ProcLauncherError> {
        self.launcher.signal(handle, Signal::Kill).await?;
        match timeout(TIDY, self.launcher.wait(handle)).await {
            Ok(Ok(_) | Err(WaitError::Gone(_))) => self.launcher.destroy(handle).await,
            Ok(Err(WaitError::Unreachable(why))) => Err(ProcLauncherError::Kill(why)),
            Err(_) => {
                Err(ProcLauncherError::Kill(format!("{handle} has not ended within {TIDY:?} of its kill")))
            }
        }
    }
}

impl<L: Launcher> Managed<L> {
    /// `at_once` launches go on at the same time; others wait for them.
    pub fn new(launcher: L, at_once: usize) -> Self {
        let room = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Self { launcher: Arc::new(launcher), room, procs: Arc::default() }
    }

    fn entry(&self, proc_id: &ProcId) -> Option<Arc<Entry>> {
        lock(&self.procs).live.get(proc_id).cloned()
    }

    /// A substrate that does not answer may do so soon, and what is not taken over is not watched.
    async fn recovered(&self, proc_id: &ProcId) -> Result<Option<Found>, ProcLauncherError> {
        let mut pauses = pauses(proc_id).take(TRIES);
        loop {
            match (self.launcher.recover(proc_id).await, pauses.next()) {
                (Err(_), Some(pause)) => sleep(pause).await,
                (answer, _) => return answer,
            }
        }
    }

    async fn ask(&self, proc_id: &ProcId, what: Asked) -> Result<(), ProcLauncherError> {
        let Some(entry) = self.entry(proc_id) else {
            let has_ended = lock(&self.procs).ended.contains(proc_id);
            return if has_ended { Ok(()) } else { Err(ProcLauncherError::NotFound(proc_id.to_string())) };
        };
        // First this, and then the look whether it is there: who launches does it the other way round.
        entry.asked.send_modify(|asked| {
            if *asked != Some(Asked::Kill) {
                *asked = Some(what);
            }
        });
        match entry.handle.get() {
            Some(handle) => deliver(&*self.launcher, handle, what).await,
            None => Ok(()),
        }
    }

    /// Supervises what `start` starts, of which others have read what is `known`, and seen that it is `over`.
    fn supervise<F>(
        &self,
        proc_id: &ProcId,
        known: [u64; 2],
        over: Option<ProcExitResult>,
        start: impl FnOnce(Context) -> F,
    ) -> LaunchResult
    where
        F: Future<Output = Result<String, ProcLauncherError>> + Send + 'static,
    {
        let (reports_tx, reports) = mpsc::unbounded_channel();
        let (exit_tx, exit_rx) = oneshot::channel();
        let exit_tx = match over {
            Some(exit) => {
                let _read_below = exit_tx.send(exit);
                None
            }
            None => Some(exit_tx),
        };
        let (asked, is_asked) = watch::channel(None);
        let entry = Arc::new(Entry { handle: OnceLock::new(), asked });
        lock(&self.procs).live.insert(proc_id.clone(), Arc::clone(&entry));
        let (stdio, output) = if self.launcher.capabilities().stdio {
            let full = [Full::default(), Full::default()];
            let (stdout, stdout_in) = pipe(&full[0], known[0]);
            let (stderr, stderr_in) = pipe(&full[1], known[1]);
            let output = Output { stdout: Box::new(stdout_in), stderr: Box::new(stderr_in) };
            let stdio = StdioHandling::Captured { stdout: Box::new(stdout), stderr: Box::new(stderr) };
            (stdio, Some((output, full)))
        } else {
            (StdioHandling::Inherited, None)
        };
        let started = start(Context::new(reports_tx.clone(), is_asked));
        let watched = Watched {
            launcher: Arc::clone(&self.launcher),
            entry,
            proc_id: proc_id.clone(),
            reports: reports_tx,
            _listed: Listed(Arc::clone(&self.procs), proc_id.clone()),
        };
        tokio::spawn(async move {
            let exit = watched.run(started, output).await;
            drop(watched);
            if let Some(exit_tx) = exit_tx {
                let _host_gone = exit_tx.send(exit);
            }
        });
        LaunchResult {
            pid: None,
            started_at: SystemTime::now(),
            stdio,
            exit_rx,
            reports: Some(Reports::new(reports)),
        }
    }
}

#[async_trait]
impl<L: Launcher> ProcLauncher for Managed<L> {
    fn name(&self) -> &str {
        self.launcher.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.launcher.capabilities()
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        let permit = Arc::clone(&self.room).acquire_owned().await;
        permit.map(Admission::from).map_err(|error| ProcLauncherError::Other(error.to_string()))
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let (launcher, id) = (Arc::clone(&self.launcher), proc_id.clone());
        let start = |context| async move { launcher.launch(&id, &options, &context).await };
        Ok(self.supervise(proc_id, [0; 2], None, start))
    }

    async fn adopt(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        _pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        if !self.capabilities().adopt {
            let name = self.name();
            let text = format!("launcher {name:?} does not take over what another process has launched");
            return Err(ProcLauncherError::Other(text));
        }
        if let Some(Found { handle, running, .. }) = self.recovered(proc_id).await? {
            let over = match running {
                true => None,
                // Who takes it over wants to know that at once.
                false => timeout(TIDY, self.launcher.wait(&handle)).await.ok().and_then(Result::ok),
            };
            return Ok(self.supervise(proc_id, written(options), over, |_| async move { Ok(handle) }));
        }
        let reason = format!("launcher {:?} knows nothing of it any more", self.name());
        let (exit_tx, exit_rx) = oneshot::channel();
        let _host_gone = exit_tx.send(ProcExitResult::new(ProcExitKind::Lost { reason }));
        let (started_at, stdio) = (SystemTime::now(), StdioHandling::Inherited);
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx, reports: None })
    }

    fn ticket(&self) -> Option<Ticket> {
        self.launcher.ticket()
    }

    async fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        self.launcher.dry_run(proc_id, &options.without_secrets())
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.ask(proc_id, Asked::Terminate(timeout)).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.ask(proc_id, Asked::Kill).await
    }
}

async fn deliver<L: Launcher>(launcher: &L, handle: &str, what: Asked) -> Result<(), ProcLauncherError> {
    match what {
        Asked::Terminate(within) => launcher.terminate(handle, within).await,
        Asked::Kill => launcher.signal(handle, Signal::Kill).await,
    }
}

/// How much of its output is in the files of a proc that has outlived its host.
fn written(options: &LaunchOptions) -> [u64; 2] {
    let Some(files) = &options.output else { return [0; 2] };
    [&files.stdout, &files.stderr].map(|path| fs::metadata(path).map_or(0, |file| file.len()))
}

/// Takes a proc off the list when it is dropped, also by a panic.
#[derive(Debug)]
struct Listed(Arc<Procs>, ProcId);

impl Drop for Listed {
    fn drop(&mut self) {
        let mut known = lock(&self.0);
        known.live.remove(&self.1);
        if known.ended.len() == ENDED {
            known.ended.pop_front();
        }
        known.ended.push_back(self.1.clone());
    }
}

/// One proc from its launch to its exit.
struct Watched<L> {
    launcher: Arc<L>,
    entry: Arc<Entry>,
    proc_id: ProcId,
    reports: mpsc::UnboundedSender<Report>,
    _listed: Listed,
}

impl<L: Launcher> Watched<L> {
    async fn run(
        &self,
        started: impl Future<Output = Result<String, ProcLauncherError>>,
        output: Option<(Output, [Full; 2])>,
    ) -> ProcExitResult {
        let handle = match started.await {
            Ok(handle) => handle,
            Err(error) if self.entry.asked.borrow().is_some() => {
                return ProcExitResult::failed(format!("cancelled before it was started ({error})"));
            }
            Err(error) => return ProcExitResult::failed(error.to_string()),
        };
        self.report(Report::Handle(handle.clone()));
        let handle = self.entry.handle.get_or_init(|| handle);
        let asked = *self.entry.asked.borrow();
        if let Some(what) = asked
            && let Err(error) = deliver(&*self.launcher, handle, what).await
        {
            tracing::warn!(proc_id = %self.proc_id, %error, "what was asked for before it was started could not be done");
        }
        let logs = output.map(|(output, full)| (self.read_logs(handle.clone(), output), full));
        let exit = self.exit(handle).await;
        let rest = tokio::spawn(rest(Arc::clone(&self.launcher), self.proc_id.clone(), handle.clone(), logs));
        let _goes_on = timeout(TIDY, rest).await;
        exit
    }

    fn report(&self, report: Report) {
        let _nobody_listens = self.reports.send(report);
    }

    fn read_logs(&self, handle: String, output: Output) -> JoinHandle<()> {
        let (launcher, proc_id) = (Arc::clone(&self.launcher), self.proc_id.clone());
        tokio::spawn(async move {
            if let Err(error) = launcher.logs(&handle, output).await {
                tracing::warn!(%proc_id, %error, "its output could not be read to its end");
            }
        })
    }

    /// Asks until it is known how it ended, however long nobody answers: that is bounded by who listens.
    async fn exit(&self, handle: &str) -> ProcExitResult {
        loop {
            match self.launcher.wait(handle).await {
                Ok(exit) => return exit,
                Err(WaitError::Gone(reason)) => return ProcExitResult::new(ProcExitKind::Lost { reason }),
                Err(WaitError::Unreachable(why)) => {
                    self.report(Report::Unreachable(why));
                    let mut pauses = pauses(&self.proc_id);
                    loop {
                        sleep(pauses.next().unwrap_or(PAUSE.1)).await;
                        if self.launcher.probe().await.is_ok() {
                            break;
                        }
                    }
                    self.report(Report::Reachable);
                }
            }
        }
    }
}

/// What is to be done for a proc that has ended: its output is read to the end, and what is left of it is taken away.
async fn rest<L: Launcher>(
    launcher: Arc<L>,
    proc_id: ProcId,
    handle: String,
    logs: Option<(JoinHandle<()>, [Full; 2])>,
) {
    if let Some((mut logs, full)) = logs {
        while timeout(LAST_OUTPUT, &mut logs).await.is_err() {
            if !full.iter().any(Full::is_so) {
                logs.abort();
                tracing::warn!(%proc_id, "the end of its output did not come within {LAST_OUTPUT:?} of its end");
                break;
            }
        }
    }
    let mut last = String::new();
    for pause in pauses(&proc_id).take(TRIES) {
        match launcher.destroy(&handle).await {
            Ok(()) => return,
            Err(error) => last = error.to_string(),
        }
        sleep(pause).await;
    }
    tracing::warn!(%proc_id, handle, error = last, "what is left of it could not be taken away");
}

/// Longer and longer, and for each proc a little different, so that many do not ask at the same moment.
fn pauses(proc_id: &ProcId) -> impl Iterator<Item = Duration> {
    let share = f64::from(proc_id.launch_id().to_bytes()[0]) / f64::from(u8::MAX);
    let (first, most) = PAUSE;
    std::iter::successors(Some(first), move |last| Some((*last * 2).min(most)))
        .map(move |pause| pause.mul_f64(0.75 + share / 2.0))
}
