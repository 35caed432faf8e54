use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_model::{DialBack, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::known::{End, Here, Known};
use super::tape::{self, Label, Line, Stream, TapeError, What};
use crate::pieces::pieces;
use crate::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Report, Reports, StdioHandling};

/// Answers as another launcher did while it was recorded, see [`Recording`](super::Recording), without that and without any process.
///
/// A launch is answered as the recorded one of the same proc name was, the second of a name as the second: with what was said,
/// written, and reported as the exit, each as long after the launch as then. A proc that is stopped ends as the recorded one did
/// when it was stopped so, as long after that; one that was not stopped then ends at once, by the signal. A launch that was not
/// recorded fails. No proc has a process, so none has a pid, and none calls back.
pub struct Replay {
    name: String,
    file: String,
    capabilities: Capabilities,
    launches: HashMap<String, Vec<Arc<[Line]>>>,
    next: Mutex<HashMap<String, usize>>,
    known: Arc<Known>,
    playing: Arc<Mutex<HashMap<ProcId, Arc<[Line]>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replay {
    /// What was recorded in `file`.
    ///
    /// # Errors
    /// It cannot be read, or is no recording.
    pub fn new(file: &Path) -> Result<Self, TapeError> {
        let (Label { launcher, capabilities, .. }, recorded) = tape::read(file)?;
        let capabilities = Capabilities {
            pid: false,
            adopt: false,
            dial_back: DialBack::Local,
            // What was asked for is the recording's; nothing is left to be carried out.
            ..capabilities
        };
        let mut launches: HashMap<_, Vec<_>> = HashMap::new();
        for mut lines in recorded {
            let Some(What::Launch { name, .. }) = lines.first().map(|line| &line.what) else { continue };
            let name = name.clone();
            // What was read after the exit had been written before it.
            if let Some(end) = lines.iter().find(|line| is_end(&line.what)).map(|line| line.after) {
                lines.iter_mut().for_each(|line| line.after = line.after.min(end));
            }
            lines.sort_by(|one, other| {
                let later = one.after.total_cmp(&other.after);
                later.then(is_end(&one.what).cmp(&is_end(&other.what)))
            });
            launches.entry(name).or_default().push(Arc::from(lines));
        }
        Ok(Self {
            name: format!("replay({launcher})"),
            file: file.display().to_string(),
            capabilities,
            launches,
            next: Mutex::default(),
            known: Arc::default(),
            playing: Arc::default(),
        })
    }

    /// The recorded launch that this one is.
    fn recorded(&self, name: &str) -> Result<Arc<[Line]>, ProcLauncherError> {
        let mut next = lock(&self.next);
        let next = next.entry(name.to_owned()).or_default();
        let all = self.launches.get(name).map_or(&[][..], Vec::as_slice);
        if let Some(lines) = all.get(*next) {
            *next += 1;
            return Ok(Arc::clone(lines));
        }
        let why = if all.is_empty() {
            let names: BTreeSet<_> = self.launches.keys().map(String::as_str).collect();
            let names = names.into_iter().take(8).collect::<Vec<_>>().join(", ");
            format!("no launch of proc {name:?} was recorded; those recorded are of {names}")
        } else {
            format!("launch {} of proc {name:?} was not recorded; {} of it were", *next + 1, all.len())
        };
        Err(ProcLauncherError::Other(format!("replay of {}: {why}", self.file)))
    }

    async fn end(&self, proc_id: &ProcId, how: End) -> Result<(), ProcLauncherError> {
        let lines = lock(&self.playing).get(proc_id).cloned();
        if let Some(why) = lines.and_then(|lines| recorded_stop(&lines, how)?.1) {
            return Err(match how {
                End::Terminate(_) => ProcLauncherError::Terminate(why),
                End::Kill => ProcLauncherError::Kill(why),
            });
        }
        self.known.end(proc_id, how, std::iter::empty()).await
    }
}

/// When such a stop was recorded, and why it was refused.
fn recorded_stop(lines: &[Line], how: End) -> Option<(Duration, Option<String>)> {
    lines.iter().find_map(|line| match (&line.what, how) {
        (What::Terminate { refused, .. }, End::Terminate(_)) | (What::Kill { refused }, End::Kill) => {
            Some((after(line), refused.clone()))
        }
        _ => None,
    })
}

fn after(line: &Line) -> Duration {
    Duration::try_from_secs_f64(line.after).unwrap_or_default()
}

fn signal(how: End) -> i32 {
    match how {
        End::Terminate(_) => 15,
        End::Kill => 9,
    }
}

/// One launch that is played.
struct Playing {
    here: Here,
    lines: Arc<[Line]>,
    since: Instant,
    said: mpsc::UnboundedSender<Report>,
    stdout: mpsc::UnboundedSender<Vec<u8>>,
    stderr: mpsc::UnboundedSender<Vec<u8>>,
}

impl Playing {
    /// Plays it to its end; none where no exit was recorded, though its end was.
    async fn play(self) -> Option<ProcExitResult> {
        let mut asks = self.here.asks();
        let lines = Arc::clone(&self.lines);
        let exit_at = lines.iter().find(|line| is_end(&line.what)).map(after);
        // By how much it comes earlier than it was recorded.
        let mut earlier = Duration::ZERO;
        for line in lines.iter() {
            loop {
                let due = self.since + after(line).saturating_sub(earlier);
                tokio::select! {
                    biased;
                    () = sleep_until(due) => break,
                    Ok(()) = asks.changed() => {}
                }
                let Some(how) = *asks.borrow_and_update() else { continue };
                let (Some((stop, _)), Some(exit)) = (recorded_stop(&lines, how), exit_at) else {
                    let kind = ProcExitKind::Signaled { signal: signal(how), core_dumped: false };
                    return Some(ProcExitResult::new(kind));
                };
                let ends = self.since.elapsed() + exit.saturating_sub(stop);
                earlier = earlier.max(exit.saturating_sub(ends));
            }
            match &line.what {
                What::Exit { exit } => return Some(ProcExitResult { ended_at: None, ..exit.clone() }),
                What::NoExit => return None,
                what => self.say(what),
            }
        }
        let reason = "its recording ends before its exit does".to_owned();
        Some(ProcExitResult::new(ProcExitKind::Lost { reason }))
    }

    fn say(&self, what: &What) {
        let report = match what.clone() {
            What::Progress { text } => Report::Progress(text),
            What::Handle { handle } => Report::Handle(handle),
            What::Unreachable { why } => Report::Unreachable(why),
            What::Reachable => Report::Reachable,
            #[cfg(feature = "fake")]
            What::Ready => Report::Ready,
            What::Output { stream, bytes } => {
                let to = if stream == Stream::Stdout { &self.stdout } else { &self.stderr };
                let _nobody_reads = to.send(bytes.to_vec().unwrap_or_default());
                return;
            }
            // That was an answer, a request, or of another process.
            _ => return,
        };
        let _nobody_listens = self.said.send(report);
    }
}

fn is_end(what: &What) -> bool {
    matches!(what, What::Exit { .. } | What::NoExit)
}

#[async_trait]
impl ProcLauncher for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        _options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let lines = self.recorded(proc_id.name())?;
        let here = self.known.enter(proc_id);
        let (since, started_at) = (Instant::now(), SystemTime::now());
        let answer = lines.iter().find_map(|line| match &line.what {
            What::Answered { output, .. } => Some((after(line), Ok(*output))),
            What::Refused { why } => Some((after(line), Err(why.clone()))),
            _ => None,
        });
        let (when, answer) = answer.unwrap_or_else(|| {
            let why = format!("replay of {}: the recording ends before {proc_id} was answered", self.file);
            (Duration::ZERO, Err(why))
        });
        tokio::select! {
            () = sleep_until(since + when) => {}
            () = here.is_asked() => return Err(ProcLauncherError::Other("cancelled before it was started".to_owned())),
        }
        let has_output = answer.map_err(ProcLauncherError::Other)?;
        let ((said, hears), (exit_tx, exit_rx)) = (mpsc::unbounded_channel(), oneshot::channel());
        let ((stdout, stdout_tx), (stderr, stderr_tx)) = (pieces(), pieces());
        let stdio = match has_output {
            true => StdioHandling::Captured { stdout: Box::new(stdout), stderr: Box::new(stderr) },
            false => StdioHandling::Inherited,
        };
        lock(&self.playing).insert(proc_id.clone(), Arc::clone(&lines));
        let (all, proc_id) = (Arc::clone(&self.playing), proc_id.clone());
        let playing = Playing { here, lines, since, said, stdout: stdout_tx, stderr: stderr_tx };
        tokio::spawn(async move {
            let exit = playing.play().await;
            lock(&all).remove(&proc_id);
            if let Some(exit) = exit {
                let _host_gone = exit_tx.send(exit);
            }
        });
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx, reports: Some(Reports::new(hears)) })
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.end(proc_id, End::Terminate(timeout)).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.end(proc_id, End::Kill).await
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("name", &self.name).field("file", &self.file).finish_non_exhaustive()
    }
}
