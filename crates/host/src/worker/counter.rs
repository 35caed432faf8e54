//! A desk that is open, with what launches for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use procession_launch_local::NativeLauncher;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::desk::{Desk, Launching};
use super::inner::{Engines, Inner};
use super::line::Line;
use super::message::DESK;

/// For exits to be told when a desk closes.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);
/// What cannot be killed is waited for no longer than that.
pub(super) const STUCK: Duration = Duration::from_secs(10);

pub(crate) struct Counter {
    /// None: it could not be started, and why.
    pub(crate) launcher: Result<Arc<NativeLauncher>, String>,
    /// How many procs have not told their exit yet.
    running: watch::Sender<usize>,
    /// What launches in its place, once a client has asked for that.
    inner: Arc<OnceLock<Arc<Inner>>>,
}

impl Counter {
    /// Opens a desk at the node of `line`, with a keeper of its own. `interpreter` is what runs Python here, for those who
    /// ask; a word to `shut_down` is what they say who want the end of whoever has the desk.
    pub(crate) async fn open(
        line: &Line,
        interpreter: Option<String>,
        shut_down: Option<watch::Sender<bool>>,
    ) -> Self {
        Self::open_with(line, interpreter, shut_down, None).await
    }

    /// As [`Self::open`], where clients may ask for other launchers.
    pub(super) async fn open_with(
        line: &Line,
        interpreter: Option<String>,
        shut_down: Option<watch::Sender<bool>>,
        engines: Option<Arc<dyn Engines>>,
    ) -> Self {
        let launcher = spawn_blocking(NativeLauncher::start).await;
        let launcher = launcher.map_err(std::io::Error::other).flatten().map(Arc::new);
        let launcher = launcher.map_err(|error| format!("its keeper could not be started: {error}"));
        let running = watch::Sender::new(0);
        let inner = Arc::<OnceLock<_>>::default();
        let desk = Desk {
            line: line.clone(),
            launcher: launcher.clone(),
            launching: Arc::new(Launching::default()),
            interpreter,
            running: running.clone(),
            shut_down,
            listening: JoinSet::new(),
            engines,
            inner: Arc::clone(&inner),
        };
        line.node.spawn(DESK, desk).expect("nobody else has an actor of that name");
        Self { launcher, running, inner }
    }

    /// Kills all that was launched; false where something does not die.
    pub(crate) async fn kill_all(&self) -> bool {
        let natives = async {
            match &self.launcher {
                Ok(launcher) => timeout(STUCK, launcher.leave()).await.is_ok(),
                Err(_) => true,
            }
        };
        let others = async {
            match self.inner.get() {
                Some(inner) => inner.kill_all().await,
                None => true,
            }
        };
        let (natives, others) = tokio::join!(natives, others);
        natives && others
    }

    /// Waits until every exit is told, for as long as there can be somebody who takes it.
    pub(crate) async fn all_told(&self) {
        let mut running = self.running.subscribe();
        let _somebody_is_slow = timeout(FAREWELL, running.wait_for(|running| *running == 0)).await;
    }
}
