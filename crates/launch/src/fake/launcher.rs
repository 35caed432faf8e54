use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_model::{DialBack, LaunchOptions, ProcExitResult, ProcId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::script::{FakeEnd, FakeStep, KILL, Script, TERM, Terminated};
use crate::pieces::pieces;
use crate::{
    Capabilities, Confines, LaunchResult, ProcLauncher, ProcLauncherError, Report, Reports, StdioHandling,
};

/// A launcher of procs that are no processes, and do what a script says, by the clock of their runtime.
///
/// Where that one is stopped (`tokio::time::pause`), minutes of theirs pass as soon as nothing else is to be done, and so they do for
/// all that the host does by the clock. They become ready, end, are stopped, restarted and lost as others are. They have no pid,
/// host no actors, and cannot be attached to anything that is real.
pub struct FakeLauncher {
    scripts: Box<Scripts>,
    launches: Mutex<HashMap<String, u32>>,
    live: Arc<Live>,
}

type Scripts = dyn Fn(&ProcId, u32) -> Script + Send + Sync;
type Live = Mutex<HashMap<ProcId, Arc<Entry>>>;

/// What is asked of one proc, and whether it can be.
struct Entry {
    signal: watch::Sender<Option<i32>>,
    unreachable: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeLauncher {
    /// `scripts` is asked for each launch, with the number of those of that name so far, this one among them.
    pub fn new(scripts: impl Fn(&ProcId, u32) -> Script + Send + Sync + 'static) -> Self {
        Self { scripts: Box::new(scripts), launches: Mutex::default(), live: Arc::default() }
    }

    /// How many launches of procs of that name were asked for.
    pub fn launches(&self, name: &str) -> u32 {
        lock(&self.launches).get(name).copied().unwrap_or(0)
    }

    fn signal(&self, proc_id: &ProcId, signal: i32) -> Result<(), String> {
        // One that is not there has ended.
        let Some(entry) = lock(&self.live).get(proc_id).cloned() else { return Ok(()) };
        if let Some(why) = &*lock(&entry.unreachable) {
            return Err(why.clone());
        }
        entry.signal.send_modify(|asked| {
            if *asked != Some(KILL) {
                *asked = Some(signal);
            }
        });
        Ok(())
    }
}

#[async_trait]
impl ProcLauncher for FakeLauncher {
    fn name(&self) -> &str {
        "fake"
    }

    /// All that can be asked of procs that do nothing: nothing of it has to be carried out.
    fn capabilities(&self) -> Capabilities {
        let confines = Confines {
            memory: true,
            pids: true,
            cpu: true,
            user: true,
            rlimits: true,
            security: true,
            binding: true,
        };
        Capabilities {
            stdio: true,
            tree_kill: true,
            raw_paths: true,
            command_attributes: true,
            confines,
            group_kill: true,
            oom_facts: true,
            dial_back: DialBack::Nowhere,
            ..Capabilities::default()
        }
    }

    /// Nobody knows better how they end.
    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        _options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let number = {
            let mut launches = lock(&self.launches);
            let number = launches.entry(proc_id.name().to_owned()).or_default();
            *number += 1;
            *number
        };
        let script = (self.scripts)(proc_id, number);
        let entry = Arc::new(Entry { signal: watch::Sender::new(None), unreachable: Mutex::default() });
        lock(&self.live).insert(proc_id.clone(), Arc::clone(&entry));
        let listed = Listed(Arc::clone(&self.live), proc_id.clone());
        if let Some((after, FakeStep::FailsToLaunch(why))) = script.steps.first() {
            let mut asks = entry.signal.subscribe();
            tokio::select! {
                () = sleep(*after) => {}
                _ = asks.changed() => {}
            }
            return Err(ProcLauncherError::Other(why.clone()));
        }
        let prints = script.steps.iter().any(|(_, step)| matches!(step, FakeStep::Prints { .. }));
        let ((stdout, stdout_tx), (stderr, stderr_tx)) = (pieces(), pieces());
        let stdio = match prints {
            true => StdioHandling::Captured { stdout: Box::new(stdout), stderr: Box::new(stderr) },
            false => StdioHandling::Inherited,
        };
        let ((said, hears), (exit_tx, exit_rx)) = (mpsc::unbounded_channel(), oneshot::channel());
        let _nobody_hears_yet = said.send(Report::Handle(format!("fake:{}:{number}", proc_id.name())));
        let signal = entry.signal.subscribe();
        let life = Life { signal, entry, since: Instant::now(), said, stdout: stdout_tx, stderr: stderr_tx };
        tokio::spawn(async move {
            let exit = life.live(script).await;
            drop(listed);
            let _host_gone = exit_tx.send(exit);
        });
        let started_at = SystemTime::now();
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx, reports: Some(Reports::new(hears)) })
    }

    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        self.signal(proc_id, TERM).map_err(ProcLauncherError::Terminate)
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.signal(proc_id, KILL).map_err(ProcLauncherError::Kill)
    }
}

impl fmt::Debug for FakeLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeLauncher").field("live", &lock(&self.live).len()).finish_non_exhaustive()
    }
}

/// Takes a proc off the list when it is dropped.
struct Listed(Arc<Live>, ProcId);

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

/// One proc, from its launch to its end.
struct Life {
    signal: watch::Receiver<Option<i32>>,
    entry: Arc<Entry>,
    since: Instant,
    said: mpsc::UnboundedSender<Report>,
    stdout: mpsc::UnboundedSender<Vec<u8>>,
    stderr: mpsc::UnboundedSender<Vec<u8>>,
}

impl Life {
    async fn live(mut self, script: Script) -> ProcExitResult {
        let mut at = self.since;
        for (after, step) in script.steps {
            at += after;
            if let Some(end) = self.until(Some(at), script.terminated).await {
                return end.exit();
            }
            match step {
                FakeStep::Ends(end) => return end.exit(),
                FakeStep::Unreachable(length, why) => {
                    *lock(&self.entry.unreachable) = Some(why.clone());
                    self.say(Report::Unreachable(why));
                    at += length;
                    sleep_until(at).await;
                    *lock(&self.entry.unreachable) = None;
                    self.say(Report::Reachable);
                }
                FakeStep::Boots => self.say(Report::Ready),
                FakeStep::Progresses(text) => self.say(Report::Progress(text)),
                FakeStep::Prints { text, to_stderr } => {
                    let to = if to_stderr { &self.stderr } else { &self.stdout };
                    let _nobody_reads = to.send(text.into_bytes());
                }
                FakeStep::FailsToLaunch(why) => {
                    tracing::warn!(why, "only the first step of a script can be that its launch fails");
                }
            }
        }
        loop {
            if let Some(end) = self.until(None, script.terminated).await {
                return end.exit();
            }
        }
    }

    fn say(&self, report: Report) {
        let _nobody_listens = self.said.send(report);
    }

    /// Until then, for ever where it is not said; how it ends where it is stopped before.
    async fn until(&mut self, at: Option<Instant>, terminated: Terminated) -> Option<FakeEnd> {
        loop {
            tokio::select! {
                biased;
                asked = self.signal.changed() => asked.ok()?,
                () = sleep_until(at.unwrap_or(self.since)), if at.is_some() => return None,
            }
            let asked = *self.signal.borrow_and_update();
            match (asked, terminated) {
                (Some(TERM), Terminated::Ignores) => {}
                (Some(TERM), Terminated::Ends(after, end)) => {
                    let killed = self.signal.wait_for(|asked| *asked == Some(KILL));
                    return Some(tokio::select! {
                        () = sleep(after) => end,
                        _ = killed => FakeEnd::Signaled(KILL),
                    });
                }
                (signal, _) => return signal.map(FakeEnd::Signaled),
            }
        }
    }
}
