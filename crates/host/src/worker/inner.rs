//! The launcher of a substrate that an agent has for its client: what is asked for goes there, and not to the agent's own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_actor::PortRef;
use procession_launch::{Engine, LaunchResult, ProcLauncherError, Relayed, Report, Reports, StdioHandling};
use procession_launch_local::NativeLauncher;
use procession_model::{DialBack, LaunchId, LaunchOptions, PortId, ProcExitKind, ProcExitResult, ProcId};
use procession_net::Address;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::counter::STUCK;
use super::line::Line;
use super::message::{Ended, How, Launch, Machine, Question, Reply, Running, Said, Started, Word};
use super::pump::{pump, pump_stream};
use crate::listening::{advertised, dialable};

/// After which a launch that waits for its turn says so again: its deadline is not spent by those before it.
const TURN: Duration = Duration::from_secs(10);

/// The launchers that an agent can have beside its own.
#[async_trait]
pub trait Engines: Send + Sync + 'static {
    /// Reaches the substrate of that kind, as `config` says, which is JSON.
    ///
    /// # Errors
    /// There is no such launcher, or it cannot be used here; and why.
    async fn connect(&self, kind: &str, config: &str) -> Result<Arc<dyn Engine>, String>;
}

/// How far a launch has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// For its turn.
    Waits,
    /// The launcher is being asked.
    Going,
    /// The launcher knows of it.
    Out,
    /// It was ended before the launcher was asked.
    Cancelled,
}

#[derive(Default)]
struct Live {
    /// What has not ended.
    procs: HashMap<ProcId, watch::Sender<Stage>>,
    /// The client is gone: nothing is launched any more.
    is_over: bool,
}

/// Such a launcher, and what was launched through it for one client.
pub(super) struct Inner {
    engine: Arc<dyn Engine>,
    line: Line,
    said: PortRef<Said>,
    live: watch::Sender<Live>,
    /// Ways of procs that are about to be launched.
    ways: Mutex<HashMap<LaunchId, Relayed>>,
}

impl Inner {
    pub(super) fn new(engine: Arc<dyn Engine>, line: Line, said: PortRef<Said>) -> Self {
        Self { engine, line, said, live: watch::Sender::default(), ways: Mutex::default() }
    }

    /// What it can do; `interpreter` is what runs Python on this machine.
    pub(super) fn machine(&self, interpreter: Option<String>) -> Machine {
        let (name, by_parenthood) = (self.engine.name(), self.engine.knows_status_by_parenthood());
        let interpreter = self.engine.interpreter().or(interpreter);
        Machine::of_engine(name, &self.engine.capabilities(), by_parenthood, interpreter)
    }

    /// Launches it beside, and tells how it ended; all of its output first.
    pub(super) fn launch(self: &Arc<Self>, launch: Launch) {
        let stage = watch::Sender::new(Stage::Waits);
        let is_taken = self.live.send_if_modified(|live| {
            if !live.is_over {
                live.procs.insert(launch.proc_id.clone(), stage.clone());
            }
            !live.is_over
        });
        if is_taken {
            let way = self.ways().remove(&launch.proc_id.launch_id());
            let inner = Arc::clone(self);
            tokio::spawn(async move { inner.run(launch, stage, way).await });
        }
    }

    async fn run(&self, launch: Launch, stage: watch::Sender<Stage>, way: Option<Relayed>) {
        let Launch { proc_id, order, streams, started, ended } = launch;
        // What the launcher has to say of it, a refusal too, comes later, as from any launcher of a substrate.
        let captured = self.engine.capabilities().stdio;
        let running = Running { pid: None, started_at: SystemTime::now(), captured };
        self.line.answer(started, Started(Ok(running))).await;
        let launched = self.launched(&proc_id, LaunchOptions::from(order), &stage).await;
        drop(way);
        let (result, pumps) = match launched {
            Ok(launched) => self.exit(&proc_id, launched, streams).await,
            Err(error) => (ProcExitResult::failed(error.to_string()), JoinSet::new()),
        };
        self.live.send_modify(|live| drop(live.procs.remove(&proc_id)));
        pumps.join_all().await;
        self.line.answer(ended, Ended(result)).await;
    }

    async fn launched(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
        stage: &watch::Sender<Stage>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let mut changes = stage.subscribe();
        let waits = async {
            let mut turns = interval(TURN);
            turns.tick().await;
            loop {
                turns.tick().await;
                self.say(proc_id, Report::Progress("waits for its turn".to_owned()));
            }
        };
        let admission = tokio::select! {
            admission = self.engine.admit() => Some(admission?),
            _ = changes.wait_for(|stage| *stage == Stage::Cancelled) => None,
            () = waits => None,
        };
        let goes = stage.send_if_modified(|stage| {
            let goes = admission.is_some() && *stage == Stage::Waits;
            if goes {
                *stage = Stage::Going;
            }
            goes
        });
        if !goes {
            return Err(ProcLauncherError::Other("cancelled before it was started".to_owned()));
        }
        let launched = self.engine.launch(proc_id, options).await;
        stage.send_replace(Stage::Out);
        let launched = launched?;
        let reports = launched.reports.map(|reports| reports.holding(admission));
        Ok(LaunchResult { reports, ..launched })
    }

    /// How it ended; and what still reads its output, which is not much more.
    async fn exit(
        &self,
        proc_id: &ProcId,
        launched: LaunchResult,
        [to_stdout, to_stderr]: [PortId; 2],
    ) -> (ProcExitResult, JoinSet<()>) {
        let (over, mut pumps) = (watch::Sender::new(false), JoinSet::new());
        match launched.stdio {
            StdioHandling::Pipes { stdout, stderr } => {
                pumps.spawn(pump(self.line.clone(), stdout, to_stdout, over.subscribe()));
                pumps.spawn(pump(self.line.clone(), stderr, to_stderr, over.subscribe()));
            }
            StdioHandling::Captured { stdout, stderr } => {
                pumps.spawn(pump_stream(self.line.clone(), stdout, to_stdout, over.subscribe()));
                pumps.spawn(pump_stream(self.line.clone(), stderr, to_stderr, over.subscribe()));
            }
            StdioHandling::Inherited | StdioHandling::ManagedByLauncher => {}
        }
        let passing = async {
            if let Some(reports) = launched.reports {
                self.pass_on(proc_id, reports).await;
            }
            std::future::pending::<()>().await;
        };
        let exit = tokio::select! {
            biased;
            () = passing => None,
            exit = launched.exit_rx => exit.ok(),
        };
        over.send_replace(true);
        let silent = || {
            let reason = "its launcher ended without a word".to_owned();
            ProcExitResult::new(ProcExitKind::Lost { reason })
        };
        (exit.unwrap_or_else(silent), pumps)
    }

    async fn pass_on(&self, proc_id: &ProcId, mut reports: Reports) {
        while let Some(report) = reports.next().await {
            self.say(proc_id, report);
        }
    }

    fn say(&self, proc_id: &ProcId, report: Report) {
        if let Some(word) = Word::of(report) {
            let said = Said { proc_id: proc_id.clone(), word };
            let _the_client_is_gone = self.said.send(&self.line.node.instance(), said);
        }
    }

    /// Ends a proc, also one that the launcher does not know of yet.
    pub(super) async fn end(&self, proc_id: &ProcId, how: How) -> Result<(), ProcLauncherError> {
        let stage = self.live.borrow().procs.get(proc_id).cloned();
        if let Some(stage) = stage {
            stage.send_if_modified(|stage| {
                let waits = *stage == Stage::Waits;
                if waits {
                    *stage = Stage::Cancelled;
                }
                waits
            });
            let known = stage.subscribe().wait_for(|stage| *stage != Stage::Going).await.map(|stage| *stage);
            if known.is_ok_and(|stage| stage == Stage::Cancelled) {
                return Ok(());
            }
        }
        match how {
            How::Terminate => self.engine.terminate(proc_id, NativeLauncher::ANSWER).await,
            How::Kill => self.engine.kill(proc_id).await,
        }
    }

    /// Kills all that was launched, and launches nothing any more; false where something does not end.
    pub(super) async fn kill_all(self: &Arc<Self>) -> bool {
        self.live.send_modify(|live| live.is_over = true);
        let ids: Vec<ProcId> = self.live.borrow().procs.keys().cloned().collect();
        for proc_id in ids {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = inner.end(&proc_id, How::Kill).await {
                    tracing::warn!(%proc_id, %error, "it could not be killed");
                }
            });
        }
        let mut live = self.live.subscribe();
        timeout(STUCK, live.wait_for(|live| live.procs.is_empty())).await.is_ok()
    }

    /// Listens for procs that want to reach their host: where, and what they dial.
    pub(super) async fn listen(&self) -> Result<(TcpListener, String), String> {
        let (bind, advertise) = match self.engine.capabilities().dial_back {
            DialBack::Local | DialBack::Stdio => ("127.0.0.1:0".to_owned(), None),
            DialBack::Network { bind, advertise } => (bind, advertise),
            DialBack::Nowhere => return Err("its procs reach nobody".to_owned()),
        };
        let failed = |error: std::io::Error| format!("{bind} cannot be listened to there: {error}");
        let listener = TcpListener::bind(&bind).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let bound = Address::tcp(&bound.to_string()).map_err(|error| error.to_string())?;
        let address = match advertise {
            Some(name) => advertised(&name, &bound)?,
            None => bound,
        };
        dialable(&address, "give the launcher `advertise` too")?;
        let text = address.to_string();
        Ok((listener, text.strip_prefix("tcp:").unwrap_or(&text).to_owned()))
    }

    /// Where its procs are led through the launcher itself: what that one dials to reach `here`, an address of this machine.
    pub(super) async fn lead(&self, proc_id: &ProcId, here: SocketAddr) -> Result<String, String> {
        let relayed = self.engine.relay(proc_id, here).await.map_err(|error| error.to_string())?;
        let address = relayed.address.clone();
        self.ways().insert(proc_id.launch_id(), relayed);
        Ok(address)
    }

    /// A proc that was to be led somewhere is not launched.
    pub(super) fn forget(&self, proc_id: &ProcId) {
        drop(self.ways().remove(&proc_id.launch_id()));
    }

    fn ways(&self) -> std::sync::MutexGuard<'_, HashMap<LaunchId, Relayed>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked of the launcher beside launches.
    pub(super) async fn answer(&self, question: Question) -> Result<Reply, String> {
        let answer = match question {
            Question::Probe => self.engine.probe().await.map(Reply::Text),
            Question::List => self.engine.list().await.map(Reply::Found),
            Question::Remove(handle) => self.engine.remove(&handle).await.map(|()| Reply::Done),
            Question::DryRun(proc_id, order) => {
                self.engine.dry_run(&proc_id, &LaunchOptions::from(*order)).await.map(Reply::Text)
            }
        };
        answer.map_err(|error| error.to_string())
    }
}
