use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{
    Admission, Capabilities, Confines, LaunchResult, ProcLauncher, ProcLauncherError, Relayed,
};
use procession_model::{ActorId, InvalidArgument, LaunchOptions, ProcId};
use procession_supervise::{HOST, Readiness, StopHow};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::core::{Core, SHUTTING_DOWN};
use crate::host::{Host, spawn_on};
use crate::observers::{Observer, ProcEvent};
use crate::output::Stream;
use crate::proc_ref::ProcRef;
use crate::spec::SpawnSpec;
use crate::worker::{ANSWER, DESK, How, Remote, Session};

/// For an answer to a kill: as long as the host waits, which then has a process that hangs killed with all that it has launched.
const KILL: Duration = Duration::from_secs(5);

/// Launches procs from one process, which another launcher starts: Python procs are forked there, from an interpreter that
/// has imported what they need (`BootstrapCommand::preload`), others are executed.
///
/// The process is one of our runtime that calls [`Child::serve_launches`](crate::Child::serve_launches), such as
/// `python -m procession._proc_main --zygote`. It is launched for the first launch, a proc like any other, and has a keeper,
/// which is the parent of all that it launches. When it ends they do; the next launch has another one started.
pub struct Zygote {
    core: Weak<Core>,
    name: String,
    spec: SpawnSpec,
    through: Mutex<Arc<dyn ProcLauncher>>,
    remote: Remote,
    started: Mutex<Started>,
    /// The last one. Has a lock of its own, which is taken below any other.
    own: Mutex<Option<ProcId>>,
}

#[derive(Default)]
struct Started {
    count: u32,
    last: Option<Arc<Process>>,
}

/// One process, from its launch on.
struct Process {
    proc_: ProcRef,
    /// Whether launches can be asked for; why it cannot be used.
    up: watch::Sender<Option<Result<Arc<Session>, String>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Zygote {
    /// Procs of `host`, by a process as in `spec`, that `through` launches.
    ///
    /// # Errors
    /// Nothing can be launched so.
    pub fn new(
        host: &Host,
        spec: SpawnSpec,
        through: Arc<dyn ProcLauncher>,
    ) -> Result<Arc<Self>, InvalidArgument> {
        Self::check_spec(&spec, through.as_ref())?;
        Ok(Self::of(host.core(), spec, through))
    }

    pub(crate) fn check_spec(spec: &SpawnSpec, through: &dyn ProcLauncher) -> Result<(), InvalidArgument> {
        spec.check()?;
        through.check(&spec.command.confinement)?;
        if spec.policy.readiness != Readiness::CallBack {
            let rule = "a zygote has to call back, or nobody could ask it for anything; leave it at CallBack";
            return Err(InvalidArgument::new("policy.readiness", "None", rule));
        }
        Ok(())
    }

    /// As [`Self::new`], of what was checked.
    pub(crate) fn of(core: &Arc<Core>, spec: SpawnSpec, through: Arc<dyn ProcLauncher>) -> Arc<Self> {
        Arc::new(Self {
            core: Arc::downgrade(core),
            name: format!("zygote@{}", through.name()),
            spec,
            through: Mutex::new(through),
            remote: Remote::default(),
            started: Mutex::default(),
            own: Mutex::default(),
        })
    }

    /// Starts the process, where there is none.
    pub(crate) fn start(&self) -> Result<(), ProcLauncherError> {
        self.process().map(drop).map_err(|why| self.unavailable(&why))
    }

    /// Waits until the process is up, which is started where there is none.
    pub(crate) async fn up(&self) -> Result<(), ProcLauncherError> {
        self.session().await.map(drop)
    }

    /// Whether it can launch at once.
    pub(crate) fn is_up(&self) -> bool {
        self.now().is_some()
    }

    /// Whether the process was started, and cannot be used any more.
    pub(crate) fn has_ended(&self) -> bool {
        locked(&self.started).last.as_ref().is_some_and(|last| !last.can_be_used())
    }

    /// What runs Python there, once that is known.
    pub(crate) fn interpreter(&self) -> Option<String> {
        self.now().and_then(|session| session.machine.interpreter.clone())
    }

    /// Kills the process, with all that it has launched.
    pub(crate) fn give_up(&self, why: &str) {
        if let Some(last) = &locked(&self.started).last {
            last.proc_.ask(StopHow::Kill, Duration::ZERO, HOST, why, None);
        }
    }

    fn unavailable(&self, why: &str) -> ProcLauncherError {
        ProcLauncherError::Other(format!("LauncherUnavailable: {}: {why}", self.name))
    }

    /// The next process is launched through that launcher.
    pub fn launch_through(&self, launcher: Arc<dyn ProcLauncher>) {
        *locked(&self.through) = launcher;
    }

    /// Has it close with that proc of its host.
    pub fn close_with(self: &Arc<Self>, owner: &ProcId) {
        let core = self.core.upgrade();
        let Some((core, owner)) = core.and_then(|core| core.find(owner).map(|owner| (core, owner))) else {
            return;
        };
        let own = Arc::downgrade(self);
        core.runtime.spawn(async move {
            owner.ended().await;
            if let Some(own) = own.upgrade() {
                let _ends_by_itself = own.retire();
            }
        });
    }

    /// Has the process end as soon as nothing runs that it has launched, and waits for that; the next launch has another one
    /// started. Cancelling the wait does not cancel the end.
    pub async fn close(&self) {
        if let Some(process) = self.retire() {
            process.ended().await;
        }
    }

    pub(crate) fn retire(&self) -> Option<ProcRef> {
        let process = locked(&self.started).last.take()?;
        let proc_ = process.proc_.clone();
        if let Some(Ok(session)) = &*process.up.borrow() {
            session.retire();
        }
        if let Some(core) = self.core.upgrade() {
            core.runtime.spawn(async move {
                if let Ok(session) = process.reached().await {
                    session.retire();
                    session.idle().await;
                }
                process.proc_.stop("nothing runs any more that it has launched", None).await;
            });
        }
        Some(proc_)
    }

    /// The process, started where there is none.
    fn process(&self) -> Result<Arc<Process>, String> {
        let mut started = locked(&self.started);
        if let Some(last) = started.last.as_ref().filter(|last| last.can_be_used()) {
            return Ok(Arc::clone(last));
        }
        let core = self.core.upgrade().ok_or_else(|| SHUTTING_DOWN.to_owned())?;
        let mut spec = self.spec.clone();
        started.count += 1;
        if started.count > 1 {
            // The last one may not be gone yet.
            spec.name = format!("{}.{}", spec.name, started.count);
        }
        let through = Arc::clone(&locked(&self.through));
        let name = spec.name.clone();
        let proc_ =
            spawn_on(&core, spec, through, Some(hearing(&name))).map_err(|error| error.to_string())?;
        *locked(&self.own) = Some(proc_.id().clone());
        let process = Arc::new(Process { proc_, up: watch::Sender::new(None) });
        let runtime = core.runtime.clone();
        runtime.spawn(Arc::clone(&process).attend(core, name));
        started.last = Some(Arc::clone(&process));
        Ok(process)
    }

    fn now(&self) -> Option<Arc<Session>> {
        let last = locked(&self.started).last.clone().filter(|last| last.can_be_used())?;
        let up = last.up.borrow().clone();
        up?.ok()
    }

    async fn session(&self) -> Result<Arc<Session>, ProcLauncherError> {
        let reached = async { self.process()?.reached().await };
        reached.await.map_err(|why| self.unavailable(&why))
    }
}

impl Process {
    fn can_be_used(&self) -> bool {
        let is_used =
            |up: &Result<Arc<Session>, _>| up.as_ref().is_ok_and(|session| session.takes_launches());
        self.proc_.exit().is_none() && self.up.borrow().as_ref().is_none_or(is_used)
    }

    async fn reached(&self) -> Result<Arc<Session>, String> {
        let mut up = self.up.subscribe();
        let up = up.wait_for(Option::is_some).await;
        // The sender is in here.
        up.map_or_else(|_| Err(SHUTTING_DOWN.to_owned()), |up| up.clone().expect("the predicate saw one"))
    }

    /// Until it has ended.
    async fn attend(self: Arc<Self>, core: Arc<Core>, name: String) {
        let desk = ActorId::new(self.proc_.id().clone(), DESK);
        let greeted = async {
            self.proc_.ready().await?;
            let greeted = timeout(ANSWER, Session::greet("zygote", name, &core.proc_, desk)).await;
            greeted.unwrap_or_else(|_| Err(format!("it has not answered for {ANSWER:?}")))
        };
        let greeted = greeted.await.map(Arc::new);
        drop(core);
        self.up.send_replace(Some(greeted.clone()));
        match greeted {
            Ok(session) => {
                let exit = self.proc_.ended().await;
                session.end(&format!("its zygote, {}, ended: {}", exit.proc_id, exit.verdict));
            }
            Err(why) => self.proc_.ask(StopHow::Kill, Duration::ZERO, HOST, &why, None),
        }
    }
}

/// Why something was executed and not forked is said there, and is to be read here.
fn hearing(name: &str) -> Observer {
    let zygote = name.to_owned();
    Arc::new(move |event| {
        if let ProcEvent::Output { stream: Stream::Stderr, line, .. } = event {
            tracing::warn!(zygote, "{line}");
        }
    })
}

#[async_trait]
impl ProcLauncher for Zygote {
    fn name(&self) -> &str {
        &self.name
    }

    /// Of what the process can do nothing is known before it is there: so nothing is claimed that has to be checked earlier.
    fn capabilities(&self) -> Capabilities {
        let dial_back = locked(&self.through).capabilities().dial_back;
        match self.now() {
            Some(session) => {
                let confines = Confines::default();
                Capabilities { dial_back, confines, ..session.machine.capabilities() }
            }
            None => Capabilities { dial_back, command_attributes: true, stdio: true, ..Default::default() },
        }
    }

    /// The keeper of the process is the parent.
    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    fn own_proc(&self) -> Option<ProcId> {
        locked(&self.own).clone()
    }

    /// Waits for the process, too.
    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        let admission = self.remote.admit().await;
        self.session().await?;
        Ok(admission)
    }

    /// As the process does itself, whose neighbours they are.
    async fn relay(&self, _: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        let own = self.own_proc().ok_or_else(|| ProcLauncherError::Other(SHUTTING_DOWN.to_owned()))?;
        let through = Arc::clone(&locked(&self.through));
        through.relay(&own, host).await
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        mut opts: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let session = self.remote.session_for(proc_id.launch_id(), self.now(), self.session()).await?;
        let (command, own) = (&mut opts.command, &self.spec.command);
        // The interpreter that the zygote itself was found to run is the one that it forks.
        if let Some(interpreter) =
            session.machine.interpreter.as_ref().filter(|_| command.program == own.program)
        {
            command.program = interpreter.into();
            command.arg0 = command.arg0.take().map(|_| interpreter.clone());
        }
        self.remote.launch(session, proc_id, opts).await
    }

    /// SIGTERM to the whole tree, once.
    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        self.remote.end(proc_id, How::Terminate, ANSWER).await
    }

    /// Returns when nothing of the tree is left.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.remote.end(proc_id, How::Kill, KILL).await
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ends_by_itself = self.retire();
    }
}

impl fmt::Debug for Zygote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zygote").field(&self.name).finish()
    }
}
