use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{
    Admission, Capabilities, Engine, Found, LaunchResult, ProcLauncher, ProcLauncherError, Relayed,
};
use procession_model::{DialBack, LaunchId, LaunchOptions, ProcId};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::timeout;

use super::agent_connection::{Connection, Way};
use super::error::WorkerError;
use super::message::{How, Order, Question, Reply};
use super::remote::{ANSWER, Remote};

/// For an agent to end what it has launched, once its stream was closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// How agents are started and given up.
#[derive(Clone, Debug)]
pub struct AgentDial {
    /// How long one may take until it speaks.
    pub within: Duration,
    /// How long one may not answer before it counts as gone; it ends by itself when it has heard nothing for as long as it was
    /// told, see [`serve_stdio`](super::serve_stdio).
    pub lease: Duration,
    /// Whether each proc has an agent of its own, which ends with it; else one launches all.
    pub one_each: bool,
    /// How many may be on their way at the same time.
    pub at_once: usize,
    /// What an agent launches through, in the place of a launcher of its own; then one agent launches all.
    pub launcher: Option<FarLauncher>,
}

/// A launcher of a substrate that agents have where they are, see [`Engines`](super::Engines).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarLauncher {
    /// Which: `docker`.
    pub kind: String,
    /// Its configuration, in JSON.
    pub config: String,
}

impl fmt::Debug for FarLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarLauncher").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Default for AgentDial {
    fn default() -> Self {
        let (within, lease) = (Duration::from_secs(30), Duration::from_secs(30));
        Self { within, lease, one_each: false, at_once: 16, launcher: None }
    }
}

/// Launches procs through agents ([`serve_stdio`](super::serve_stdio)), each at the other end of a command's stdin and stdout.
///
/// It needs no network: procs reach their host through that same stream. How they end is what their parent there has read from
/// its kernel. When a stream ends, or its agent does not answer for the lease, all that was launched by it ends there, and is
/// lost here; the next launch starts another agent.
pub struct AgentLauncher {
    name: String,
    way: Arc<dyn Way>,
    /// Where the conversations run, whoever asks for one.
    runtime: Handle,
    how: AgentDial,
    state: Arc<Mutex<State>>,
    starting: Semaphore,
    remote: Remote,
    by_parenthood: bool,
}

#[derive(Default)]
struct State {
    /// Claims of what was started last.
    machine: Option<(Capabilities, Option<String>)>,
    /// Agents that can launch something.
    ready: Vec<Arc<Connection>>,
    /// Those that a launch is to use which was not asked for yet.
    chosen: HashMap<LaunchId, Arc<Connection>>,
    /// Those of launches, where each has its own.
    own: HashMap<LaunchId, Arc<Connection>>,
}

impl State {
    fn put_back(&mut self, connection: Arc<Connection>) {
        // One that launches all never left.
        if !self.ready.iter().any(|ready| Arc::ptr_eq(ready, &connection)) {
            self.ready.push(connection);
        }
    }
}

/// A choice that was not used is another launch's.
struct Chosen(Arc<Mutex<State>>, LaunchId);

impl Drop for Chosen {
    fn drop(&mut self) {
        let mut state = locked(&self.0);
        if let Some(connection) = state.chosen.remove(&self.1) {
            state.put_back(connection);
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn other(why: String) -> ProcLauncherError {
    ProcLauncherError::Other(why)
}

impl AgentLauncher {
    /// Starts a first agent, which tells what it can do. Has to be called inside a runtime with time and I/O enabled, on which
    /// the conversation runs from then on. `name` is for tables and logs: `ssh`.
    ///
    /// # Errors
    /// No agent speaks at the other end, or one of another version. The text says where, and what came instead.
    pub async fn connect(
        name: &str,
        way: Arc<dyn Way>,
        mut how: AgentDial,
    ) -> Result<Arc<Self>, WorkerError> {
        // What keeps books of a substrate, such as how many may be made there at once, does so for all.
        how.one_each &= how.launcher.is_none();
        let mut launcher = Self {
            name: name.to_owned(),
            way,
            runtime: Handle::current(),
            state: Arc::default(),
            starting: Semaphore::new(if how.one_each { how.at_once } else { 1 }),
            how,
            remote: Remote::default(),
            by_parenthood: true,
        };
        let first = launcher.start().await?;
        if let Some(engine) = first.session.machine.engine() {
            launcher.name = format!("{name}/{engine}");
            launcher.by_parenthood = first.session.machine.knows_status_by_parenthood();
        }
        locked(&launcher.state).ready.push(first);
        Ok(Arc::new(launcher))
    }

    /// Where its agents are, for people.
    pub fn place(&self) -> String {
        self.way.place().to_owned()
    }

    async fn start(&self) -> Result<Arc<Connection>, WorkerError> {
        let (way, how) = (Arc::clone(&self.way), self.how.clone());
        let begun = async move { Connection::begin(&*way, &how).await };
        let failed = |error: JoinError| WorkerError::Agent { place: self.place(), why: error.to_string() };
        let connection = self.runtime.spawn(begun).await.map_err(failed)??;
        let machine = &connection.session.machine;
        let known = (machine.capabilities(), machine.interpreter.clone());
        locked(&self.state).machine = Some(known);
        Ok(connection)
    }

    /// One that can launch something, taken out of those that are ready where each launch has its own.
    async fn agent(&self) -> Result<Arc<Connection>, ProcLauncherError> {
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let failed = |error| other(format!("LauncherUnavailable: {error}"));
        let _turn = self.starting.acquire().await;
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let started = self.start().await.map_err(failed)?;
        if !self.how.one_each {
            locked(&self.state).ready.push(Arc::clone(&started));
        }
        Ok(started)
    }

    fn ready(&self) -> Option<Arc<Connection>> {
        let mut state = locked(&self.state);
        state.ready.retain(|connection| connection.session.takes_launches());
        if self.how.one_each { state.ready.pop() } else { state.ready.first().cloned() }
    }

    async fn relayed(
        &self,
        connection: &Arc<Connection>,
        proc_id: &ProcId,
        host: SocketAddr,
        kept: Box<dyn Send>,
    ) -> Result<Relayed, ProcLauncherError> {
        let relayed = connection.relay(proc_id, host).await;
        let relayed = relayed.map_err(|why| other(format!("{}: {why}", self.place())))?;
        Ok(Relayed { kept: Box::new((kept, relayed.kept)), ..relayed })
    }

    /// Asks the launcher that the agent launches through; none where it has one of its own.
    async fn ask_launcher(&self, question: Question) -> Result<Option<Reply>, ProcLauncherError> {
        if self.how.launcher.is_none() {
            return Ok(None);
        }
        let connection = self.agent().await?;
        let answer = connection.session.ask_launcher(question).await;
        answer.map(Some).map_err(|why| other(format!("{}: {why}", self.place())))
    }

    /// Has the agent lead whoever dials that port of its loopback to `host`, an address of this machine.
    ///
    /// # Errors
    /// There is no agent, or its port is somebody else's.
    pub async fn relay_at(&self, port: u16, host: SocketAddr) -> Result<(), ProcLauncherError> {
        let connection = self.agent().await?;
        let relayed = connection.listening_for(host, port).await;
        locked(&self.state).put_back(connection);
        relayed.map(drop).map_err(|why| other(format!("{}: {why}", self.place())))
    }

    /// Ends an agent whose only proc does not end otherwise.
    fn give_up(&self, proc_id: &ProcId) {
        if let Some(connection) = locked(&self.state).own.get(&proc_id.launch_id()) {
            connection.give_up();
        }
    }
}

/// The agent of one launch alone: once nothing of that runs, whatever became of it, the agent ends too.
struct Own<'a> {
    launcher: &'a AgentLauncher,
    launch: LaunchId,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let own = locked(&self.launcher.state).own.get(&self.launch).cloned();
        let Some(connection) = own else { return };
        let (state, launch) = (Arc::clone(&self.launcher.state), self.launch);
        self.launcher.runtime.spawn(async move {
            connection.session.idle().await;
            connection.close();
            locked(&state).own.remove(&launch);
        });
    }
}

#[async_trait]
impl Engine for AgentLauncher {
    /// Starts an agent if there is none.
    async fn probe(&self) -> Result<String, ProcLauncherError> {
        if let Some(Reply::Text(found)) = self.ask_launcher(Question::Probe).await? {
            return Ok(format!("{found} at {}", self.place()));
        }
        let connection = self.agent().await?;
        locked(&self.state).put_back(connection);
        Ok(format!("procession {} at {}", env!("CARGO_PKG_VERSION"), self.place()))
    }

    /// Ends all agents, at which all ends that they have launched.
    async fn close(&self) {
        let all: Vec<_> = {
            let mut state = locked(&self.state);
            let State { ready, own, chosen, .. } = &mut *state;
            let own = own.drain().chain(chosen.drain()).map(|(_, connection)| connection);
            ready.drain(..).chain(own).collect()
        };
        all.iter().for_each(|connection| connection.close());
        for connection in all {
            let _it_ends_later = timeout(FAREWELL, connection.session.over()).await;
        }
    }

    /// Where the agent says so.
    fn interpreter(&self) -> Option<String> {
        locked(&self.state).machine.as_ref().and_then(|(_, interpreter)| interpreter.clone())
    }

    /// What its launcher there finds. Of an agent's own nothing: all that is launched ends with it, and that with its stream.
    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        match self.ask_launcher(Question::List).await? {
            Some(Reply::Found(found)) => Ok(found),
            _ => Ok(Vec::new()),
        }
    }

    async fn remove(&self, handle: &str) -> Result<(), ProcLauncherError> {
        match self.ask_launcher(Question::Remove(handle.to_owned())).await? {
            Some(_) => Ok(()),
            None => Err(ProcLauncherError::NotFound(handle.to_owned())),
        }
    }
}

#[async_trait]
impl ProcLauncher for AgentLauncher {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let machine = locked(&self.state).machine.as_ref().map(|(claims, _)| claims.clone());
        Capabilities { dial_back: DialBack::Stdio, ..machine.unwrap_or_default() }
    }

    /// The keeper of the agent is the parent, unless it launches through another launcher.
    fn knows_status_by_parenthood(&self) -> bool {
        self.by_parenthood
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        Ok(self.remote.admit().await)
    }

    async fn relay(&self, proc_id: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        let launch = proc_id.launch_id();
        // Of one that launches others where it runs.
        let own = locked(&self.state).own.get(&launch).cloned();
        if let Some(connection) = own {
            return self.relayed(&connection, proc_id, host, Box::new(())).await;
        }
        let connection = self.agent().await?;
        locked(&self.state).chosen.insert(launch, Arc::clone(&connection));
        let kept = Box::new(Chosen(Arc::clone(&self.state), launch));
        self.relayed(&connection, proc_id, host, kept).await
    }

    /// Cancel safe: a proc whose launch nobody waits for any more is killed.
    async fn launch(
        &self,
        proc_id: &ProcId,
        mut options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let launch = proc_id.launch_id();
        let _ends_with_it = Own { launcher: self, launch };
        let chosen = locked(&self.state).chosen.remove(&launch);
        let now = chosen.as_ref().map(|connection| Arc::clone(&connection.session));
        let next = async {
            let connection = self.agent().await?;
            let session = Arc::clone(&connection.session);
            if self.how.one_each {
                locked(&self.state).own.insert(launch, connection);
            }
            Ok(session)
        };
        if let Some(connection) = chosen.filter(|_| self.how.one_each) {
            locked(&self.state).own.insert(launch, connection);
        }
        let session = self.remote.session_for(launch, now, next).await?;
        let machine = &session.machine;
        if let Some(interpreter) = machine.interpreter.as_ref().filter(|_| options.command.preload.is_some())
        {
            options.command.program = interpreter.into();
            options.command.arg0 = options.command.arg0.take().map(|_| interpreter.clone());
        }
        self.remote.launch(session, proc_id, options).await
    }

    /// The command that leads to the agent, and what that is told; or what its launcher there would ask for.
    async fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        let order = Box::new(Order::from(options.without_secrets()));
        if let Some(Reply::Text(shown)) = self.ask_launcher(Question::DryRun(proc_id.clone(), order)).await? {
            return Ok(shown);
        }
        let quote = |word: &String| format!("{word:?}");
        let line = self.way.command_line().iter().map(quote).collect::<Vec<_>>().join(" ");
        Ok(format!("{line}\n{:#?}", options.command))
    }

    /// SIGTERM to the whole tree, once.
    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        self.remote.end(proc_id, How::Terminate, ANSWER).await
    }

    /// Returns when nothing of the tree is left.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        let killed = self.remote.end(proc_id, How::Kill, ANSWER).await;
        if let Err(ProcLauncherError::Kill(_)) = &killed {
            self.give_up(proc_id);
        }
        killed
    }
}

impl Drop for AgentLauncher {
    fn drop(&mut self) {
        let state = locked(&self.state);
        state.ready.iter().chain(state.own.values()).for_each(|connection| connection.close());
    }
}

impl fmt::Debug for AgentLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgentLauncher").field(&self.place()).finish()
    }
}
