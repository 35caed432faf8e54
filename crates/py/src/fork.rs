use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_launch_local as native;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The process that has a runtime; 0 while there is none.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// This process has a runtime from now on, or none any more.
pub(crate) fn set_owner(owns: bool) {
    OWNER.store(if owns { std::process::id() } else { 0 }, Ordering::Release);
}

fn is_forked() -> bool {
    let owner = OWNER.load(Ordering::Acquire);
    owner != 0 && owner != std::process::id()
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
/// [`native::fork_beside`]. The interpreter's own hooks are the caller's business.
#[pyfunction]
#[pyo3(signature = (group))]
pub(crate) fn fork_beside(group: Option<RawFd>) -> PyResult<Option<u32>> {
    Ok(native::fork_beside(group)?)
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
