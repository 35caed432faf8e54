use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use procession_model::{LaunchOptions, ProcExitResult, ProcId};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

use crate::{Capabilities, Found, ProcLauncherError, Report, Ticket};

/// What is known of one substrate: how to start one proc there, to wait for it, to signal it and to take away what is left.
///
/// [`Managed`](crate::Managed) makes a [`ProcLauncher`](crate::ProcLauncher) of it: exactly one exit for each launch, stops
/// that come while it is still being started, output, retries while the substrate cannot be asked, and adoption. Every
/// method may be called for many procs at the same time. Dropping a future of any of them must not lose a proc: what was
/// begun is found again by [`Self::recover`].
#[async_trait]
pub trait Launcher: Send + Sync + 'static {
    /// A short name for tables and logs: `docker`.
    fn name(&self) -> &str;

    /// What it can and cannot do. What it does not claim is refused, and never ignored.
    fn capabilities(&self) -> Capabilities;

    /// Starts the proc, and gives its handle: the substrate's own name for it, which all other methods take.
    ///
    /// It may take minutes where it says how far it has come, see [`Context::progress`].
    ///
    /// # Errors
    /// Nothing was started, or what was is gone again.
    async fn launch(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        context: &Context,
    ) -> Result<String, ProcLauncherError>;

    /// Waits until it has ended, and says how. Called again after [`WaitError::Unreachable`].
    ///
    /// # Errors
    /// The substrate cannot be asked, or knows nothing of it.
    async fn wait(&self, handle: &str) -> Result<ProcExitResult, WaitError>;

    /// Sends a signal to all of its tree; `Ok` for one that has ended.
    ///
    /// # Errors
    /// The signal could not be delivered, to something that may live.
    async fn signal(&self, handle: &str, signal: Signal) -> Result<(), ProcLauncherError>;

    /// Asks all of its tree to end, which has that long; the clock is the caller's, who kills it then. What leaves that to the
    /// substrate may say so there.
    ///
    /// # Errors
    /// The request could not be delivered.
    async fn terminate(&self, handle: &str, _within: Duration) -> Result<(), ProcLauncherError> {
        self.signal(handle, Signal::Terminate).await
    }

    /// Takes away what is left of it after its end. `Ok` where nothing is left.
    ///
    /// # Errors
    /// Something is left.
    async fn destroy(&self, handle: &str) -> Result<(), ProcLauncherError>;

    /// Writes its output, from its first byte to its last. Only called where [`Capabilities::stdio`] says so; what is written is
    /// taken as fast as it can be.
    ///
    /// # Errors
    /// The output could not be read to its end; it is noted, and costs the proc nothing.
    async fn logs(&self, _handle: &str, _output: Output) -> Result<(), ProcLauncherError> {
        Ok(())
    }

    /// All that there is of procession on the substrate, whoever has launched it, as far as this user may see.
    ///
    /// # Errors
    /// The substrate cannot be asked.
    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError>;

    /// A proc that somebody has launched before, where it is still known.
    ///
    /// # Errors
    /// The substrate cannot be asked.
    async fn recover(&self, proc_id: &ProcId) -> Result<Option<Found>, ProcLauncherError> {
        let found = self.list().await?;
        Ok(found.into_iter().find(|found| found.labels.proc == proc_id.as_str()))
    }

    /// What makes this launcher again in another process; none where nothing can. With it, and where
    /// [`Capabilities::adopt`] is claimed, procs may outlive the host that has launched them.
    fn ticket(&self) -> Option<Ticket> {
        None
    }

    /// What would be asked of the substrate for that launch, in its own form, with all that [`Self::launch`] would change in it.
    ///
    /// # Errors
    /// The launch would be refused.
    fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError>;

    /// What runs Python where its procs live, where that is known.
    fn interpreter(&self) -> Option<String> {
        None
    }

    /// Whether the substrate answers, and what it is: a name and a version, for people.
    ///
    /// # Errors
    /// It does not answer.
    async fn probe(&self) -> Result<String, ProcLauncherError>;
}

/// How a proc is asked to end, or is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Signal {
    /// Its number on Linux.
    pub fn number(self) -> i32 {
        match self {
            Self::Terminate => 15,
            Self::Kill => 9,
        }
    }

    /// Its name: `SIGTERM`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why it is not known how a proc has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The substrate cannot be asked now. The proc may live.
    #[error("{0}")]
    Unreachable(String),
    /// The substrate knows nothing of it (any more), and never will.
    #[error("{0}")]
    Gone(String),
}

/// Where the output of a proc goes.
pub struct Output {
    /// What it writes to its standard output.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it writes to its standard error.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

/// What a launch may say, and ask, while it goes on.
#[derive(Clone, Debug)]
pub struct Context {
    reports: mpsc::UnboundedSender<Report>,
    asked: watch::Receiver<Option<Asked>>,
}

/// What was asked of a proc: to end within that time, or to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Terminate(Duration),
    Kill,
}

impl Context {
    pub(crate) fn new(reports: mpsc::UnboundedSender<Report>, asked: watch::Receiver<Option<Asked>>) -> Self {
        Self { reports, asked }
    }

    /// How far it has come, for people: `pulling image: 3 of 7 layers`. It gives the proc new time to get ready.
    pub fn progress(&self, text: impl Into<String>) {
        let _nobody_listens = self.reports.send(Report::Progress(text.into()));
    }

    /// Done when somebody wants the proc to end before it was started: what can be given up may be.
    pub async fn cancelled(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
