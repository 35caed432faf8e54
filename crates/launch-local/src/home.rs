//! The state directory of detached procs: whose keeper is asked there for what runs, and where it has written
//! down what ended.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procession_model::{LaunchId, OutputFiles};
use procession_sys::{self as sys, Pidfd, Rotation};

use crate::exits::{Ended, Exits};
use crate::keeper::Helper;
use crate::order::Output;
use crate::protocol::{Reply, Request, SIZE, SOCKET, Strings};

/// How long a keeper may take to hand over what it keeps.
const HAND_OVER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Home(PathBuf);

/// What a keeper has handed over.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) socket: OwnedFd,
    pub(crate) guard: Option<Helper>,
    pub(crate) keeper: Option<Helper>,
    pub(crate) procs: Vec<Inherited>,
}

#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) id: u64,
    pub(crate) launch: LaunchId,
    pub(crate) pid: u32,
    pub(crate) started: u64,
    pub(crate) pipes: [OwnedFd; 2],
}

impl Home {
    /// # Errors
    /// It is not a directory of this user alone.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let path = std::path::absolute(directory)?;
        let unfit =
            |why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()));
        let found = fs::symlink_metadata(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}; make it first", path.display()))
        })?;
        if !found.is_dir() {
            return Err(unfit("it is not a directory; give one".to_owned()));
        }
        let own = sys::own_ids().0;
        if found.uid() != own {
            return Err(unfit(format!(
                "it belongs to user {} and this process runs as {own}; give another",
                found.uid()
            )));
        }
        if found.permissions().mode() & 0o077 != 0 {
            return Err(unfit("others can enter it; use chmod 0700".to_owned()));
        }
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A socket for the next host, in the place of one that nobody listens at any more.
    pub(crate) fn listen(&self) -> io::Result<OwnedFd> {
        let path = self.0.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sys::listen_seqpacket(&path),
        }
    }

    /// How procs ended that are not kept any more.
    pub(crate) fn exits(&self) -> io::Result<HashMap<String, Ended>> {
        Exits::in_directory(&self.0).read()
    }

    /// Becomes the owner of what an earlier host has left; none where no keeper is. Blocks for as long as it
    /// takes to hand over.
    ///
    /// # Errors
    /// Another host is the owner, or the keeper does not answer.
    pub(crate) fn claim(&self) -> io::Result<Option<Inheritance>> {
        let path = self.0.join(SOCKET);
        let socket = match sys::connect_seqpacket(&path) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT)) => {
                return Ok(None);
            }
            other => other?,
        };
        if sys::peer_uid(socket.as_fd())? != sys::own_ids().0 {
            let text = format!("{} is served by another user; give another directory", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let own = Pidfd::own()?;
        match sys::send(socket.as_fd(), &Request::Own.encode(), &[own.as_fd()]) {
            // It has just ended, with nothing left to keep.
            Err(error) if sys::is_gone(&error) => return Ok(None),
            other => other?,
        }
        self.inherit(socket)
    }

    fn inherit(&self, socket: OwnedFd) -> io::Result<Option<Inheritance>> {
        let mut found = Inheritance { socket, guard: None, keeper: None, procs: Vec::new() };
        let (deadline, mut owned) = (Instant::now() + HAND_OVER, false);
        loop {
            let mut bytes = [0; SIZE];
            let received = match sys::receive(found.socket.as_fd(), &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(self.refused(
                            "the keeper of this directory does not answer; see whether it is stopped",
                        ));
                    }
                    sys::poll(&mut [sys::Watch::readable(found.socket.as_fd())], Some(left))?;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                other => other?,
            };
            match Reply::decode(&bytes[..received.length]) {
                Some(Reply::Busy) => {
                    return Err(self.refused("another host is the owner of what runs here; end that one, or give another directory"));
                }
                Some(Reply::Owned { pid, started }) => {
                    found.guard = (pid != 0).then_some(Helper { role: "guard", pid, started });
                    owned = true;
                }
                Some(Reply::Keeps { pid, started }) => {
                    found.keeper = Some(Helper { role: "keeper", pid, started });
                }
                Some(Reply::Kept { id, pid, started }) => {
                    let mut fds = received.fds.into_iter();
                    let (Some(out), Some(err), Some(strings)) = (fds.next(), fds.next(), fds.next()) else {
                        return Err(io::Error::from_raw_os_error(libc::EMFILE));
                    };
                    if let Some(launch) = Strings::read(strings).and_then(|strings| launch_of(&strings)) {
                        found.procs.push(Inherited { id, launch, pid, started, pipes: [out, err] });
                    }
                }
                Some(Reply::All) => return Ok(Some(found)),
                Some(_) => {}
                // It ended between being asked and answering, with nothing to keep.
                None if !owned => return Ok(None),
                None => {
                    return Err(
                        self.refused("the keeper of this directory ended while it handed over; try again")
                    );
                }
            }
        }
    }

    fn refused(&self, why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::AddrInUse, format!("{}: {why}", self.0.display()))
    }
}

fn launch_of(strings: &Strings) -> Option<LaunchId> {
    let number = u128::from_str_radix(strings.launch()?, 16).ok()?;
    Some(LaunchId::from_bytes(number.to_be_bytes()))
}

/// As the keeper is told.
pub(crate) fn output(files: &OutputFiles) -> io::Result<Output> {
    let OutputFiles { stdout, stderr, max_bytes, keep } = files;
    let rotation = Rotation { max_bytes: *max_bytes, keep: *keep };
    Ok(Output { paths: [std::path::absolute(stdout)?, std::path::absolute(stderr)?], rotation })
}
