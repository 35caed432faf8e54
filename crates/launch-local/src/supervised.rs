//! One supervised child of this very process: what a launcher that runs programs itself builds on.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use procession_launch::{Confines, ProcLauncherError, Tail};
use procession_model::{Confinement, LaunchId, ProcExitKind, ProcExitResult};
use procession_sys::{self as sys, SpawnError, SpawnSpec, Spawning, Stdio, Tree};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::confine::resolve;
use crate::failure::{LaunchFailure, Shown, refused as refused_argument, shortage, whereabouts};
use crate::own::{Own, Starting};
use crate::prepare::{marker, own_marker, prepare};
use crate::spawner::on_immortal_thread;
use crate::watch_child::{Child, Command, Output};
use crate::watched::watched;

/// Programs that are looked up at one moment; the rest wait. It bounds the threads that a file system
/// which does not answer can hold.
static LOOKUPS: Semaphore = Semaphore::const_new(32);
/// How often a start is looked at that nothing has told of.
const LOOK: Duration = Duration::from_millis(20);

/// Which output some bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Shown every piece of output as it comes, on the runtime's thread; so it must not block.
pub type Sink = Box<dyn FnMut(Stream, &[u8]) + Send>;

/// Says whether whoever sees the output has more than can be passed on; nothing is read meanwhile, so
/// that the program waits. What is left at its end is read whatever this says. Must not block.
pub type Hold = Box<dyn Fn() -> bool + Send + Sync>;

/// What to run.
#[derive(Default)]
pub struct SupervisedSpec {
    /// The program: absolute, relative to `cwd`, or a bare name that the PATH in `env` has.
    pub program: PathBuf,
    /// `argv[0]`; none means the last component of `program`.
    pub arg0: Option<String>,
    /// `argv[1..]`.
    pub args: Vec<String>,
    /// The whole environment; the launch marker is added to it.
    pub env: BTreeMap<OsString, OsString>,
    /// The directory to start in; none keeps this process's own.
    pub cwd: Option<PathBuf>,
    /// What it is held to, who it is and what it gives up; limits on its group are refused.
    pub confinement: Confinement,
    /// How many lines of each output to keep for the exit.
    pub tail_lines: usize,
    /// Who sees the output.
    pub sink: Option<Sink>,
    /// What holds up the reading of the output; none never does.
    pub hold: Option<Hold>,
}

/// A child of this process, in a session of its own, watched to its end.
///
/// Its exit is seen by the kernel's own notice and never by the end of its output, which some
/// grandchild may hold open for hours. Whatever its tree leaves behind is killed after its exit.
/// When this process is gone the kernel kills the child, and the child alone: what that had started
/// is killed by this process's own keeper, if it was launched by one. When all handles are dropped
/// the child lives on, still watched.
///
/// A grandchild that made itself a daemon is found by the marker in its environment. This process does
/// not become a subreaper for that: it would gather the orphans of everything else that it starts,
/// which nobody here waits for, as zombies.
#[derive(Clone, Debug)]
pub struct Supervised {
    pid: u32,
    commands: mpsc::UnboundedSender<Command>,
    exit: watch::Receiver<Option<ProcExitResult>>,
}

impl Supervised {
    /// After this a process that does not die of SIGKILL is reported, which is before whoever asked a
    /// launcher for it gives up.
    pub const KILL_BOUND: Duration = Duration::from_secs(4);

    /// Starts the program; to be called inside a tokio runtime with time and I/O enabled, which
    /// watches it from then on. Blocks none of the runtime's threads, whatever the file system does.
    ///
    /// Cancel safe: what was started is killed then.
    ///
    /// # Errors
    /// Nothing was started: an argument is refused, or the operating system refused.
    pub async fn spawn(spec: SupervisedSpec) -> Result<Self, ProcLauncherError> {
        let SupervisedSpec { program, arg0, args, mut env, cwd, confinement, tail_lines, sink, hold } = spec;
        let confines =
            Confines { user: true, rlimits: true, security: true, binding: true, ..Confines::default() };
        confines.check(&confinement, "supervise").map_err(refused_argument)?;
        let confinement = resolve(&confinement).map_err(refused_argument)?;
        let launch = LaunchId::fresh();
        let mark = match env.get(OsStr::new(sys::MARKER)).and_then(|given| given.to_str()) {
            // That of the launch that this is started for, by which others look for what belongs to it.
            Some(given) if own_marker() != Some(given) => format!("{}:{given}", marker(launch)),
            _ => marker(launch),
        };
        env.insert(sys::MARKER.into(), mark.into());
        let place = LOOKUPS.acquire().await;
        let start = move || {
            // Held by the thread that may hang, whoever waits for it.
            let _place = place;
            let prepared = prepare(&program, arg0.as_deref(), &args, &env, cwd.as_deref())?;
            let shown = prepared.shown.clone();
            let starting = on_immortal_thread(move || {
                let strings = prepared.strings;
                let spec = SpawnSpec {
                    cwd: Some(prepared.cwd.as_fd()),
                    stdout: Stdio::Pipe,
                    stderr: Stdio::Pipe,
                    orphaned: sys::Orphaned::Dies,
                    confinement,
                    ..SpawnSpec::new(strings.program, strings.argv, strings.envp)
                };
                Spawning::start(&spec).map(Starting::new)
            })?;
            Ok::<_, ProcLauncherError>((starting.map_err(|error| refused(&error, &shown))?, shown))
        };
        let (starting, shown) = spawn_blocking(start).await.map_err(ended)??;
        let child = executing(starting).await?.map_err(|error| refused(&error, &shown))?;
        Self::watch(child, launch, tail_lines, sink, hold)
    }

    fn watch(
        mut child: Own,
        launch: LaunchId,
        tail_lines: usize,
        sink: Option<Sink>,
        hold: Option<Hold>,
    ) -> Result<Self, ProcLauncherError> {
        let Some(sys::Child { pid, stdout, stderr, .. }) = child.get_mut() else { return Err(vanished()) };
        let (pid, stdout, stderr) = (*pid, stdout.take(), stderr.take());
        // Until it is watched, and so until it is reaped, it can be looked at even when it has ended.
        let start_time = sys::Process::look(pid).map_or(0, |process| process.started);
        let (commands, asked) = mpsc::unbounded_channel();
        let (publish, exit) = watch::channel(None);
        let output = |fd: Option<OwnedFd>| {
            let pipe = fd.map(Receiver::from_owned_fd).transpose().map_err(|error| unwatched(&error))?;
            Ok::<_, ProcLauncherError>(Output { pipe, tail: Tail::new(tail_lines) })
        };
        let child = Child {
            stdout: output(stdout)?,
            stderr: output(stderr)?,
            own: watched(child).map_err(|error| unwatched(&error))?,
            tree: Tree::new(pid, start_time, launch.to_string(), None),
            sink,
            hold,
            publish,
        };
        tokio::spawn(child.run(asked));
        Ok(Self { pid, commands, exit })
    }

    /// Its process id, which may mean another process once it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit; any number may wait, before and after. Cancel safe.
    pub async fn wait(&self) -> ProcExitResult {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_else(watcher_gone),
            Err(_) => watcher_gone(),
        }
    }

    /// SIGTERM to the whole tree, SIGKILL after `timeout`; returns when nothing of it is left. The
    /// earliest of several deadlines counts. Cancel safe: once polled, it happens whoever waits.
    ///
    /// # Errors
    /// Something of it has not died [`Self::KILL_BOUND`] after SIGKILL.
    pub async fn terminate(&self, timeout: Duration) -> Result<(), ProcLauncherError> {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400 * 365));
        let _ = self.commands.send(Command::Terminate { deadline });
        self.gone(timeout.saturating_add(Self::KILL_BOUND)).await.map_err(ProcLauncherError::Terminate)
    }

    /// SIGKILL to the whole tree; returns when nothing of it is left. Cancel safe: once polled, it
    /// happens whoever waits.
    ///
    /// # Errors
    /// Something of it has not died after [`Self::KILL_BOUND`].
    pub async fn kill(&self) -> Result<(), ProcLauncherError> {
        let _ = self.commands.send(Command::Kill);
        self.gone(Self::KILL_BOUND).await.map_err(ProcLauncherError::Kill)
    }

    async fn gone(&self, bound: Duration) -> Result<(), String> {
        tokio::time::timeout(bound, self.commands.closed()).await.map_err(|_| {
            let short = sys::Process::look(self.pid).err().and_then(|error| shortage(error.raw_os_error()?));
            short.map_or_else(
                || {
                    format!(
                        "process {} ({}), or one that it started, does not die of SIGKILL; what it waits for has to \
                         answer or go away first, and then it dies",
                        self.pid,
                        whereabouts(self.pid)
                    )
                },
                |why| format!("what process {} started cannot be looked for: {why}", self.pid),
            )
        })
    }
}

/// Waits until a child executes its program, or has failed to.
async fn executing(starting: Starting) -> Result<Result<Own, SpawnError>, ProcLauncherError> {
    let starting = watched(starting).map_err(|error| unwatched(&error))?;
    while tokio::time::timeout(LOOK, starting.readable()).await.is_err() && !starting.get_ref().is_over() {}
    let starting = starting.into_inner();
    spawn_blocking(move || starting.finish()).await.map_err(ended)?.ok_or_else(vanished)
}

fn refused(SpawnError { stage, source }: &SpawnError, shown: &Shown) -> ProcLauncherError {
    LaunchFailure::at(*stage, source.raw_os_error().unwrap_or(libc::EIO), shown).into()
}

fn unwatched(error: &std::io::Error) -> ProcLauncherError {
    LaunchFailure::of(
        "it cannot be watched, and was killed; see whether fs.epoll.max_user_watches is too low",
        error,
    )
    .into()
}

fn ended(_: tokio::task::JoinError) -> ProcLauncherError {
    ProcLauncherError::Other("the runtime ended before the program was started; start another".to_owned())
}

fn vanished() -> ProcLauncherError {
    ProcLauncherError::Other("the child was given up while it was started; start it again".to_owned())
}

fn watcher_gone() -> ProcExitResult {
    let reason = "the runtime that watched it was shut down".to_owned();
    ProcExitResult::new(ProcExitKind::Lost { reason })
}
