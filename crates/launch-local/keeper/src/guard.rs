//! The guard: parent of the keeper, and next in line to be the parent of all that it kept.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use procession_sys::{self as sys, ExitStatus, Pidfd, SpawnSpec};

use crate::protocol::KEEPER;

/// How long a keeper may take to end what a dead host has left; one that is stopped never would.
const ENDING: Duration = Duration::from_millis(150);

/// Starts a keeper and waits for its end; false when that left something to be kept on.
pub(crate) fn has_kept_all(control: &OwnedFd, host: &Pidfd, args: [&CString; 2]) -> io::Result<bool> {
    let Ok(keeper) = start(&[control.as_fd(), host.as_fd()], args) else { return Ok(false) };
    let mut deadline: Option<Instant> = None;
    loop {
        let mut watches = vec![sys::Watch::readable(keeper.pidfd.as_fd())];
        if deadline.is_none() {
            watches.push(sys::Watch::readable(host.as_fd()));
        }
        sys::poll(&mut watches, deadline.map(|at| at.saturating_duration_since(Instant::now())))?;
        if watches[0].is_ready() {
            return Ok(keeper.pidfd.reap()? == Some(ExitStatus::Exited { code: 0 }));
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            keeper.pidfd.signal(libc::SIGKILL)?;
            deadline = Some(Instant::now() + ENDING);
        } else if deadline.is_none() && watches[1].is_ready() {
            deadline = Some(Instant::now() + ENDING);
        }
    }
}

/// Starts a keeper with these descriptors from [`crate::protocol::CONTROL_FD`] on.
pub(crate) fn start<'a>(
    fds: &[BorrowedFd<'_>],
    args: impl IntoIterator<Item = &'a CString>,
) -> Result<sys::Child, sys::SpawnError> {
    let entry = |(key, value): (OsString, OsString)| {
        CString::new([key.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()
    };
    let envp = std::env::vars_os().filter_map(entry).collect();
    let argv = [KEEPER.to_owned()].into_iter().chain(args.into_iter().cloned()).collect();
    let mut spec = SpawnSpec::new(c"/proc/self/exe".to_owned(), argv, envp);
    spec.fds = fds.to_vec();
    sys::spawn(&spec)
}
