//! Starting the keeper, from the copy of it inside this program.

use std::ffi::CString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use procession_model::LaunchId;
use procession_sys::{self as sys, Child, ExitStatus, Pidfd, Process, Program, SpawnSpec};
use tokio::io::unix::AsyncFd;

use crate::driver::kind_of;
use crate::home::Home;
use crate::own::reap_later;
use crate::prepare::{own_marker, session};
use crate::protocol::{CONTROL_FD, GUARD, HOST_FD, LISTENER_FD};
use crate::watched::watched;

static PROGRAM: &[u8] = include_bytes!(env!("PROCESSION_KEEPER"));

/// How long a process that has closed its end takes to end, at most.
const ENDING: Duration = Duration::from_secs(1);

/// One of the two processes that keep native procs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helper {
    /// `guard` or `keeper`.
    pub role: &'static str,
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// A keeper and the guard above it; to drop them reaps them, sooner or later.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) guard: Option<Helper>,
    pub(crate) keeper: Option<Helper>,
    /// None once it has ended.
    guard_fd: Option<AsyncFd<Pidfd>>,
    /// None when it is not known yet, or could not be watched.
    keeper_fd: Option<Pidfd>,
}

impl Pair {
    /// Takes in what a keeper says of itself.
    pub(crate) fn keeps(&mut self, pid: u32, started: u64) -> Helper {
        let keeper = Helper { role: "keeper", pid, started };
        self.keeper = Some(keeper);
        let same = |_: &Pidfd| Process::look(pid).is_ok_and(|found| found.started == started);
        self.keeper_fd = Pidfd::open(pid).ok().filter(same);
        keeper
    }

    /// Those that another process has started, and that are no children of this one.
    pub(crate) fn found(guard: Option<Helper>, keeper: Option<Helper>) -> Self {
        let open = |helper: &Helper| {
            let same =
                |_: &Pidfd| Process::look(helper.pid).is_ok_and(|found| found.started == helper.started);
            Pidfd::open(helper.pid).ok().filter(same)
        };
        let guard_fd = guard.as_ref().and_then(open).and_then(|fd| watched(fd).ok());
        Self { guard, keeper, guard_fd, keeper_fd: keeper.as_ref().and_then(open) }
    }

    /// Waits for the guard to end; how it did. Waits for ever when that was told. Cancel safe.
    pub(crate) async fn guard_ended(&mut self) -> Option<ExitStatus> {
        let Some(guard) = &self.guard_fd else { return std::future::pending().await };
        let watching = guard.readable().await.is_ok();
        let pidfd = self.guard_fd.take().map(AsyncFd::into_inner)?;
        let status = if watching { pidfd.reap().ok().flatten() } else { None };
        if status.is_none() {
            reap_later(pidfd);
        }
        status
    }

    /// How both ended, which they have or are about to.
    pub(crate) async fn how_they_ended(&mut self) -> String {
        let told = |status: Option<ExitStatus>| match status {
            Some(status) => format!("ended with {}", kind_of(status)),
            None => "ended".to_owned(),
        };
        let guard = if self.guard_fd.is_some() {
            tokio::time::timeout(ENDING, self.guard_ended()).await.ok().flatten()
        } else {
            None
        };
        // Where the guard ended first, and this process adopts what loses its parent, it is our child.
        let keeper = match self.keeper_fd.take().map(watched) {
            Some(Ok(fd)) => {
                let _ended = tokio::time::timeout(ENDING, fd.readable()).await;
                let fd = fd.into_inner();
                let status = fd.reap().ok().flatten().or_else(|| fd.told_status());
                reap_later(fd);
                status
            }
            _ => None,
        };
        let pid =
            |helper: Option<Helper>| helper.map_or_else(|| "not known".to_owned(), |one| one.pid.to_string());
        format!(
            "its keeper (pid {}) {}, and the guard above it (pid {}) {}",
            pid(self.keeper),
            told(keeper),
            pid(self.guard),
            told(guard)
        )
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // They are about to end, and nobody else may take their zombies away.
        let guard = self.guard_fd.take().map(AsyncFd::into_inner);
        guard.into_iter().chain(self.keeper_fd.take()).for_each(reap_later);
    }
}

/// Starts a guard, which starts its keeper; gives them and the host's end of the conversation. With a `home`
/// they keep detached procs, and no others.
pub(crate) fn start(home: Option<&Home>) -> io::Result<(Pair, OwnedFd)> {
    let (ours, theirs) = sys::seqpacket_pair()?;
    let (host, listener) = (Pidfd::own()?, home.map(Home::listen).transpose()?);
    let passed = Passed {
        home,
        fds: [theirs.as_fd(), host.as_fd()].into_iter().chain(listener.as_ref().map(AsFd::as_fd)).collect(),
    };
    let child = sys::executable_memfd(c"procession-keeper", PROGRAM)
        .and_then(|file| run(&Program::Fd(file.as_fd()), &passed))
        // The system may forbid to execute memory, and still allow a file.
        .or_else(|first| {
            from_file(&passed).map_err(|second| {
                let text = format!(
                    "from memory: {first}; from a file: {second}; set TMPDIR to a directory where \
                                    programs may be executed"
                );
                io::Error::new(second.kind(), text)
            })
        })?;
    // Until it is reaped, and only we do that, it can be looked at even when it has ended.
    let started = Process::look(child.pid).map_or(0, |process| process.started);
    let guard = Some(Helper { role: "guard", pid: child.pid, started });
    let guard_fd = Some(watched(child.pidfd)?);
    Ok((Pair { guard, keeper: None, guard_fd, keeper_fd: None }, ours))
}

/// What a guard is given.
struct Passed<'a> {
    home: Option<&'a Home>,
    fds: Vec<BorrowedFd<'a>>,
}

fn run(program: &Program<'_>, passed: &Passed<'_>) -> io::Result<Child> {
    // A keeper inside a proc of an outer host belongs to that proc's tree.
    let marker = own_marker().map(|own| CString::new(format!("{}={own}", sys::MARKER))).transpose()?;
    let owner = sys::Owner::this_process();
    let mut argv =
        vec![GUARD.to_owned(), CString::new(session().to_string())?, CString::new(owner.to_string())?];
    if let Some(home) = passed.home {
        argv.push(CString::new(home.path().as_os_str().as_encoded_bytes())?);
    }
    let envp = marker.into_iter().chain(sys::failpoint_variable()).collect();
    let mut spec = SpawnSpec::new(CString::default(), argv, envp);
    spec.program = match program {
        Program::Path(path) => Program::Path(path.clone()),
        Program::Fd(fd) => Program::Fd(*fd),
    };
    debug_assert_eq!((CONTROL_FD, HOST_FD, LISTENER_FD), (3, 4, 5));
    spec.fds.clone_from(&passed.fds);
    sys::spawn(&spec).map_err(|error| io::Error::new(error.source.kind(), error))
}

/// Executes a file that only this user can read, and that is gone before this returns.
fn from_file(passed: &Passed<'_>) -> io::Result<Child> {
    let directory = std::env::temp_dir().join(format!("procession-{}", LaunchId::fresh()));
    let unmade = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
    DirBuilder::new().mode(0o700).create(&directory).map_err(unmade)?;
    let path = directory.join("keeper");
    let started = write_program(&path).and_then(|()| {
        let path = CString::new(path.clone().into_os_string().into_encoded_bytes())?;
        run(&Program::Path(path), passed)
    });
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        tracing::warn!(path = %directory.display(), %error, "the keeper's file could not be removed");
    }
    started.map_err(unmade)
}

fn write_program(path: &PathBuf) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    file.write_all(PROGRAM)
}
