use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use procession_model::{Confinement, InvalidArgument, LaunchOptions, ProcId};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::later;
use super::tape::{Bytes, Line, Stream, Tape, TapeError, What};
use crate::{
    Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Relayed, Report, Reports,
    StdioHandling,
};

/// Writes down what a launcher is asked and what it answers, for a [`Replay`](super::Replay) without it.
///
/// A file of one JSON object a line: first what the launcher can do, then each launch (never its payload, and of its environment
/// the names alone), its answer, its reports, its output and its exit, each with its time since the launch was asked for. What
/// is not handed over here, such as output that a launcher feeds to the log channel itself, is not in it.
pub struct Recording {
    inner: Arc<dyn ProcLauncher>,
    name: String,
    tape: Arc<Tape>,
    launches: Arc<Launches>,
}

type Launches = Mutex<HashMap<ProcId, Track>>;

fn lock(launches: &Launches) -> MutexGuard<'_, HashMap<ProcId, Track>> {
    launches.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is written about one launch.
#[derive(Clone, Debug)]
struct Track {
    tape: Arc<Tape>,
    launch: usize,
    since: Instant,
}

impl Track {
    fn note(&self, what: What) {
        let after = self.since.elapsed().as_secs_f64();
        self.tape.note(&Line { launch: self.launch, after, what });
    }
}

impl Recording {
    /// Writes `file` anew.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(inner: Arc<dyn ProcLauncher>, file: &Path) -> Result<Self, TapeError> {
        let tape = Arc::new(Tape::create(file, inner.name(), inner.capabilities())?);
        let name = format!("record({})", inner.name());
        Ok(Self { inner, name, tape, launches: Arc::default() })
    }

    /// Of a stop, which may have ended the proc before it was answered.
    fn asking(&self, proc_id: &ProcId) -> impl FnOnce(What) + use<> {
        let asked = lock(&self.launches).get(proc_id).map(|track| (track.clone(), track.since.elapsed()));
        move |what| {
            if let Some((track, after)) = asked {
                track.tape.note(&Line { launch: track.launch, after: after.as_secs_f64(), what });
            }
        }
    }

    fn follow(&self, proc_id: &ProcId, track: Track, launched: LaunchResult) -> LaunchResult {
        let LaunchResult { pid, started_at, stdio, mut exit_rx, reports } = launched;
        let (stdio, output) = match later::streams(stdio) {
            Ok((stdout, stderr)) => {
                let read = |stream, source| Box::new(Recorded { source, stream, track: track.clone() });
                let (stdout, stderr) = (read(Stream::Stdout, stdout), read(Stream::Stderr, stderr));
                (StdioHandling::Captured { stdout, stderr }, true)
            }
            Err(none) => (none, false),
        };
        track.note(What::Answered { pid, output });
        let (said, hears) = mpsc::unbounded_channel();
        let (exit_tx, exit) = oneshot::channel();
        let has_reports = reports.is_some();
        let mut reports = reports.unwrap_or_else(|| Reports::new(mpsc::unbounded_channel().1));
        let (launches, proc_id) = (Arc::clone(&self.launches), proc_id.clone());
        tokio::spawn(async move {
            let exit = loop {
                tokio::select! {
                    biased;
                    Some(report) = reports.next() => {
                        track.note(said_so(report.clone()));
                        let _nobody_listens = said.send(report);
                    }
                    exit = &mut exit_rx => break exit.ok(),
                }
            };
            lock(&launches).remove(&proc_id);
            match exit {
                Some(exit) => {
                    track.note(What::Exit { exit: exit.clone() });
                    let _host_gone = exit_tx.send(exit);
                }
                None => track.note(What::NoExit),
            }
        });
        let reports = has_reports.then(|| Reports::new(hears));
        LaunchResult { pid, started_at, stdio, exit_rx: exit, reports }
    }
}

fn said_so(report: Report) -> What {
    match report {
        Report::Progress(text) => What::Progress { text },
        Report::Handle(handle) => What::Handle { handle },
        Report::Pid(pid) => What::Pid { pid },
        Report::Unreachable(why) => What::Unreachable { why },
        Report::Reachable => What::Reachable,
        #[cfg(feature = "fake")]
        Report::Ready => What::Ready,
    }
}

fn refusal(answer: &Result<(), ProcLauncherError>) -> Option<String> {
    answer.as_ref().err().map(ToString::to_string)
}

#[async_trait]
impl ProcLauncher for Recording {
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
        self.inner.admit().await
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let launch = self.tape.launch(proc_id.name(), &options);
        let track = Track { tape: Arc::clone(&self.tape), launch, since: Instant::now() };
        lock(&self.launches).insert(proc_id.clone(), track.clone());
        match self.inner.launch(proc_id, options).await {
            Ok(launched) => Ok(self.follow(proc_id, track, launched)),
            Err(error) => {
                lock(&self.launches).remove(proc_id);
                track.note(What::Refused { why: error.to_string() });
                Err(error)
            }
        }
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
        let note = self.asking(proc_id);
        let answer = self.inner.terminate(proc_id, timeout).await;
        note(What::Terminate { timeout: timeout.as_secs_f64(), refused: refusal(&answer) });
        answer
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        let note = self.asking(proc_id);
        let answer = self.inner.kill(proc_id).await;
        note(What::Kill { refused: refusal(&answer) });
        answer
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recording").field(&self.name).finish()
    }
}

/// Output that is written down as it is read.
struct Recorded {
    source: later::Stream,
    stream: Stream,
    track: Track,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.source).poll_read(cx, buf));
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.track.note(What::Output { stream: self.stream, bytes: Bytes::new(bytes) });
        }
        Poll::Ready(read)
    }
}
