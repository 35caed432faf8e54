use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use procession_sys::{SpawnError, Stage, Stdio};

use crate::protocol::Strings;

/// A launch that nothing was done for yet.
pub(crate) struct Asked {
    /// The strings as they came.
    pub(crate) file: OwnedFd,
    pub(crate) strings: Strings,
    pub(crate) cwd: OwnedFd,
    /// Where its output and its errors go, when they are not captured.
    pub(crate) shared: Option<[OwnedFd; 2]>,
}

impl Asked {
    pub(crate) fn take(captured: bool, fds: Vec<OwnedFd>) -> Result<Self, SpawnError> {
        let mut fds = fds.into_iter();
        // Descriptors that did not arrive are those that this process may not have.
        let mut next = || fds.next().ok_or_else(|| failed(libc::EMFILE));
        let (file, cwd) = (next()?, next()?);
        let kept = file.try_clone().map_err(|_| failed(libc::EMFILE))?;
        let strings = Strings::read(kept).ok_or_else(|| failed(libc::EINVAL))?;
        let shared = if captured { None } else { Some([next()?, next()?]) };
        Ok(Self { file, strings, cwd, shared })
    }

    /// Where its output and its errors go.
    pub(crate) fn outputs(&self) -> [Stdio<'_>; 2] {
        match &self.shared {
            Some([out, err]) => [Stdio::Fd(out.as_fd()), Stdio::Fd(err.as_fd())],
            None => [Stdio::Pipe, Stdio::Pipe],
        }
    }

    /// The launch that it and its descendants are marked with.
    pub(crate) fn marker(&self) -> String {
        self.strings.launch().unwrap_or_default().to_owned()
    }
}

pub(crate) fn failed(errno: i32) -> SpawnError {
    SpawnError { stage: Stage::Clone, source: io::Error::from_raw_os_error(errno) }
}

/// The value of a variable among `envp`.
pub(crate) fn variable<'a>(envp: &'a [CString], name: &str) -> Option<&'a [u8]> {
    envp.iter().find_map(|entry| entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
