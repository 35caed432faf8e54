use std::io::{self, PipeWriter};
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::io::ioctl_fionbio;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;

use crate::parker::{Parker, parker};

/// Where Python's own handler, in C, writes a byte for each signal.
static SIGNALLED: OnceLock<PipeWriter> = OnceLock::new();
/// The main thread, once it has waited for long.
static MAIN: OnceLock<Arc<Parker>> = OnceLock::new();

/// From now on what is written to the pipe interrupts the main thread; `runtime` is this process's own.
///
/// # Errors
/// The process has no descriptor left.
pub(crate) fn listen(runtime: &Handle) -> io::Result<()> {
    let (read, write) = io::pipe()?;
    ioctl_fionbio(&write, true)?;
    runtime.spawn(async move {
        let Ok(mut read) = Receiver::from_owned_fd(read.into()) else { return };
        while matches!(read.read(&mut [0; 64]).await, Ok(count) if count > 0) {
            MAIN.get().inspect(|main| main.interrupt());
        }
    });
    let _first = SIGNALLED.set(write);
    Ok(())
}

/// While Python has this, a signal interrupts what its main thread waits for.
pub(crate) struct Interrupts {
    before: i32,
}

impl Interrupts {
    /// On the main thread; none where somebody else is told of signals, or the runtime is not this process's own.
    pub(crate) fn begin(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(own) = SIGNALLED.get().map(AsRawFd::as_raw_fd) else { return Ok(None) };
        MAIN.get_or_init(parker);
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
    // That of `signal`, which some processes cannot import any more: they have become another user.
    let signal = py.import(intern!(py, "_signal"))?;
    signal.call_method(intern!(py, "set_wakeup_fd"), (fd,), Some(&quietly))?.extract()
}
