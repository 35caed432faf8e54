use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_model::{DialBack, LaunchOptions, ProcExitResult, ProcId};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::ProcLauncherError;

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

    /// Starts a proc; answers when the substrate has accepted it.
    ///
    /// # Errors
    /// Nothing was started.
    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError>;

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

/// What a launcher can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// It reports the pid of what it starts.
    pub pid: bool,
    /// It captures the output, or feeds the log channel.
    pub stdio: bool,
    /// It keeps the last lines of stderr.
    pub tail: bool,
    /// Its kill reaches the whole process tree.
    pub tree_kill: bool,
    /// It passes program paths that are not valid UTF-8.
    pub raw_paths: bool,
    /// It honours `cwd`, `clear_env` and `env_remove`.
    pub command_attributes: bool,
    /// Where its procs live.
    pub dial_back: DialBack,
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
