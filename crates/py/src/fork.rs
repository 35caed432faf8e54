use std::io;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_launch_local::fork_beside as fork_process_beside;
use procession_sys::{forget_fork, watch_forks};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Whether this process, or the one that it was forked from, has a runtime.
static OWNS: AtomicBool = AtomicBool::new(false);

/// This process has a runtime from now on, or none any more.
///
/// # Errors
/// There is no memory to have forks noticed.
pub(crate) fn set_owner(owns: bool) -> io::Result<()> {
    watch_forks()?;
    if owns {
        // Of one that had none.
        forget_fork();
    }
    OWNS.store(owns, Ordering::Release);
    Ok(())
}

fn is_forked() -> bool {
    procession_sys::is_forked() && OWNS.load(Ordering::Acquire)
}

/// Refuses to go on in a forked child: the runtime's threads exist only in its parent, and their locks may be taken.
///
/// # Errors
/// `RuntimeError`, with what to do instead.
pub(crate) fn refuse_in_fork() -> PyResult<()> {
    if is_forked() {
        return Err(PyRuntimeError::new_err(
            "ForkedRuntime: this process was forked from one that has a Procession runtime; start procs with spawn_procs, or call os.exec",
        ));
    }
    Ok(())
}

/// A fork of this process that falls to its parent, in the control group whose directory is open under `group`; see
/// [`fork_process_beside`]. The interpreter's own hooks are the caller's business.
#[pyfunction]
#[pyo3(signature = (group))]
pub(crate) fn fork_beside(group: Option<RawFd>) -> PyResult<Option<u32>> {
    Ok(fork_process_beside(group)?)
}

/// Part of a runtime, behind a Python object. A forked child forgets it instead of dropping it: what dropping tells
/// the runtime would be told by the wrong process, under locks that nobody may ever release.
pub(crate) struct Owned<T>(Option<T>);

impl<T> Owned<T> {
    pub(crate) fn new(part: T) -> Self {
        Self(Some(part))
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only drop empties it")
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if is_forked() {
            std::mem::forget(self.0.take());
        }
    }
}
