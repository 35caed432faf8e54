use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use procession_actor::MailboxError;
use procession_launch::{
    Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling,
};
use procession_model::{
    DialBack, Head, LaunchId, LaunchOptions, Packet, ProcExitKind, ProcExitResult, ProcId,
};
use procession_net::SessionKey;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::address::{parse, shown};
use super::error::WorkerError;
use super::inflow::{Inflow, Outlet};
use super::message::{Ended, How, Launch, Order, Running, ShutDown, Started, Undone};
use super::server::WorkerServer;
use super::session::Session;
use crate::Host;
use crate::core::Core;

/// How many launches may wait for its acknowledgement at once; the others wait here.
const LAUNCHES_AT_ONCE: usize = 128;
/// For a worker to say that it has ended a proc: less than whoever asked waits.
const ANSWER: Duration = Duration::from_millis(4800);
/// For a worker to hear that its client leaves.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many ended procs are remembered, which can be asked to end once more.
const REMEMBERED: usize = 1000;

/// How a worker is dialled.
#[derive(Clone, Debug)]
pub struct WorkerDial {
    /// How long that may take.
    pub within: Duration,
    /// How long its connection may be lost before it is over; see [`WorkerServer::LEASE`].
    pub lease: Duration,
    /// Where this machine waits for its procs, `address:port`; none is the address from which the worker is reached.
    pub bind: Option<String>,
    /// What they dial when that differs, `address[:port]`.
    pub advertise: Option<String>,
}

impl Default for WorkerDial {
    fn default() -> Self {
        Self { within: Duration::from_secs(10), lease: WorkerServer::LEASE, bind: None, advertise: None }
    }
}

/// Launches procs on another machine, which a [`WorkerServer`] serves.
///
/// How they end is what their parent there has read from its kernel. With the connection, when that does not come back
/// within its lease, all that it has launched ends there, and is lost here; the next launch dials again.
pub struct WorkerLauncher {
    host: String,
    port: u16,
    name: String,
    key: SessionKey,
    how: WorkerDial,
    room: Arc<Semaphore>,
    session: Mutex<Arc<Session>>,
    dialling: tokio::sync::Mutex<()>,
    launches: Arc<Mutex<Launches>>,
    hears: Arc<Hears>,
}

/// A host that is told what there is to say about its procs.
#[derive(Default)]
pub(super) struct Hears(OnceLock<Weak<Core>>);

impl Hears {
    fn handle(&self, proc_id: &ProcId, handle: String) {
        self.report(proc_id, Some(handle));
    }

    /// None: it can be asked about again.
    pub(super) fn unreachable(&self, proc_id: &ProcId, why: Option<String>) {
        match why {
            Some(why) => self.tell(Head::Unreachable { proc_id: proc_id.clone(), why }),
            None => self.report(proc_id, None),
        }
    }

    fn report(&self, proc_id: &ProcId, handle: Option<String>) {
        self.tell(Head::Report { proc_id: proc_id.clone(), pid: None, handle, progress: None });
    }

    fn tell(&self, head: Head) {
        if let Some(core) = self.0.get().and_then(Weak::upgrade) {
            core.take(Packet::bare(head), Some(core.proc_.id()));
        }
    }
}

/// By launch: where it was asked for.
#[derive(Default)]
struct Launches {
    asked: HashMap<LaunchId, Asked>,
    ended: VecDeque<LaunchId>,
}

enum Asked {
    /// The worker is dialled first; whether nobody wants it any more.
    Waits {
        given_up: bool,
    },
    At(Arc<Session>),
}

impl Launches {
    fn ended(&mut self, launch: LaunchId) {
        self.ended.push_back(launch);
        if self.ended.len() > REMEMBERED {
            let oldest = self.ended.pop_front();
            oldest.map(|launch| self.asked.remove(&launch));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills a launch whose caller does not take what became of it.
struct KillUnlessTaken(Option<(Arc<Session>, ProcId)>);

impl Drop for KillUnlessTaken {
    fn drop(&mut self) {
        if let Some((session, proc_id)) = self.0.take() {
            // Nobody waits for the answer; without a connection the worker does it by itself.
            let _asked = session.ask(&proc_id, How::Kill);
        }
    }
}

impl WorkerLauncher {
    /// Dials the worker at `address`: `HOST:PORT`, `tcp:HOST:PORT` or `tcp://HOST:PORT`. Has to be called inside a runtime
    /// with time and I/O enabled, on which the conversation runs from then on.
    ///
    /// # Errors
    /// Nobody answers there, or whoever does has another key, or another version. The text names the address.
    pub async fn connect(address: &str, key: &SessionKey, how: WorkerDial) -> Result<Arc<Self>, WorkerError> {
        let (host, port) = parse(address)?;
        let hears = Arc::new(Hears::default());
        let session = Session::begin(&host, port, key, &how, Arc::clone(&hears)).await?;
        Ok(Arc::new(Self {
            name: format!("worker@{}", shown(&host, port)),
            host,
            port,
            key: key.clone(),
            how,
            room: Arc::new(Semaphore::new(LAUNCHES_AT_ONCE)),
            session: Mutex::new(session),
            dialling: tokio::sync::Mutex::default(),
            launches: Arc::default(),
            hears,
        }))
    }

    /// Where the worker is: `HOST:PORT`.
    pub fn address(&self) -> String {
        shown(&self.host, self.port)
    }

    /// What runs Python there, if the worker says so.
    pub fn interpreter(&self) -> Option<String> {
        self.now().machine.interpreter.clone()
    }

    /// Has `host` hear of each launch's process there, and of a connection that is lost for a while. The first call counts.
    pub fn report_to(&self, host: &Host) {
        let _known_before = self.hears.0.set(Arc::downgrade(host.core()));
    }

    /// Asks the worker itself to end, which one does that was started to be ended so. With it all ends that anybody has
    /// launched there.
    ///
    /// # Errors
    /// It does not, or cannot be reached.
    pub async fn shut_worker_down(&self) -> Result<(), WorkerError> {
        let reach = |why| WorkerError::Reach { address: self.address(), why };
        let session = self.session().await?;
        let (done, answer) = session.line.node.mailbox().open_once_port();
        let asked = session.desk.send(&session.line.node.instance(), ShutDown(done.bind()));
        asked.map_err(|error| reach(error.to_string()))?;
        match timeout(ANSWER, answer.recv()).await.map(|answer| session.settled(answer)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Undone::Failed(why))) => Err(reach(why)),
            Ok(Err(Undone::NotFound)) | Err(_) => Err(reach(format!("it has not answered for {ANSWER:?}"))),
        }
    }

    /// Closes the connection, at which all ends that was launched there; the worker knows it when this returns, if it can
    /// be reached.
    pub async fn close(&self) {
        let session = self.now();
        session.close();
        let _unreachable = timeout(FAREWELL, session.closed()).await;
    }

    fn now(&self) -> Arc<Session> {
        Arc::clone(&locked(&self.session))
    }

    /// The connection; another one where the last has ended.
    async fn session(&self) -> Result<Arc<Session>, WorkerError> {
        let _one_at_a_time = self.dialling.lock().await;
        let now = self.now();
        if now.has_ended().is_none() {
            return Ok(now);
        }
        let next =
            Session::begin(&self.host, self.port, &self.key, &self.how, Arc::clone(&self.hears)).await?;
        *locked(&self.session) = Arc::clone(&next);
        Ok(next)
    }

    /// A session for a launch, and the launch noted: at once where there is one, as for who asks for its end next.
    async fn session_for(&self, launch: LaunchId) -> Result<Arc<Session>, ProcLauncherError> {
        let now = self.now();
        if now.has_ended().is_none() {
            locked(&self.launches).asked.insert(launch, Asked::At(Arc::clone(&now)));
            return Ok(now);
        }
        locked(&self.launches).asked.insert(launch, Asked::Waits { given_up: false });
        let session = self.session().await;
        let mut launches = locked(&self.launches);
        let given_up = matches!(launches.asked.remove(&launch), Some(Asked::Waits { given_up: true }));
        let session = session.map_err(|error| ProcLauncherError::Other(error.to_string()))?;
        if given_up {
            return Err(ProcLauncherError::Other("it was given up before it was started".to_owned()));
        }
        launches.asked.insert(launch, Asked::At(Arc::clone(&session)));
        Ok(session)
    }

    async fn end(&self, proc_id: &ProcId, how: How) -> Result<(), ProcLauncherError> {
        let session = match locked(&self.launches).asked.get_mut(&proc_id.launch_id()) {
            None => return Err(ProcLauncherError::NotFound(proc_id.to_string())),
            Some(Asked::Waits { given_up }) => {
                *given_up = true;
                return Ok(());
            }
            Some(Asked::At(session)) => Arc::clone(session),
        };
        let failed = |why| match how {
            How::Terminate => ProcLauncherError::Terminate(why),
            How::Kill => ProcLauncherError::Kill(why),
        };
        let Ok(answer) = session.ask(proc_id, how) else {
            // All that it had launched ends there, or has.
            return if session.has_ended().is_some() { Ok(()) } else { Err(failed(self.mute())) };
        };
        match timeout(ANSWER, answer.recv()).await.map(|answer| session.settled(answer)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Undone::NotFound)) => Err(ProcLauncherError::NotFound(proc_id.to_string())),
            Ok(Err(Undone::Failed(why))) => Err(failed(format!("worker {}: {why}", self.address()))),
            Err(_) => Err(failed(self.mute())),
        }
    }

    fn mute(&self) -> String {
        let address = self.address();
        format!(
            "worker {address} has not answered for {ANSWER:?}; see whether it can be reached, or is stopped"
        )
    }
}

#[async_trait]
impl ProcLauncher for WorkerLauncher {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let session = self.now();
        let bind = self.how.bind.clone().unwrap_or_else(|| match session.this_side {
            IpAddr::V4(ip) => format!("{ip}:0"),
            IpAddr::V6(ip) => format!("[{ip}]:0"),
        });
        let dial_back = DialBack::Network { bind, advertise: self.how.advertise.clone() };
        Capabilities { dial_back, ..session.machine.capabilities() }
    }

    /// The keeper there is the parent, and the key makes sure that it is one.
    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        // It is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await;
        Ok(permit.map_or_else(|_| Admission::default(), Admission::from))
    }

    /// Cancel safe: a proc whose launch nobody waits for any more is killed.
    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let session = self.session_for(proc_id.launch_id()).await?;
        let node = &session.line.node;
        let mailbox = node.mailbox();
        let inflows = [Arc::<Inflow>::default(), Arc::<Inflow>::default()];
        let streams = [&inflows[0], &inflows[1]].map(|inflow| {
            let inflow = Arc::clone(inflow);
            mailbox.open_sink(move |answer| inflow.take(answer))
        });
        let (started, acknowledged) = mailbox.open_once_port();
        let (ended, exit) = mailbox.open_once_port();
        let launch = Launch {
            proc_id: proc_id.clone(),
            order: Order::from(opts),
            streams: streams.clone(),
            started: started.bind(),
            ended: ended.bind(),
        };
        let address = self.address();
        if let Err(error) = session.desk.send(&node.instance(), launch) {
            locked(&self.launches).asked.remove(&proc_id.launch_id());
            return Err(ProcLauncherError::Other(format!("worker {address}: {error}")));
        }
        session.live().insert(proc_id.clone());
        let mut not_taken = KillUnlessTaken(Some((Arc::clone(&session), proc_id.clone())));
        let (exit_tx, exit_rx) = oneshot::channel();
        let told = Exit {
            session: Arc::clone(&session),
            launches: Arc::clone(&self.launches),
            proc_id: proc_id.clone(),
            address: address.clone(),
        };
        let arriving = inflows.clone();
        tokio::spawn(async move {
            let result = told.result(exit.recv().await);
            arriving.iter().for_each(|inflow| inflow.finish());
            tokio::join!(arriving[0].read_out(), arriving[1].read_out());
            streams.iter().for_each(|port| told.session.line.node.mailbox().close_port(port));
            drop(told);
            let _given_up = exit_tx.send(result);
        });
        let running = match acknowledged.recv().await {
            Ok(Started(Ok(running))) => running,
            Ok(Started(Err(why))) => {
                not_taken.0 = None;
                return Err(ProcLauncherError::Other(format!("worker {address}: {why}")));
            }
            Err(error) => {
                let text =
                    format!("worker {address} has not said that it runs: {error}; it ends there if it does");
                return Err(ProcLauncherError::Other(text));
            }
        };
        not_taken.0 = None;
        let Running { pid, started_at, captured } = running;
        if let Some(pid) = pid {
            self.hears.handle(proc_id, format!("{address} pid {pid}"));
        }
        let [stdout, stderr] = inflows.map(|inflow| Box::new(Outlet(inflow)));
        let stdio =
            if captured { StdioHandling::Captured { stdout, stderr } } else { StdioHandling::Inherited };
        // Its number says nothing on this machine.
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx })
    }

    /// SIGTERM to the whole tree, once.
    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        self.end(proc_id, How::Terminate).await
    }

    /// Returns when nothing of the tree is left.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.end(proc_id, How::Kill).await
    }
}

/// The end of one launch, when it comes.
struct Exit {
    session: Arc<Session>,
    launches: Arc<Mutex<Launches>>,
    proc_id: ProcId,
    address: String,
}

impl Exit {
    /// Of a worker that is lost nobody knows what became of its procs, but that they do not live on.
    fn result(&self, told: Result<Ended, MailboxError>) -> ProcExitResult {
        let lost = |why: &str| {
            let reason = self.session.has_ended().unwrap_or_else(|| {
                format!("host lost: worker {} has not said how it ended: {why}", self.address)
            });
            ProcExitResult::new(ProcExitKind::Lost { reason })
        };
        match told {
            Ok(Ended(result)) => result,
            Err(MailboxError::Closed(why)) => lost(&why),
            Err(error) => lost(&error.to_string()),
        }
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.session.live().remove(&self.proc_id);
        locked(&self.launches).ended(self.proc_id.launch_id());
    }
}

impl Drop for WorkerLauncher {
    fn drop(&mut self) {
        self.now().close();
    }
}

impl fmt::Debug for WorkerLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerLauncher").field(&self.address()).finish()
    }
}
