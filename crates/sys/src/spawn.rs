mod child;
mod restrict;

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use crate::limits::OpenFiles;
use crate::{Confinement, Group, Pidfd, Process, Watch, open_null, pipe, poll};
pub use child::has_clone3;
use restrict::Restrictions;

/// What to execute.
#[derive(Debug)]
pub enum Program<'fd> {
    /// The file at this path.
    Path(CString),
    /// An open file.
    Fd(BorrowedFd<'fd>),
}

/// Where an output goes.
#[derive(Debug)]
pub enum Stdio<'fd> {
    /// Nowhere.
    Null,
    /// Into a fresh pipe, whose read end the [`Child`] has.
    Pipe,
    /// Into this open file.
    Fd(BorrowedFd<'fd>),
}

/// What becomes of a child when the THREAD that made it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphaned {
    /// Nothing.
    #[default]
    Lives,
    /// Until it executes its program it dies by SIGKILL; from then on nothing.
    DiesUntilExec,
    /// It dies by SIGKILL, unless its program raises its privileges; so that thread must never end.
    Dies,
}

/// Everything that the child is to be. It gets stdin from `/dev/null`, a session and a process group of
/// its own, no blocked and no ignored signal, and no descriptor but those named here.
#[derive(Debug)]
pub struct SpawnSpec<'fd> {
    /// What to execute.
    pub program: Program<'fd>,
    /// argv, the name that the program is to know itself by first.
    pub argv: Vec<CString>,
    /// `NAME=value`, all of them.
    pub envp: Vec<CString>,
    /// The directory to start in; none keeps the caller's.
    pub cwd: Option<BorrowedFd<'fd>>,
    /// Standard output.
    pub stdout: Stdio<'fd>,
    /// Standard error.
    pub stderr: Stdio<'fd>,
    /// What it gets as descriptors 3, 4, …
    pub fds: Vec<BorrowedFd<'fd>>,
    /// What becomes of it when the calling THREAD ends.
    pub orphaned: Orphaned,
    /// The limit on open files, when it differs from the caller's.
    pub open_files: Option<OpenFiles>,
    /// Its out-of-memory score, when it differs from the caller's.
    pub oom_score_adj: Option<i32>,
    /// The control group that it is born in, when not the caller's.
    pub group: Option<&'fd Group>,
    /// What it is held to and gives up.
    pub confinement: Confinement,
}

impl SpawnSpec<'_> {
    /// `program` with `argv` and `envp`, silent, in the caller's directory.
    pub fn new(program: CString, argv: Vec<CString>, envp: Vec<CString>) -> Self {
        Self {
            program: Program::Path(program),
            argv,
            envp,
            cwd: None,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            fds: Vec::new(),
            orphaned: Orphaned::Lives,
            open_files: None,
            oom_score_adj: None,
            group: None,
            confinement: Confinement::default(),
        }
    }
}

/// How far a child came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was started: pipes, `/dev/null` or the process itself could not be made.
    Clone,
    /// Its session, limits or descriptors could not be set.
    Setup,
    /// Its directory could not be entered.
    Directory,
    /// execve refused the program.
    Exec,
    /// Its control group could not be made or joined.
    Group,
    /// One of its limits could not be set.
    Limits,
    /// It could not become another user.
    User,
    /// Its rights could not be taken away.
    Privileges,
    /// It could not be bound to processors or to memory.
    Binding,
}

impl Stage {
    /// All of them; the place of each is its number on the wire.
    pub const ALL: [Self; 9] = [
        Self::Clone,
        Self::Setup,
        Self::Directory,
        Self::Exec,
        Self::Group,
        Self::Limits,
        Self::User,
        Self::Privileges,
        Self::Binding,
    ];

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Setup)
    }
}

/// A child that was not started; nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", match stage {
    Stage::Clone => "no process could be made",
    Stage::Setup => "the new process could not be set up",
    Stage::Directory => "the working directory cannot be entered",
    Stage::Exec => "the program cannot be executed",
    Stage::Group => "the control group cannot be joined",
    Stage::Limits => "a limit cannot be set",
    Stage::User => "the process cannot become that user",
    Stage::Privileges => "the rights cannot be taken away",
    Stage::Binding => "the process cannot be bound to processors or memory",
})]
pub struct SpawnError {
    /// How far it came.
    pub stage: Stage,
    /// What the kernel said.
    pub source: io::Error,
}

/// A child process. To drop it neither kills nor reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its id, which means it until it is reaped.
    pub pid: u32,
    /// Itself.
    pub pidfd: Pidfd,
    /// The read end of its output, when that is piped.
    pub stdout: Option<OwnedFd>,
    /// The read end of its errors, when they are piped.
    pub stderr: Option<OwnedFd>,
}

impl Child {
    /// Kills the leader's whole process group at once: no member can fork itself away meanwhile.
    ///
    /// To be called only before the child is reaped: until then its number means no other group.
    pub fn kill_group(&self) {
        let done = self.pidfd.signal_group(libc::SIGKILL);
        if done.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
            // SAFETY: plain integers; the group is gone when this fails.
            unsafe { libc::kill(-(self.pid as libc::pid_t), libc::SIGKILL) };
        }
        // Before its setsid the child has no group of its own.
        let _ = self.pidfd.signal(libc::SIGKILL);
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

/// A child between clone and execve. Its descriptor is readable once it executes its program, or has
/// failed to; but a fork that this process made at the wrong moment holds that back for as long as it
/// lives, and then only [`Self::executes`] tells.
#[derive(Debug)]
pub struct Spawning {
    /// The child, already there to be killed.
    pub child: Child,
    report: OwnedFd,
}

impl Spawning {
    /// Starts a child, and returns before it executes its program.
    ///
    /// # Errors
    /// At [`Stage::Clone`]; the later ones are told by [`Self::finish`].
    pub fn start(spec: &SpawnSpec<'_>) -> Result<Self, SpawnError> {
        Self::begin(spec, false).map_err(|source| SpawnError { stage: Stage::Clone, source })
    }

    fn begin(spec: &SpawnSpec<'_>, until_exec: bool) -> io::Result<Self> {
        let null = open_null()?;
        let (report, report_end) = pipe()?;
        let (stdout, stdout_end) = output(&spec.stdout)?;
        let (stderr, stderr_end) = output(&spec.stderr)?;
        let target = |stdio: &Stdio<'_>, end: &Option<OwnedFd>| match (stdio, end) {
            (Stdio::Fd(fd), _) => fd.as_raw_fd(),
            (_, Some(end)) => end.as_raw_fd(),
            _ => null.as_raw_fd(),
        };
        let mut sources =
            vec![null.as_raw_fd(), target(&spec.stdout, &stdout_end), target(&spec.stderr, &stderr_end)];
        sources.extend(spec.fds.iter().map(AsRawFd::as_raw_fd));
        let (path, exec_fd) = match &spec.program {
            Program::Path(path) => (path.as_ptr(), -1),
            Program::Fd(fd) => (c"".as_ptr(), fd.as_raw_fd()),
        };
        let argv = pointers(&spec.argv);
        let envp = pointers(&spec.envp);
        let group = spec.group.map(Group::place).transpose()?.flatten();
        let entrances = spec.group.map(Group::entrances).transpose()?.unwrap_or_default();
        let numbers: Vec<RawFd> = entrances.iter().map(AsRawFd::as_raw_fd).collect();
        let oom_score_adj = spec.oom_score_adj.map(|score| score.clamp(-1000, 1000).to_string());
        let mut plan = child::Plan {
            path,
            exec_fd,
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            sources: &mut sources,
            cwd: spec.cwd.map_or(-1, |fd| fd.as_raw_fd()),
            report: report_end.as_raw_fd(),
            parent: (spec.orphaned != Orphaned::Lives).then(std::process::id),
            outlives: spec.orphaned == Orphaned::DiesUntilExec,
            open_files: spec.open_files,
            oom_score_adj: oom_score_adj.as_deref().map(str::as_bytes),
            group: group.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            entrances: &numbers,
            restrictions: Restrictions::new(&spec.confinement),
            outside: false,
        };
        let (pid, pidfd) = child::clone(&mut plan, until_exec)?;
        Ok(Self { child: Child { pid, pidfd: pidfd.into(), stdout, stderr }, report })
    }

    /// Whether it executes its program by now, as far as can be seen.
    pub fn executes(&self) -> bool {
        Process::look(self.child.pid).is_ok_and(|process| process.has_executed())
    }

    /// What became of it, to be asked once that is known: a child that executes its program, or one
    /// that failed to and is reaped. Never waits for the former.
    ///
    /// A child that is killed before that counts as started.
    ///
    /// # Errors
    /// Says at which stage the child failed, and why.
    pub fn finish(self) -> Result<Child, SpawnError> {
        let mut report = [0; 5];
        let mut told = [Watch::readable(self.report.as_fd())];
        // Where a fork of this process holds the other end, the end of the pipe never comes.
        let nothing = poll(&mut told, Some(Duration::ZERO)).is_err() || !told[0].is_ready();
        if nothing || File::from(self.report).read_exact(&mut report).is_err() {
            return Ok(self.child);
        }
        // It is about to exit, unless somebody has stopped it; who else reaps it does no harm here.
        let _ = self.child.pidfd.signal(libc::SIGKILL);
        let _ = self.child.pidfd.wait();
        let [stage, errno @ ..] = report;
        let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
        Err(SpawnError { stage: Stage::of(stage), source })
    }
}

impl AsFd for Spawning {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl AsRawFd for Spawning {
    fn as_raw_fd(&self) -> RawFd {
        self.report.as_raw_fd()
    }
}

/// Starts a child and waits until it executes its program, whatever else this process forks meanwhile.
///
/// # Errors
/// Nothing was started, or what was is gone again.
pub fn spawn(spec: &SpawnSpec<'_>) -> Result<Child, SpawnError> {
    let begun = Spawning::begin(spec, true);
    begun.map_err(|source| SpawnError { stage: Stage::Clone, source })?.finish()
}

fn output(stdio: &Stdio<'_>) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    Ok(match stdio {
        Stdio::Pipe => {
            let (read, write) = pipe()?;
            (Some(read), Some(write))
        }
        Stdio::Null | Stdio::Fd(_) => (None, None),
    })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}
