use std::sync::Arc;

use procession_launch::{Engine as AnyEngine, ProcLauncher};
use pyo3::prelude::*;

use crate::blocking::wait_for;
use crate::core::current;
use crate::engine_kinds::{Refusal, connect};
use crate::errors::{LAUNCHER_UNAVAILABLE, failure, invalid_argument};
use crate::fork::Owned;
use crate::procs::Launcher;
use crate::waiter::{Outcome, Waiter};

/// A substrate that procs can be launched on.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Engine(Owned<Arc<dyn AnyEngine>>);

#[pymethods]
impl Engine {
    fn launcher(&self) -> Launcher {
        let launcher: Arc<dyn ProcLauncher> = Arc::<dyn AnyEngine>::clone(&self.0);
        Launcher::new(launcher)
    }

    /// What runs Python where its procs live, where that is known.
    fn interpreter(&self) -> Option<String> {
        self.0.interpreter()
    }

    /// Its name and version; fails where it does not answer.
    fn probe(&self) -> PyResult<Waiter> {
        let engine = Arc::clone(&self.0);
        let asked = async move {
            match engine.probe().await {
                Ok(text) => Outcome::Text(text),
                Err(error) => Outcome::Failed(format!("{LAUNCHER_UNAVAILABLE}: {error}")),
            }
        };
        Ok(Waiter::once(current()?.run(asked)))
    }

    /// All that there is of procession there: tuples of the handle, whether it runs, whether its owner is gone or None, and the labels.
    fn list(&self) -> PyResult<Waiter> {
        let engine = Arc::clone(&self.0);
        let asked = async move {
            match engine.list().await {
                Ok(found) => Outcome::Found(found),
                Err(error) => Outcome::Failed(format!("{LAUNCHER_UNAVAILABLE}: {error}")),
            }
        };
        Ok(Waiter::once(current()?.run(asked)))
    }

    /// Ends what `list` has found, and takes away what is left of it.
    fn remove(&self, handle: String) -> PyResult<Waiter> {
        let engine = Arc::clone(&self.0);
        let asked = async move {
            match engine.remove(&handle).await {
                Ok(()) => Outcome::Nothing,
                Err(error) => Outcome::Failed(format!("{LAUNCHER_UNAVAILABLE}: {error}")),
            }
        };
        Ok(Waiter::once(current()?.run(asked)))
    }

    /// Closes its connection, where what it has launched lives no longer than that.
    fn close(&self) -> PyResult<Waiter> {
        let engine = Arc::clone(&self.0);
        let closed = async move {
            engine.close().await;
            Outcome::Nothing
        };
        Ok(Waiter::once(current()?.run(closed)))
    }

    fn __repr__(&self) -> String {
        format!("Engine({})", self.0.name())
    }
}

/// Reaches the engine of that kind, as `config` says, which is JSON.
#[pyfunction]
pub(crate) fn connect_engine(py: Python<'_>, kind: String, config: String) -> PyResult<Engine> {
    let core = current()?;
    let found = wait_for(py, &core.handle, async move { connect(&kind, &config).await })?;
    match found {
        Ok(engine) => Ok(Engine(Owned::new(engine))),
        Err(Refusal::Invalid(error)) => Err(invalid_argument(error)),
        Err(Refusal::Unavailable(why)) => Err(failure(py, format!("{LAUNCHER_UNAVAILABLE}: {why}"))),
    }
}

/// Which of its features this build has.
#[pyfunction]
pub(crate) fn features() -> Vec<&'static str> {
    vec![
        #[cfg(feature = "command")]
        "command",
        #[cfg(feature = "docker")]
        "docker",
        #[cfg(feature = "kubernetes")]
        "kubernetes",
        #[cfg(feature = "ssh")]
        "ssh",
        #[cfg(feature = "systemd")]
        "systemd",
        #[cfg(feature = "slurm")]
        "slurm",
        #[cfg(feature = "vm")]
        "vm",
        #[cfg(feature = "conformance")]
        "conformance",
    ]
}
