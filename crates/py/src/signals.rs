use std::io::{self, PipeWriter};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::io::ioctl_fionbio;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::core::started;
use crate::parker::parker;

/// Where Python's own handler, in C, writes a byte for each signal; the other end interrupts the main thread.
static SIGNALLED: OnceLock<Option<PipeWriter>> = OnceLock::new();

/// While Python has this, a signal interrupts what its main thread waits for.
pub(crate) struct Interrupts {
    before: i32,
}

impl Interrupts {
    /// On the main thread; none where somebody else is told of signals, or the runtime is not this process's own.
    pub(crate) fn begin(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(signalled) = SIGNALLED.get_or_init(|| open().ok().flatten()) else { return Ok(None) };
        let own = signalled.as_raw_fd();
        let before = set_wakeup_fd(py, own)?;
        if before != -1 && before != own {
            set_wakeup_fd(py, before)?;
            return Ok(None);
        }
        Ok(Some(Self { before }))
    }

    pub(crate) fn end(self, py: Python<'_>) -> PyResult<()> {
        set_wakeup_fd(py, self.before).map(drop)
    }
}

fn set_wakeup_fd(py: Python<'_>, fd: i32) -> PyResult<i32> {
    let quietly = PyDict::new(py);
    quietly.set_item(intern!(py, "warn_on_full_buffer"), false)?;
    let signal = py.import(intern!(py, "_signal"))?;
    signal.call_method(intern!(py, "set_wakeup_fd"), (fd,), Some(&quietly))?.extract()
}

fn open() -> io::Result<Option<PipeWriter>> {
    let Some(core) = started().ok().flatten().filter(|core| core.is_own()) else { return Ok(None) };
    let (read, write) = io::pipe()?;
    ioctl_fionbio(&write, true)?;
    let main = parker();
    core.handle.spawn(async move {
        let Ok(mut read) = Receiver::from_owned_fd(read.into()) else { return };
        while matches!(read.read(&mut [0; 64]).await, Ok(count) if count > 0) {
            main.interrupt();
        }
    });
    Ok(Some(write))
}
