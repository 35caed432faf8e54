use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_model::{
    Confinement, DialBack, InvalidArgument, LaunchOptions, ProcExitResult, ProcId, Security,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{ProcLauncherError, Reports};

/// What starts, stops and watches procs on one substrate.
///
/// Terminal status comes only through [`LaunchResult::exit_rx`]. `terminate` and `kill` mean the
/// whole process tree, are idempotent, and are `Ok` for a proc that has ended.
#[async_trait]
pub trait ProcLauncher: Send + Sync + 'static {
    /// A short name for tables and logs: `native`, `docker`.
    fn name(&self) -> &str;

    /// What this launcher can and cannot do.
    fn capabilities(&self) -> Capabilities;

    /// Whether its exit report is the status that a parent read from the kernel, and no mere claim.
    fn knows_status_by_parenthood(&self) -> bool {
        false
    }

    /// The proc that this launcher has to itself, where it runs in one: what ends it, when it has
    /// nothing to answer any more, costs nobody else.
    fn own_proc(&self) -> Option<ProcId> {
        None
    }

    /// The proc that it has launched that one in, where procs run in others; known once the launch was answered.
    fn launched_in(&self, _proc_id: &ProcId) -> Option<ProcId> {
        self.own_proc()
    }

    /// Refuses what it cannot hold a proc to, before anything starts.
    ///
    /// # Errors
    /// Names what is asked for, and what is missing.
    fn check(&self, confinement: &Confinement) -> Result<(), InvalidArgument> {
        self.capabilities().confines.check(confinement, self.name())
    }

    /// Waits until it can take another launch; until then nothing of the launch is sent. Cancel safe.
    ///
    /// # Errors
    /// It takes none: it could not be started, or does not go together with this host.
    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        Ok(Admission::default())
    }

    /// Starts a proc; answers when the substrate has accepted it.
    ///
    /// # Errors
    /// Nothing was started.
    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError>;

    /// Takes over a proc that was launched for a host that is gone, to be supervised as one that was launched
    /// here. `pid` is its leader's id and start time (in clock ticks since boot), where they are known; a process
    /// that was started at another time is a stranger, and not touched. For one that has ended meanwhile, or is
    /// not there any more, the exit resolves at once.
    ///
    /// # Errors
    /// This launcher cannot take anything over, or not now.
    async fn adopt(
        &self,
        _proc_id: &ProcId,
        _opts: &LaunchOptions,
        _pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let text = format!("launcher {:?} cannot take over what another process has launched", self.name());
        Err(ProcLauncherError::Other(text))
    }

    /// What makes this launcher again in another process, for one that takes over what it has launched; none where nothing can.
    fn ticket(&self) -> Option<Ticket> {
        None
    }

    /// For [`DialBack::Stdio`]: what the proc that is about to be launched dials where it will run, so that its launcher leads
    /// it to `host`, an address of this machine.
    ///
    /// # Errors
    /// It leads nobody anywhere, or not now.
    async fn relay(&self, _proc_id: &ProcId, _host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        let text = format!(
            "launcher {:?} has dial_back = stdio and leads nobody to its host; use DialBack.network(bind=…)",
            self.name()
        );
        Err(ProcLauncherError::Other(text))
    }

    /// What would be asked of its substrate for that launch, in the form that this has there. Nothing is asked for it; values of the
    /// environment and the payload, which may be secret, show as `...`.
    ///
    /// # Errors
    /// The launch would be refused, or this launcher has no request to show.
    async fn dry_run(
        &self,
        _proc_id: &ProcId,
        _options: &LaunchOptions,
    ) -> Result<String, ProcLauncherError> {
        let text = format!(
            "launcher {:?} has no request that could be shown: it asks no substrate, or nobody knows what before it does",
            self.name()
        );
        Err(ProcLauncherError::Other(text))
    }

    /// Asks the proc's tree to end; the clock that `timeout` starts is the caller's.
    ///
    /// # Errors
    /// The request could not be delivered.
    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError>;

    /// Ends the proc's tree at once.
    ///
    /// # Errors
    /// The request could not be delivered.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError>;
}

/// What makes a launcher again: its kind, and the configuration of it in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket {
    /// As it is named on the command line: `docker`.
    pub kind: String,
    /// With the names of the fields that it has in Python.
    pub config: String,
}

impl Ticket {
    /// Of a launcher of that kind.
    pub fn of(kind: &str, config: &impl Serialize) -> Option<Self> {
        Some(Self { kind: kind.to_owned(), config: serde_json::to_string(config).ok()? })
    }
}

/// How a proc reaches its host through its launcher.
pub struct Relayed {
    /// What it dials where it runs: `address:port`.
    pub address: String,
    /// What the launcher keeps for that launch, until it is launched or this is dropped.
    pub kept: Box<dyn Send>,
}

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Relayed").field(&self.address).finish()
    }
}

/// The room of one launch at a launcher; dropped once the launch was answered, or, where the launcher reports, once it says
/// that the proc was started.
#[derive(Debug, Default)]
pub struct Admission {
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Admission {
    /// The room of one launch at several launchers, one of which hands it on to the other.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.rooms.extend(other.rooms);
        self
    }
}

impl From<OwnedSemaphorePermit> for Admission {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self { rooms: vec![permit] }
    }
}

/// What a launcher can do. What it does not claim is refused, and never ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// It reports the pid of what it starts, and is told of where it never did.
    pub pid: bool,
    /// It captures the output, or feeds the log channel.
    pub stdio: bool,
    /// It keeps the last lines of stderr. For people: what it does not keep is taken from the log channel.
    pub tail: bool,
    /// Its kill reaches the whole process tree. For people: what the host can see of a tree, it kills too.
    pub tree_kill: bool,
    /// It passes program paths that are not valid UTF-8.
    pub raw_paths: bool,
    /// It honours `cwd`, `clear_env` and `env_remove`.
    pub command_attributes: bool,
    /// Which parts of a confinement it carries out.
    pub confines: Confines,
    /// Its kill reaches what has left its session, its parents and its environment behind.
    pub group_kill: bool,
    /// It says of every proc whether the kernel has killed something of it for want of memory; without
    /// this of those that have a limit on memory, or of none.
    pub oom_facts: bool,
    /// It does not tell an end by signal *n* from a return of 128 + *n*, as shells and engines do not; both are told as the
    /// signal.
    pub folds_signals: bool,
    /// What a proc writes to stdout and to stderr comes as one stream, stdout.
    pub one_stream: bool,
    /// It launches procs that outlive their host, and takes over what earlier hosts have left.
    pub adopt: bool,
    /// Where its procs live.
    pub dial_back: DialBack,
}

/// Which parts of a [`Confinement`] a launcher carries out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confines {
    /// A limit on memory.
    pub memory: bool,
    /// A limit on processes and threads.
    pub pids: bool,
    /// A limit on the time of processors.
    pub cpu: bool,
    /// Another user.
    pub user: bool,
    /// The kernel's limits on each process.
    pub rlimits: bool,
    /// What a proc gives up.
    pub security: bool,
    /// Where a proc runs.
    pub binding: bool,
}

impl Confines {
    /// Refuses the parts of `confinement` that are not carried out.
    ///
    /// # Errors
    /// Names the first of them, and the launcher.
    pub fn check(&self, confinement: &Confinement, launcher: &str) -> Result<(), InvalidArgument> {
        let Confinement { resources, user, rlimits, security, binding } = confinement;
        let user = user.as_ref().map(|user| format!("{}:{}", user.uid, user.gid));
        let names = rlimits.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let gives_up = (*security != Security::default()).then(|| format!("{security:?}"));
        let bound =
            binding.given().map(|(name, list)| format!("{name}={list}")).collect::<Vec<_>>().join(" ");
        let asked = [
            ("resources[\"memory\"]", resources.memory.map(|bytes| bytes.to_string()), self.memory),
            ("resources[\"pids\"]", resources.pids.map(|pids| pids.to_string()), self.pids),
            ("resources[\"cpu\"]", resources.cpu_millis.map(|millis| format!("{millis}/1000")), self.cpu),
            ("user", user, self.user),
            ("rlimits", (!names.is_empty()).then_some(names), self.rlimits),
            ("security", gives_up, self.security),
            ("proc_bind", (!bound.is_empty()).then_some(bound), self.binding),
        ];
        for (field, given, can) in asked {
            if let Some(given) = given
                && !can
            {
                let rule = "does not say that it does this; leave it out, or use one that does";
                return Err(InvalidArgument::new(field, given, format!("launcher {launcher:?} {rule}")));
            }
        }
        Ok(())
    }
}

/// What a launch gives back.
pub struct LaunchResult {
    /// The process, where the launcher knows one.
    pub pid: Option<u32>,
    /// When it was started; of the request, where the launcher cannot know better.
    pub started_at: SystemTime,
    /// Where its output is.
    pub stdio: StdioHandling,
    /// Resolves exactly once, with the exit.
    pub exit_rx: oneshot::Receiver<ProcExitResult>,
    /// What the launcher has to say while it lives; none when it never has.
    pub reports: Option<Reports>,
}

impl fmt::Debug for LaunchResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchResult")
            .field("pid", &self.pid)
            .field("started_at", &self.started_at)
            .field("stdio", &self.stdio)
            .finish_non_exhaustive()
    }
}

/// Where a proc's output is.
pub enum StdioHandling {
    /// Here, as streams that the manager reads.
    Captured {
        /// Standard output.
        stdout: Box<dyn AsyncRead + Send + Unpin>,
        /// Standard error.
        stderr: Box<dyn AsyncRead + Send + Unpin>,
    },
    /// Here, as pipes that the manager reads, or splices into files.
    Pipes {
        /// Standard output.
        stdout: pipe::Receiver,
        /// Standard error.
        stderr: pipe::Receiver,
    },
    /// The proc shares the launcher's own.
    Inherited,
    /// The launcher reads it, keeps the tail, and feeds the log channel.
    ManagedByLauncher,
}

impl fmt::Debug for StdioHandling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Captured { .. } => "Captured",
            Self::Pipes { .. } => "Pipes",
            Self::Inherited => "Inherited",
            Self::ManagedByLauncher => "ManagedByLauncher",
        })
    }
}
