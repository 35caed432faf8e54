//! For a process whose only children are its own to reap: the keeper.

use std::io;

use crate::ExitStatus;
use crate::pidfd::wait_id;

/// Any child that has ended, its status left in place; none when all of them run.
///
/// Only a process that owns all its children may act on the answer.
///
/// # Errors
/// None is expected; to have no child at all is `Ok(None)`.
pub fn next_ended_child() -> io::Result<Option<(u32, ExitStatus)>> {
    match wait_id(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        other => other,
    }
}

/// Reaps the child `pid` if it has ended.
///
/// # Errors
/// It is not our child (ECHILD).
pub fn reap_child(pid: u32) -> io::Result<Option<ExitStatus>> {
    Ok(wait_id(libc::P_PID, pid, libc::WNOHANG)?.map(|(_, status)| status))
}
