use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use procession_net::PrivateBytes;
use pyo3::prelude::*;
use pyo3::sync::OnceLockExt;
use pyo3::types::PyDict;

/// Views that Python may still look at.
static LIVE: Mutex<Vec<Weak<PrivateBytes>>> = Mutex::new(Vec::new());
static HOOKED: OnceLock<PyResult<()>> = OnceLock::new();

fn live() -> MutexGuard<'static, Vec<Weak<PrivateBytes>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes sure that a forked child of this process may go on looking at `view`.
///
/// # Errors
/// What `os.register_at_fork` raises.
pub(crate) fn watched(py: Python<'_>, view: PrivateBytes) -> PyResult<Arc<PrivateBytes>> {
    if let Err(error) = HOOKED.get_or_init_py_attached(py, || hook(py)) {
        return Err(error.clone_ref(py));
    }
    let view = Arc::new(view);
    let mut live = live();
    if live.len() == live.capacity() {
        live.retain(|view| view.strong_count() > 0);
    }
    live.push(Arc::downgrade(&view));
    Ok(view)
}

fn hook(py: Python<'_>) -> PyResult<()> {
    let arguments = PyDict::new(py);
    arguments.set_item("before", wrap_pyfunction!(detach_views, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&arguments)).map(drop)
}

/// What is received in shared memory is the sender's to write over once this process has dropped it, and a child that it forks
/// may look at it longer: so before that it becomes this process's own.
#[pyfunction]
fn detach_views(py: Python<'_>) {
    let views: Vec<_> = live().iter().filter_map(Weak::upgrade).collect();
    py.detach(|| views.iter().for_each(|view| view.detach()));
}
