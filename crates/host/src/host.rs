use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use procession_actor::Proc;
use procession_launch::{ProcLauncher, Ticket};
use procession_launch_local::NativeLauncher;
use procession_model::{Head, HostId, InvalidArgument, Packet, ProcExit, ProcId};
use procession_net::{ListenError, Listener};
use procession_supervise::{HOST, RestartPolicy, StopHow};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout as within;

use crate::child::Child;
use crate::core::Core;
use crate::driver::Driver;
use crate::group::Group;
use crate::holdings::{Ownership, hold};
use crate::hub::Hub;
use crate::kept::Kept;
use crate::ledger::{Ledger, Past};
use crate::observers::{Audience, Observer, SlotObserver};
use crate::outliving;
use crate::proc_ref::{ProcRef, Stage};
use crate::run_dir::RunDir;
use crate::run_record::RunRecord;
use crate::slot::{Slot, slots_of};
use crate::spec::{OwnerLoss, SpawnSpec};

/// At the end: how long what cannot be killed is waited for.
const STUCK: Duration = Duration::from_secs(4);

/// Why a host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its run directory could not be made.
    #[error(
        "no run directory could be made: {0}; set TMPDIR to a directory with a short path that can be written"
    )]
    RunDir(#[source] io::Error),
    /// It could not listen for its procs.
    #[error("the host cannot listen for its procs: {0}")]
    Listen(#[from] ListenError),
    /// It could not listen where procs that have outlived an earlier host look for it.
    #[error(
        "procs of an earlier host would not find this one: {0}; end what listens there, and start this host again"
    )]
    Port(String),
    /// The native launcher's keeper could not be started.
    #[error("the keeper of native procs could not be started: {0}")]
    Keeper(#[source] io::Error),
    /// Its directory cannot be used.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A launcher whose procs are to be taken over cannot be made again.
    #[error(
        "what {kind} has launched for an earlier host cannot be taken over: {why}; nothing is lost, start this host again when that is mended"
    )]
    Launcher {
        /// Its kind.
        kind: String,
        /// Why.
        why: String,
    },
    /// What earlier hosts have written down cannot be used.
    #[error("{0}")]
    Journal(String),
    /// The machine's name is not usable as part of an id.
    #[error(transparent)]
    Name(#[from] InvalidArgument),
}

/// Launches procs, supervises them, and is the middle through which they talk. Cheap to clone.
///
/// One for each client process. When the process dies without [`Host::shutdown`], the keeper ends
/// what was launched natively, and every other proc ends itself when its connection does. Should the
/// keeper and its guard be killed as well, the next host of the same user ends what is left. When the
/// last clone is dropped without it, every proc is killed.
#[derive(Clone)]
pub struct Host(Arc<Parts>);

struct Parts {
    core: Arc<Core>,
    native: Arc<NativeLauncher>,
    /// Its directory, where it has one that stays.
    _kept: Option<Kept>,
}

/// What a host has taken over from those before it.
pub struct Inherited {
    /// The slots of what was spawned together, by its mesh, where one of them lives or is launched again: all of them.
    pub groups: Vec<Vec<Slot>>,
    /// How others have ended, oldest first; the last thousand.
    pub ended: Vec<ProcExit>,
}

/// What owns the lifecycle of procs, by the name that it has for those who write launchers.
pub type BootstrapProcManager = Host;

impl Host {
    /// Starts the host of this process, inside a tokio runtime with time and io enabled.
    ///
    /// # Errors
    /// What could not be made, and what to do about it.
    pub async fn start() -> Result<Self, HostError> {
        Self::start_with(None, None).await
    }

    /// Starts a host in a launched proc, whose node is its own: it launches on this machine, and its procs and those of
    /// the host that has launched it reach each other.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_below(child: &Child) -> Result<Self, HostError> {
        let host = Self::start_with(None, Some(child)).await?;
        child.serves(&host.0.core);
        Ok(host)
    }

    /// Starts a host whose procs may outlive it, [`OwnerLoss::Detach`]: what it has to know of them is kept in
    /// `directory`, which is made when it is missing. Takes over what the native launcher of an earlier host of that
    /// directory has left.
    ///
    /// # Errors
    /// As for [`Self::start`]; the directory cannot be used, another host uses it, or procs of other launchers are left.
    pub async fn start_in(directory: &Path) -> Result<(Self, Inherited), HostError> {
        let none = |_| ready(Err("use Host::start_in_with, and make that launcher".to_owned()));
        Self::start_in_with(directory, none).await
    }

    /// Like [`Self::start_in`], also for what other launchers have left: `again` makes each of them anew.
    ///
    /// # Errors
    /// As for [`Self::start_in`]; a launcher could not be made. Then nothing is changed.
    pub async fn start_in_with<F>(
        directory: &Path,
        again: impl Fn(Ticket) -> F,
    ) -> Result<(Self, Inherited), HostError>
    where
        F: Future<Output = Result<Arc<dyn ProcLauncher>, String>>,
    {
        let failed = |source| HostError::Directory { path: directory.to_owned(), source };
        let kept = Kept::take(directory).map_err(failed)?;
        let (ledger, past) =
            Ledger::open(kept.path()).map_err(|error| HostError::Journal(error.to_string()))?;
        let mut launchers = BTreeMap::new();
        for ticket in past.groups.values().filter_map(|group| group.launcher.as_ref()) {
            if !launchers.contains_key(ticket) {
                let made = again(ticket.clone()).await;
                let kind = ticket.kind.clone();
                launchers.insert(ticket.clone(), made.map_err(|why| HostError::Launcher { kind, why })?);
            }
        }
        let listens = past.listens.clone();
        let going_on: Vec<_> = past.going_on().map(|open| open.asked.proc_id.launch_id()).collect();
        kept.tidy(&going_on);
        let host = Self::start_with(Some((kept, ledger)), None).await?;
        let mut inherited = host.take_over(past, &launchers);
        // Only now: whoever calls earlier is not expected yet.
        host.0.core.listen_for_survivors(&listens).await?;
        outliving::known(host.0.core.live()).await;
        let is_over = |group: &mut Vec<Slot>| group.iter().all(|slot| slot.ended_now().is_some());
        for slot in inherited.groups.iter().flatten() {
            if let Some(exit) = slot.exit().filter(|_| slot.current().0.is_adopted) {
                inherited.ended.push((*exit).clone());
            }
        }
        inherited.groups.retain_mut(|group| !is_over(group));
        Ok((host, inherited))
    }

    async fn start_with(kept: Option<(Kept, Ledger)>, child: Option<&Child>) -> Result<Self, HostError> {
        let machine = machine_name();
        let id = HostId::fresh(&machine);
        let proc_ = match child {
            Some(child) => child.proc_().clone(),
            None => Proc::new(ProcId::fresh("client", &id)?, Handle::current()),
        };
        let own = proc_.id().clone();
        let unique = &own.launch_id().to_string()[..16];
        let run_dir = RunDir::create(unique).map_err(HostError::RunDir)?;
        let listener = Listener::unix(run_dir.path().join("host"))?;
        let record = RunRecord::adding(run_dir.path()).map_err(HostError::RunDir)?;
        let directory = kept.as_ref().map(|(kept, _)| kept.path());
        let native = match directory {
            Some(directory) => NativeLauncher::start_in(directory, record),
            None => NativeLauncher::start_noting(record),
        };
        let native = Arc::new(native.map_err(HostError::Keeper)?);
        let (kept, ledger) = kept.unzip();
        let hub = Arc::new(Hub::new(own.clone(), id.clone()));
        hub.set_proc(&proc_);
        let router: Arc<Hub> = Arc::clone(&hub);
        proc_.set_router(router);
        let core = Arc::new(Core::new(machine, id, proc_, hub, run_dir, listener, ledger));
        Ok(Self(Arc::new(Parts { core, native, _kept: kept })))
    }

    /// Goes on with what still lives, or is launched again; what has ended meanwhile ends here at once.
    fn take_over(&self, past: Past, others: &BTreeMap<Ticket, Arc<dyn ProcLauncher>>) -> Inherited {
        for exit in &past.ended {
            // A name that is used again goes on with the next number, and with files of its own.
            self.0.core.expect_incarnation(exit.proc_id.name(), exit.incarnation + 1);
        }
        let native = self.native_launcher();
        let mut groups = Vec::new();
        for (id, past) in past.groups {
            let launcher = past.launcher.as_ref().and_then(|ticket| others.get(ticket)).unwrap_or(&native);
            match Group::resume(&self.0.core, id, past, launcher) {
                Ok(group) => groups.push(slots_of(&group)),
                // It was launched once, and so was refused for nothing that can be told here.
                Err(refused) => tracing::error!(%refused, "procs of an earlier host are not taken over"),
            }
        }
        Inherited { groups, ended: past.ended.into() }
    }

    /// This process's node, the hub of the session.
    pub fn proc_(&self) -> &Proc {
        &self.0.core.proc_
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Its id.
    pub fn id(&self) -> &HostId {
        &self.0.core.id
    }

    /// The launcher of processes of this machine.
    pub fn native_launcher(&self) -> Arc<dyn ProcLauncher> {
        let native: Arc<NativeLauncher> = Arc::clone(&self.0.native);
        native
    }

    /// Launches one proc. From any thread; returns at once. What goes wrong is in the proc's exit.
    ///
    /// # Errors
    /// The spec is refused before anything starts, also because a proc of that name lives.
    pub fn spawn(
        &self,
        spec: SpawnSpec,
        launcher: Arc<dyn ProcLauncher>,
    ) -> Result<ProcRef, InvalidArgument> {
        self.spawn_watched(spec, launcher, None)
    }

    /// Like [`Self::spawn`], with an observer that misses nothing.
    ///
    /// # Errors
    /// The spec is refused before anything starts, also because a proc of that name lives.
    pub fn spawn_watched(
        &self,
        spec: SpawnSpec,
        launcher: Arc<dyn ProcLauncher>,
        observer: Option<Observer>,
    ) -> Result<ProcRef, InvalidArgument> {
        spawn_on(&self.0.core, spec, launcher, observer)
    }

    /// Launches a group of procs, each of which is launched again as `restart` says: one after the other in the order of
    /// `specs`, which is that of the strategies too. From any thread; returns at once. `observers` are none, or one for
    /// each, which misses nothing.
    ///
    /// # Errors
    /// A spec or the policy is refused before anything starts, also because a proc of that name lives.
    pub fn spawn_group(
        &self,
        specs: Vec<SpawnSpec>,
        launcher: &Arc<dyn ProcLauncher>,
        restart: RestartPolicy,
        observers: Vec<SlotObserver>,
    ) -> Result<Vec<Slot>, InvalidArgument> {
        restart.check()?;
        outliving::check_group(&specs)?;
        for spec in &specs {
            spec.check()?;
            launcher.check(&spec.command.confinement)?;
            outliving::check(&self.0.core, spec, launcher.as_ref())?;
        }
        let group = Group::start(&self.0.core, specs, launcher, restart, observers)?;
        Ok(slots_of(&group))
    }

    /// As [`Self::spawn_group`], for a proc of this host: when that ends, however it does, the group is stopped.
    ///
    /// # Errors
    /// As there; the owner has ended, or a spec would outlive this host and with it the owner.
    pub fn spawn_owned(
        &self,
        owner: &Ownership,
        specs: Vec<SpawnSpec>,
        launcher: &Arc<dyn ProcLauncher>,
        restart: RestartPolicy,
        observers: Vec<SlotObserver>,
    ) -> Result<Vec<Slot>, InvalidArgument> {
        let refused = |rule: &str| InvalidArgument::new("owner", format!("{:?}", owner.who), rule);
        if self.0.core.find(&owner.proc_id).is_none() {
            return Err(refused("it has ended, or is no proc of this host: nothing can belong to it"));
        }
        if specs.iter().any(|spec| spec.on_owner_loss == OwnerLoss::Detach) {
            return Err(refused(
                "what belongs to a proc ends with it; on_owner_loss is for what belongs to a client",
            ));
        }
        let slots = self.spawn_group(specs, launcher, restart, observers)?;
        if let Some(slot) = slots.first() {
            hold(&self.0.core, owner, &slot.group);
        }
        Ok(slots)
    }

    /// The names of the procs that have not ended, or will be launched again, each with the number of its launch.
    pub fn live(&self) -> HashMap<String, u32> {
        let live = self.0.core.live();
        let live = live.iter().map(|proc_| (proc_.id().name().to_owned(), proc_.incarnation()));
        live.chain(self.0.core.reserved()).collect()
    }

    /// Whether that launch has not ended.
    pub fn lives(&self, proc_id: &ProcId) -> bool {
        self.0.core.find(proc_id).is_some()
    }

    /// Something that a launcher of this process has to say about a launch that goes on.
    pub fn report(
        &self,
        proc_id: &ProcId,
        pid: Option<u32>,
        handle: Option<String>,
        progress: Option<String>,
    ) {
        let proc_id = proc_id.clone();
        self.say(Head::Report { proc_id, pid, handle, progress });
    }

    /// A launcher, or what it stands on, cannot be asked about `proc_id` (none: can be asked again).
    pub fn unreachable(&self, proc_id: &ProcId, why: Option<String>) {
        let proc_id = proc_id.clone();
        self.say(match why {
            Some(why) => Head::Unreachable { proc_id, why },
            None => Head::Report { proc_id, pid: None, handle: None, progress: None },
        });
    }

    /// A launcher of this process reported the exit of `proc_id` once more, which was refused: it is counted.
    pub fn reported_again(&self, proc_id: &ProcId) {
        self.say(Head::ReportedAgain { proc_id: proc_id.clone() });
    }

    fn say(&self, head: Head) {
        let core = &self.0.core;
        core.take(Packet::bare(head), Some(core.proc_.id()));
    }

    /// Ends every proc: those that others have launched first, see [`ProcRef::stage`]; each
    /// has `timeout` before it is killed: half of it to end when asked, half when terminated. Then
    /// the keeper ends, and nothing is left but procs that outlive their host. Later launches fail.
    ///
    /// What cannot be killed is waited for a few seconds and no longer. Idempotent; not cancel
    /// safe, but it can be called again.
    pub async fn shutdown(&self, timeout: Duration) {
        let Parts { core, native, .. } = &*self.0;
        self.stop_procs("the host shuts down", timeout).await;
        core.proc_.stop_actors("the host shuts down");
        if within(STUCK, native.leave()).await.is_err() {
            tracing::error!("the keeper did not end: a process of its cannot be killed");
        }
        core.close().await;
    }

    /// The first part of [`Self::shutdown`]: ends every proc, and has later launches fail. This process's own actors
    /// live on, and can tell of it.
    pub async fn stop_procs(&self, reason: &str, timeout: Duration) {
        let core = &self.0.core;
        core.begin_closing();
        let bound = timeout.saturating_add(STUCK);
        for stage in Stage::ALL {
            let mut stops = JoinSet::new();
            let ends = |proc_: &ProcRef| proc_.stage() == stage && !proc_.0.outlives;
            for proc_ in core.live().into_iter().filter(ends) {
                let reason = reason.to_owned();
                stops.spawn(async move { proc_.stop(&reason, Some(timeout / 2)).await });
            }
            if within(bound, async { while stops.join_next().await.is_some() {} }).await.is_err() {
                tracing::error!(left = stops.len(), "procs did not end, though they were killed");
            }
        }
    }
}

impl Drop for Parts {
    /// From any thread, in a runtime or not: what has to be done is done by the drivers.
    fn drop(&mut self) {
        self.core.begin_closing();
        for proc_ in self.core.live().into_iter().filter(|proc_| !proc_.0.outlives) {
            proc_.ask(StopHow::Kill, Duration::ZERO, HOST, "it was dropped without a shutdown", None);
        }
        self.core.abandon();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.id().as_str())
    }
}

/// As [`Host::spawn_watched`], of the host that has `core`.
pub(crate) fn spawn_on(
    core: &Arc<Core>,
    mut spec: SpawnSpec,
    launcher: Arc<dyn ProcLauncher>,
    observer: Option<Observer>,
) -> Result<ProcRef, InvalidArgument> {
    spec.check()?;
    launcher.check(&spec.command.confinement)?;
    outliving::check(core, &spec, launcher.as_ref())?;
    outliving::number(std::slice::from_mut(&mut spec));
    let id = ProcId::fresh(&spec.name, &core.id)?;
    let audience = Arc::new(Audience::new(false));
    let make = |incarnation| ProcRef::new(id, incarnation, &spec, launcher.as_ref(), audience, &core.clock);
    let (proc_, inputs) = core.add(&spec, false, make)?;
    outliving::write_group(core, std::iter::once(&spec), &RestartPolicy::default(), launcher.as_ref());
    if let Some(observer) = observer {
        proc_.watch(observer);
    }
    Driver::start(Arc::clone(core), Arc::clone(&proc_.0), launcher, spec, inputs, None);
    Ok(proc_)
}

fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "host".to_owned(), |name| name.trim().to_owned())
}
