use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use procession_actor::Proc;
use procession_launch::ProcLauncher;
use procession_launch_local::NativeLauncher;
use procession_model::{DialBack, HostId, InvalidArgument, LaunchId, ProcId, ProcStatus};
use procession_net::{Address, ClientTls, ListenError, Listener, Serving, SessionCa};
use procession_supervise::Event;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::door::Door;
use crate::driver::{Driver, Input};
use crate::hub::Hub;
use crate::output::Output;
use crate::proc_ref::{Observer, Observers, ProcEvent, ProcRef, ProcSnapshot, Shared};
use crate::run_dir::RunDir;
use crate::spec::SpawnSpec;

/// Why a host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its run directory could not be made.
    #[error("the run directory could not be made: {0}; set TMPDIR to a directory that can be written")]
    RunDir(#[source] io::Error),
    /// It could not listen for its procs.
    #[error("the host cannot listen for its procs: {0}")]
    Listen(#[from] ListenError),
    /// The native launcher's keeper could not be started.
    #[error("the keeper of native procs could not be started: {0}")]
    Keeper(#[source] io::Error),
    /// The machine's name is not usable as part of an id.
    #[error(transparent)]
    Name(#[from] InvalidArgument),
}

/// What all parts of a host share.
pub(crate) struct Core {
    pub(crate) id: HostId,
    pub(crate) machine: String,
    pub(crate) runtime: Handle,
    pub(crate) proc_: Proc,
    pub(crate) hub: Arc<Hub>,
    pub(crate) door: Arc<Door>,
    pub(crate) run_dir: RunDir,
    unix: Address,
    ca: OnceLock<SessionCa>,
    /// Every socket that is listened on, by what it was asked to bind.
    listening: tokio::sync::Mutex<HashMap<String, Serving>>,
    live: Mutex<HashMap<ProcId, ProcRef>>,
    incarnations: Mutex<HashMap<String, u32>>,
}

impl Core {
    /// Where the procs of a launcher reach back to, and with which certificates.
    pub(crate) async fn ways_in(
        &self,
        dial_back: &DialBack,
        launch: LaunchId,
    ) -> Result<(Vec<Address>, Option<ClientTls>), String> {
        match dial_back {
            DialBack::Local => Ok((vec![self.unix.clone()], None)),
            DialBack::Network { bind, advertise } => {
                let bound = self.listen(bind).await?;
                let address = match advertise {
                    None => bound,
                    Some(name) => advertised(name, &bound)?,
                };
                let tls = self.ca()?.issue(launch).map_err(|error| error.to_string())?;
                Ok((vec![address], Some(tls)))
            }
            DialBack::Stdio => Err("no launcher of this version reaches back over stdio; use DialBack.network(bind=…)".to_owned()),
        }
    }

    fn ca(&self) -> Result<&SessionCa, String> {
        if self.ca.get().is_none() {
            let ca = SessionCa::new(self.id.as_str()).map_err(|error| error.to_string())?;
            let _another_was_first = self.ca.set(ca);
        }
        self.ca.get().ok_or_else(|| "the session has no certificate authority".to_owned())
    }

    async fn listen(&self, bind: &str) -> Result<Address, String> {
        let mut listening = self.listening.lock().await;
        if let Some(serving) = listening.get(bind) {
            return Ok(serving.local_address().clone());
        }
        let listener = Listener::tcp(bind, self.ca()?).await.map_err(|error| error.to_string())?;
        let door: Arc<Door> = Arc::clone(&self.door);
        let serving = listener.serve(door);
        let address = serving.local_address().clone();
        listening.insert(bind.to_owned(), serving);
        Ok(address)
    }

    pub(crate) fn report(&self, proc_id: &ProcId, pid: Option<u32>, handle: Option<String>, progress: Option<String>) {
        let proc_ = self.live().get(proc_id).cloned();
        match proc_ {
            Some(proc_) => drop(proc_.0.driver.send(Input::ReportedBy { pid, handle, progress })),
            None => tracing::debug!(%proc_id, "a launcher reported on a proc that has ended, or never was"),
        }
    }

    pub(crate) fn forget(&self, proc_id: &ProcId) {
        self.door.forget(proc_id.launch_id());
        self.live().remove(proc_id);
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<ProcId, ProcRef>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn incarnation(&self, spec: &SpawnSpec) -> u32 {
        let mut all = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        let last = all.entry(spec.name.clone()).or_insert(0);
        *last = if spec.incarnation == 0 { *last + 1 } else { spec.incarnation.max(*last) };
        if spec.incarnation == 0 { *last } else { spec.incarnation }
    }
}

/// `name` as given by the user, with the port that was bound unless it names one itself.
fn advertised(name: &str, bound: &Address) -> Result<Address, String> {
    let Address::Tcp { port, .. } = bound else { return Err("only a TCP address can be advertised".to_owned()) };
    let with_port = Address::tcp(name);
    with_port.or_else(|_| Address::tcp(&format!("{name}:{port}"))).map_err(|error| error.to_string())
}

/// Launches procs, supervises them, and is the middle through which they talk. Cheap to clone.
///
/// One for each client process. When the process dies without [`Host::shutdown`], the keeper ends
/// what was launched natively, and every other proc ends itself when its connection does.
#[derive(Clone)]
pub struct Host {
    core: Arc<Core>,
    native: Arc<NativeLauncher>,
}

impl Host {
    /// Starts the host of this process, inside a tokio runtime with time and io enabled.
    ///
    /// # Errors
    /// What could not be made, and what to do about it.
    pub async fn start() -> Result<Self, HostError> {
        let machine = machine_name();
        let id = HostId::fresh(&machine);
        let own = ProcId::fresh("client", &id)?;
        let unique = &own.launch_id().to_string()[..16];
        let run_dir = RunDir::create(unique).map_err(HostError::RunDir)?;
        let hub = Arc::new(Hub::new(own.clone()));
        let runtime = Handle::current();
        let proc_ = Proc::new(own, runtime.clone());
        hub.set_proc(&proc_);
        let router: Arc<Hub> = Arc::clone(&hub);
        proc_.set_router(router);
        let door = Arc::new(Door::default());
        let listener = Listener::unix(run_dir.path().join("host"))?;
        let unix = listener.local_address().clone();
        let keeper: Arc<Door> = Arc::clone(&door);
        let listening = HashMap::from([(unix.to_string(), listener.serve(keeper))]);
        let native = Arc::new(NativeLauncher::start().map_err(HostError::Keeper)?);
        let core = Core {
            id,
            machine,
            runtime,
            proc_,
            hub,
            door,
            run_dir,
            unix,
            ca: OnceLock::new(),
            listening: tokio::sync::Mutex::new(listening),
            live: Mutex::default(),
            incarnations: Mutex::default(),
        };
        Ok(Self { core: Arc::new(core), native })
    }

    /// This process's node, the hub of the session.
    pub fn proc_(&self) -> &Proc {
        &self.core.proc_
    }

    /// Its id.
    pub fn id(&self) -> &HostId {
        &self.core.id
    }

    /// The launcher of processes of this machine.
    pub fn native_launcher(&self) -> Arc<dyn ProcLauncher> {
        let native: Arc<NativeLauncher> = Arc::clone(&self.native);
        native
    }

    /// Launches one proc. From any thread; returns at once. What goes wrong is in the proc's exit.
    pub fn spawn(&self, spec: SpawnSpec, launcher: Arc<dyn ProcLauncher>) -> Result<ProcRef, InvalidArgument> {
        self.spawn_watched(spec, launcher, None)
    }

    /// Like [`Self::spawn`], with an observer that misses nothing.
    ///
    /// # Errors
    /// The spec is refused before anything starts.
    pub fn spawn_watched(
        &self,
        spec: SpawnSpec,
        launcher: Arc<dyn ProcLauncher>,
        observer: Option<Observer>,
    ) -> Result<ProcRef, InvalidArgument> {
        spec.check()?;
        let id = ProcId::fresh(&spec.name, &self.core.id)?;
        let observers = Arc::new(Observers::default());
        if let Some(observer) = observer {
            observers.add(observer);
        }
        let told = Arc::clone(&observers);
        let output = Output::new(
            spec.tail_lines,
            Arc::new(move |stream, line: &str| {
                told.tell(&ProcEvent::Output { stream, line: line.to_owned() });
            }),
        );
        let (driver, inputs) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            id: id.clone(),
            rank: spec.rank,
            incarnation: self.core.incarnation(&spec),
            stop_grace: spec.policy.stop_grace,
            native: launcher.knows_status_by_parenthood(),
            snapshot: Mutex::new(ProcSnapshot {
                status: ProcStatus::Starting,
                pid: None,
                handle: None,
                progress: None,
                launcher: launcher.name().to_owned(),
                started_at: SystemTime::now(),
                running_at: None,
                ready_at: None,
                ended_at: None,
            }),
            ready: watch::channel(None).0,
            exit: watch::channel(None).0,
            output: Arc::new(output),
            observers,
            driver,
        });
        self.core.hub.add(&id);
        let proc_ = ProcRef(Arc::clone(&shared));
        self.core.live().insert(id, proc_.clone());
        Driver::start(Arc::clone(&self.core), shared, launcher, spec, inputs);
        Ok(proc_)
    }

    /// Something that a launcher of this process has to say about a launch that goes on.
    pub fn report(&self, proc_id: &ProcId, pid: Option<u32>, handle: Option<String>, progress: Option<String>) {
        self.core.report(proc_id, pid, handle, progress);
    }

    /// A launcher, or what it stands on, cannot be asked about `proc_id` (none: can be asked again).
    pub fn unreachable(&self, proc_id: &ProcId, why: Option<String>) {
        if let Some(proc_) = self.core.live().get(proc_id).cloned() {
            let event = why.map_or(Event::HeardAgain, |why| Event::Unreachable { why });
            let _ended = proc_.0.driver.send(Input::Event(event));
        }
    }

    /// Ends every proc: those of other launchers first, since these may be procs themselves; each
    /// has `timeout` before it is killed. Then the keeper ends. Idempotent.
    pub async fn shutdown(&self, timeout: Duration) {
        for native in [false, true] {
            let procs: Vec<ProcRef> = self.core.live().values().filter(|p| p.0.native == native).cloned().collect();
            let stops: Vec<_> = procs
                .into_iter()
                .map(|proc_| tokio::spawn(async move { proc_.stop("the host shuts down", Some(timeout)).await }))
                .collect();
            for stop in stops {
                let _panicked = stop.await;
            }
        }
        self.core.proc_.stop_actors("the host shuts down");
        for (_, serving) in self.core.listening.lock().await.drain() {
            serving.stop().await;
        }
        self.native.shutdown().await;
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.core.id.as_str())
    }
}

fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "host".to_owned(), |name| name.trim().to_owned())
}
