use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use procession_model::{LaunchOptions, ProcExitKind, ProcExitResult};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::known::Here;
use super::later::{self, Source};
use super::odds::Odds;
use crate::{Admission, LaunchResult, ProcLauncher, ProcLauncherError, Report, Reports, StdioHandling};

/// One of the ways in which a launch is tried, in their order.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) launcher: Arc<dyn ProcLauncher>,
    /// How long is waited before it, up to a half more or less.
    pub(super) pause: Duration,
    /// Whether the launch still has to be admitted there.
    pub(super) admit: bool,
}

/// One launch, which is tried until it has been started somewhere, and not again after that.
pub(super) struct Attempts {
    here: Here,
    options: LaunchOptions,
    plan: Arc<[Attempt]>,
    made: usize,
    /// Why it was started nowhere so far.
    whys: Vec<String>,
    odds: Odds,
}

/// What became of a launch that was answered.
enum Answered {
    Started,
    /// It is over, and was never said to have been started.
    Over(Option<ProcExitResult>),
}

impl Attempts {
    pub(super) fn new(here: Here, options: LaunchOptions, plan: Arc<[Attempt]>) -> Self {
        let odds = Odds::of_launch(&here.proc_id);
        Self { here, options, plan, made: 0, whys: Vec::new(), odds }
    }

    /// Tries until a launcher has answered the launch, and goes on where that one says later that it started nothing.
    pub(super) async fn launch(mut self) -> Result<LaunchResult, ProcLauncherError> {
        let launched = self.next().await?;
        let LaunchResult { pid, started_at, stdio, exit_rx, reports } = launched;
        let (exit_tx, exit) = oneshot::channel();
        let is_last = self.made == self.plan.len();
        let (stdio, reports) = match reports {
            Some(reports) if pid.is_none() && !is_last => {
                let (said, hears) = mpsc::unbounded_channel();
                let (later, source) = later::output();
                let current = Current { reports, exit: exit_rx, stdio };
                tokio::spawn(self.see_it_started(current, source, said, exit_tx));
                (later, Some(Reports::new(hears)))
            }
            reports => {
                tokio::spawn(async move {
                    // The end of the channel is one too.
                    if let Ok(exit) = exit_rx.await {
                        drop(self);
                        let _host_gone = exit_tx.send(exit);
                    }
                });
                (stdio, reports)
            }
        };
        Ok(LaunchResult { pid, started_at, stdio, exit_rx: exit, reports })
    }

    /// What the next launcher answers that does not refuse.
    async fn next(&mut self) -> Result<LaunchResult, ProcLauncherError> {
        loop {
            let Some(Attempt { launcher, pause, admit }) = self.plan.get(self.made).cloned() else {
                return Err(ProcLauncherError::Other(self.why_nowhere()));
            };
            self.made += 1;
            let pause = pause.mul_f64(0.5 + self.odds.share());
            let admission = async {
                sleep(pause).await;
                if admit { launcher.admit().await } else { Ok(Admission::default()) }
            };
            let admission = tokio::select! {
                biased;
                () = self.here.is_asked() => return Err(ProcLauncherError::Other(self.why_cancelled())),
                admission = admission => admission,
            };
            let launched = match admission {
                Ok(admission) => self.ask(&launcher).await.map(|launched| LaunchResult {
                    reports: launched.reports.map(|reports| reports.holding(Some(admission))),
                    ..launched
                }),
                Err(error) => Err(error),
            };
            match launched {
                Ok(launched) => return Ok(launched),
                Err(error) => self.note(launcher.name(), &error.to_string()),
            }
        }
    }

    async fn ask(&self, launcher: &Arc<dyn ProcLauncher>) -> Result<LaunchResult, ProcLauncherError> {
        let mut launching = launcher.launch(&self.here.proc_id, self.options.clone());
        let first = poll_fn(|cx| Poll::Ready(launching.as_mut().poll(cx))).await;
        // It was polled once: what it is asked from here on comes second.
        self.here.is_at(Some(launcher));
        if let Some(how) = self.here.asked() {
            let (launcher, proc_id) = (Arc::clone(launcher), self.here.proc_id.clone());
            tokio::spawn(async move {
                if let Err(error) = how.ask(launcher.as_ref(), &proc_id).await {
                    tracing::warn!(%proc_id, %error, "it was asked to end while it was handed on, and could not be");
                }
            });
        }
        let launched = match first {
            Poll::Ready(launched) => launched,
            Poll::Pending => launching.await,
        };
        if launched.is_err() {
            self.here.is_at(None);
        }
        launched
    }

    fn note(&mut self, launcher: &str, why: &str) {
        tracing::info!(proc_id = %self.here.proc_id, launcher, attempt = self.made, why, "nothing was started");
        self.whys.push(format!("{launcher}: {why}"));
    }

    fn why_nowhere(&self) -> String {
        match self.whys.as_slice() {
            [.., last] if self.whys.iter().all(|why| why == last) => {
                format!("{last} (tried {} times)", self.whys.len())
            }
            whys => format!("tried {} times: {}", whys.len(), whys.join("; then ")),
        }
    }

    fn why_cancelled(&self) -> String {
        let so_far = self.whys.last().map(|why| format!("; the last attempt failed: {why}"));
        format!("cancelled before it was started{}", so_far.unwrap_or_default())
    }

    /// Until the launch was started, or is over.
    async fn see_it_started(
        mut self,
        mut current: Current,
        source: Source,
        said: mpsc::UnboundedSender<Report>,
        exit_tx: oneshot::Sender<ProcExitResult>,
    ) {
        let exit = loop {
            match current.answered(&said).await {
                Answered::Started => {
                    source.is(std::mem::replace(&mut current.stdio, StdioHandling::Inherited));
                    break current.over(&said).await;
                }
                Answered::Over(Some(ProcExitResult { kind: ProcExitKind::Failed { reason }, .. }))
                    if self.made < self.plan.len() && self.here.asked().is_none() =>
                {
                    self.here.is_at(None);
                    let launcher = Arc::clone(&self.plan[self.made - 1].launcher);
                    self.note(launcher.name(), &reason);
                    let text = format!("attempt {} of {} failed: {reason}", self.made, self.plan.len());
                    let _nobody_listens = said.send(Report::Progress(text));
                    // With the room that it had.
                    drop(current);
                }
                Answered::Over(exit) => {
                    source.is(std::mem::replace(&mut current.stdio, StdioHandling::Inherited));
                    break exit;
                }
            }
            match self.next().await {
                Ok(LaunchResult { pid, stdio, exit_rx, reports, .. }) => {
                    let is_started = reports.is_none();
                    let reports = reports.unwrap_or_else(|| Reports::new(mpsc::unbounded_channel().1));
                    current = Current { reports, exit: exit_rx, stdio };
                    if let Some(pid) = pid {
                        let _nobody_listens = said.send(Report::Pid(pid));
                    }
                    if is_started || pid.is_some() {
                        source.is(std::mem::replace(&mut current.stdio, StdioHandling::Inherited));
                        break current.over(&said).await;
                    }
                }
                Err(error) => break Some(ProcExitResult::failed(error.to_string())),
            }
        };
        drop(self);
        if let Some(exit) = exit {
            let _host_gone = exit_tx.send(exit);
        }
    }
}

/// The attempt that goes on.
struct Current {
    reports: Reports,
    exit: oneshot::Receiver<ProcExitResult>,
    stdio: StdioHandling,
}

impl Current {
    /// Passes on what is said, until it says that it was started.
    async fn answered(&mut self, said: &mpsc::UnboundedSender<Report>) -> Answered {
        loop {
            tokio::select! {
                biased;
                Some(report) = self.reports.next() => {
                    let is_started = matches!(report, Report::Handle(_) | Report::Pid(_));
                    let _nobody_listens = said.send(report);
                    if is_started {
                        return Answered::Started;
                    }
                }
                exit = &mut self.exit => return Answered::Over(exit.ok()),
            }
        }
    }

    /// Passes on what is said, until it is over.
    async fn over(&mut self, said: &mpsc::UnboundedSender<Report>) -> Option<ProcExitResult> {
        loop {
            tokio::select! {
                biased;
                Some(report) = self.reports.next() => {
                    let _nobody_listens = said.send(report);
                }
                exit = &mut self.exit => return exit.ok(),
            }
        }
    }
}
