//! The guard of detached procs: it holds what it needs to go on for their keeper, with a host or without.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use procession_sys::{self as sys, ExitStatus, Pidfd};

use crate::guard::start;
use crate::keeper::Legacy;
use crate::protocol::{Reply, SIZE};

/// What a keeper of detached procs has left.
pub(crate) struct Left {
    /// The conversation with the last owner, and that.
    pub(crate) control: OwnedFd,
    pub(crate) host: Pidfd,
    pub(crate) legacy: Legacy,
}

/// Starts a keeper and waits for its end; none when that left nothing to be kept on.
pub(crate) fn keep_watch(
    control: OwnedFd,
    host: Pidfd,
    listener: &OwnedFd,
    args: &[CString; 3],
) -> io::Result<Option<Left>> {
    sys::raise_open_files()?;
    let mut left = Left { control, host, legacy: Legacy { procs: HashMap::new() } };
    let (link, theirs) = sys::seqpacket_pair()?;
    let fds = [left.control.as_fd(), left.host.as_fd(), listener.as_fd(), theirs.as_fd()];
    let started = start(&fds, args);
    drop(theirs);
    let Ok(keeper) = started else { return Ok(Some(left)) };
    let mut linked = true;
    loop {
        let mut watches = vec![sys::Watch::readable(keeper.pidfd.as_fd())];
        if linked {
            watches.push(sys::Watch::readable(link.as_fd()));
        }
        sys::poll(&mut watches, None)?;
        // Asked first: all that it has said comes before its end.
        let ended = watches[0].is_ready();
        linked = linked && left.hear(&link);
        if ended {
            let well = keeper.pidfd.reap()? == Some(ExitStatus::Exited { code: 0 });
            return Ok((!well).then_some(left));
        }
    }
}

impl Left {
    /// Takes in what has been said; false once nothing more will be.
    fn hear(&mut self, link: &OwnedFd) -> bool {
        loop {
            let mut bytes = [0; SIZE];
            let (reply, fds) = match sys::receive(link.as_fd(), &mut bytes) {
                Ok(received) => (Reply::decode(&bytes[..received.length]), received.fds),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            match reply {
                Some(Reply::Kept { id, pid, started }) => {
                    self.legacy.procs.insert(id, (pid, started, fds));
                }
                Some(Reply::Forget { id }) => drop(self.legacy.procs.remove(&id)),
                Some(Reply::Owned { .. }) => {
                    if let Ok([control, host]) = <[OwnedFd; 2]>::try_from(fds) {
                        (self.control, self.host) = (control, host.into());
                    }
                }
                Some(_) => {}
                None => return false,
            }
        }
    }
}
