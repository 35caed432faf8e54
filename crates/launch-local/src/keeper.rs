//! Starting the keeper, from the copy of it inside this program.

use std::ffi::CString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use procession_model::LaunchId;
use procession_sys::{self as sys, Child, Pidfd, Program, SpawnSpec};

use crate::own::reap_later;
use crate::prepare::{own_marker, session};
use crate::protocol::{CONTROL_FD, HOST_FD};

static KEEPER: &[u8] = include_bytes!(env!("PROCESSION_KEEPER"));

/// A keeper that runs; to drop it reaps it, sooner or later.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) pid: u32,
    pub(crate) pidfd: Option<Pidfd>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It is about to end, and nobody else will take its zombie away.
        if let Some(pidfd) = self.pidfd.take() {
            reap_later(pidfd);
        }
    }
}

/// Starts a keeper; gives it and the host's end of the conversation.
pub(crate) fn start() -> io::Result<(Keeper, OwnedFd)> {
    let (ours, theirs) = sys::seqpacket_pair()?;
    let host = Pidfd::own()?;
    let child = sys::executable_memfd(c"procession-keeper", KEEPER)
        .and_then(|file| run(&Program::Fd(file.as_fd()), &theirs, &host))
        // The system may forbid to execute memory, and still allow a file.
        .or_else(|first| {
            from_file(&theirs, &host).map_err(|second| {
                let text = format!(
                    "from memory: {first}; from a file: {second}; set TMPDIR to a directory where \
                                    programs may be executed"
                );
                io::Error::new(second.kind(), text)
            })
        })?;
    Ok((Keeper { pid: child.pid, pidfd: Some(child.pidfd) }, ours))
}

fn run(program: &Program<'_>, control: &OwnedFd, host: &Pidfd) -> io::Result<Child> {
    // A keeper inside a proc of an outer host belongs to that proc's tree.
    let marker = own_marker().map(|own| CString::new(format!("{}={own}", sys::MARKER))).transpose()?;
    let argv = vec![c"procession-keeper".into(), CString::new(session().to_string())?];
    let mut spec = SpawnSpec::new(CString::default(), argv, Vec::from_iter(marker));
    spec.program = match program {
        Program::Path(path) => Program::Path(path.clone()),
        Program::Fd(fd) => Program::Fd(*fd),
    };
    debug_assert_eq!((CONTROL_FD, HOST_FD), (3, 4));
    spec.fds = vec![control.as_fd(), host.as_fd()];
    sys::spawn(&spec).map_err(|error| io::Error::new(error.source.kind(), error))
}

/// Executes a file that only this user can read, and that is gone before this returns.
fn from_file(control: &OwnedFd, host: &Pidfd) -> io::Result<Child> {
    let directory = std::env::temp_dir().join(format!("procession-{}", LaunchId::fresh()));
    let unmade = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
    DirBuilder::new().mode(0o700).create(&directory).map_err(unmade)?;
    let path = directory.join("keeper");
    let started = write_program(&path).and_then(|()| {
        let path = CString::new(path.clone().into_os_string().into_encoded_bytes())?;
        run(&Program::Path(path), control, host)
    });
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        tracing::warn!(path = %directory.display(), %error, "the keeper's file could not be removed");
    }
    started.map_err(unmade)
}

fn write_program(path: &PathBuf) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    file.write_all(KEEPER)
}
