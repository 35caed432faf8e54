//! A launcher that a test plays by hand.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_launch::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_model::{DialBack, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::common::soon;

type Answer<T> = oneshot::Sender<Result<T, ProcLauncherError>>;

/// What the launcher is asked. Dropping the answer is a panic of the launcher.
pub(crate) enum Asked {
    Launch(Box<LaunchOptions>, Answer<LaunchResult>),
    Terminate(Duration, Answer<()>),
    Kill(Answer<()>),
}

/// The launcher's side that the host sees; its word is only a claim.
struct Puppet(mpsc::UnboundedSender<Asked>);

/// The other end of its strings.
pub(crate) struct Strings(Mutex<mpsc::UnboundedReceiver<Asked>>);

pub(crate) fn puppet() -> (Arc<dyn ProcLauncher>, Strings) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(Puppet(sender)), Strings(Mutex::new(receiver)))
}

/// A launch that was accepted, and what tells its end.
pub(crate) fn accepted(pid: Option<u32>) -> (LaunchResult, oneshot::Sender<ProcExitResult>) {
    let (exit, exit_rx) = oneshot::channel();
    let stdio = StdioHandling::ManagedByLauncher;
    (LaunchResult { pid, started_at: SystemTime::now(), stdio, exit_rx, reports: None }, exit)
}

pub(crate) fn exited(code: i32) -> ProcExitResult {
    ProcExitResult::new(ProcExitKind::Exited { code })
}

impl Strings {
    pub(crate) async fn asked(&self) -> Asked {
        soon(async { self.0.lock().await.recv().await.unwrap() }).await
    }

    pub(crate) async fn launch(&self) -> (LaunchOptions, Answer<LaunchResult>) {
        match self.asked().await {
            Asked::Launch(options, answer) => (*options, answer),
            _ => panic!("a launch should have been asked for"),
        }
    }

    /// Accepts the next launch; gives what tells its end.
    pub(crate) async fn accept(&self, pid: Option<u32>) -> oneshot::Sender<ProcExitResult> {
        let (_, answer) = self.launch().await;
        let (result, exit) = accepted(pid);
        answer.send(Ok(result)).unwrap();
        exit
    }

    pub(crate) async fn terminate(&self) -> (Duration, Answer<()>) {
        match self.asked().await {
            Asked::Terminate(timeout, answer) => (timeout, answer),
            _ => panic!("a terminate should have been asked for"),
        }
    }

    pub(crate) async fn kill(&self) -> Answer<()> {
        match self.asked().await {
            Asked::Kill(answer) => answer,
            _ => panic!("a kill should have been asked for"),
        }
    }

    /// Whether nothing was asked that was not seen.
    pub(crate) async fn is_idle(&self) -> bool {
        self.0.lock().await.is_empty()
    }
}

impl Puppet {
    async fn ask<T>(&self, asked: impl FnOnce(Answer<T>) -> Asked) -> Result<T, ProcLauncherError> {
        let (answer, answered) = oneshot::channel();
        if self.0.send(asked(answer)).is_err() {
            // The test is over.
            return std::future::pending().await;
        }
        answered.await.expect("the test lets the launcher panic")
    }
}

#[async_trait]
impl ProcLauncher for Puppet {
    fn name(&self) -> &str {
        "puppet"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pid: true,
            stdio: false,
            tail: false,
            tree_kill: false,
            raw_paths: true,
            command_attributes: true,
            dial_back: DialBack::Local,
            ..Capabilities::default()
        }
    }

    async fn launch(&self, _: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        self.ask(|answer| Asked::Launch(Box::new(opts), answer)).await
    }

    async fn terminate(&self, _: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.ask(|answer| Asked::Terminate(timeout, answer)).await
    }

    async fn kill(&self, _: &ProcId) -> Result<(), ProcLauncherError> {
        self.ask(Asked::Kill).await
    }
}
