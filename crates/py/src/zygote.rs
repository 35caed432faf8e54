use std::path::PathBuf;
use std::sync::Arc;

use procession_host::{Pool as Warm, SpawnSpec, Zygote as Launching};
use procession_launch::ProcLauncher;
use procession_model::BootstrapCommand;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::blocking::block_on;
use crate::core::current;
use crate::errors::{invalid_argument, value_error};
use crate::fork::{Owned, refuse_in_fork};
use crate::procs::Launcher;
use crate::waiter::{IS_SETTLED, Outcome, Waiter};

/// One process that a launcher starts, and what that launches.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Zygote(Owned<Arc<Launching>>);

#[pymethods]
impl Zygote {
    /// Starts nothing yet; closes with `owner`, a proc of this host.
    #[new]
    #[pyo3(signature = (name, program, args, through, owner))]
    fn new(
        name: String,
        program: PathBuf,
        args: Vec<String>,
        through: PyRef<'_, Launcher>,
        owner: Option<&str>,
    ) -> PyResult<Self> {
        let host = current()?.host()?;
        let spec = spec(name, program, args);
        let made = Launching::new(host, spec, Arc::clone(&through.0)).map_err(invalid_argument)?;
        if let Some(owner) = owner {
            made.close_with(&owner.parse().map_err(value_error)?);
        }
        Ok(Self(Owned::new(made)))
    }

    /// The next process is launched through that.
    fn launch_through(&self, launcher: PyRef<'_, Launcher>) {
        self.0.launch_through(Arc::clone(&launcher.0));
    }

    fn launcher(&self) -> Launcher {
        let launcher: Arc<Launching> = Arc::clone(&self.0);
        let launcher: Arc<dyn ProcLauncher> = launcher;
        Launcher::new(launcher)
    }

    /// Has the process end once nothing runs that it has launched.
    fn close(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        let zygote = Arc::clone(&self.0);
        let closed = async move {
            zygote.close().await;
            Outcome::Nothing
        };
        Ok(Waiter::once(current()?.run(closed)))
    }

    fn __repr__(&self) -> String {
        format!("Zygote({})", self.0.name())
    }
}

fn spec(name: String, program: PathBuf, args: Vec<String>) -> SpawnSpec {
    let mut command = BootstrapCommand::new(program);
    // An interpreter finds the virtual environment that it belongs to by the path in its argv[0].
    command.arg0 = command.program.to_str().map(ToOwned::to_owned);
    command.args = args;
    SpawnSpec::new(name, command)
}

/// Processes that a launcher keeps warm, and what is launched in them.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Pool(Owned<Arc<Warm>>);

#[pymethods]
impl Pool {
    /// Starts them; closes with `owner`, a proc of this host.
    #[new]
    #[pyo3(signature = (name, program, args, through, owner, size))]
    fn new(
        name: String,
        program: PathBuf,
        args: Vec<String>,
        through: PyRef<'_, Launcher>,
        owner: Option<&str>,
        size: usize,
    ) -> PyResult<Self> {
        let core = current()?;
        let _runtime = core.handle.enter();
        let spec = spec(name, program, args);
        let made = Warm::new(core.host()?, spec, Arc::clone(&through.0), size).map_err(invalid_argument)?;
        if let Some(owner) = owner {
            made.close_with(&owner.parse().map_err(value_error)?);
        }
        Ok(Self(Owned::new(made)))
    }

    /// The next processes are launched through that.
    fn launch_through(&self, launcher: PyRef<'_, Launcher>) {
        self.0.launch_through(Arc::clone(&launcher.0));
    }

    fn launcher(&self) -> Launcher {
        let launcher: Arc<Warm> = Arc::clone(&self.0);
        Launcher::new(launcher)
    }

    /// Done when all that are to be warm are up.
    fn warm(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        let pool = Arc::clone(&self.0);
        let warm = async move {
            match pool.warm().await {
                Ok(()) => Outcome::Nothing,
                Err(error) => Outcome::Failed(error.to_string()),
            }
        };
        Ok(Waiter::once(current()?.run(warm)))
    }

    /// Ends what is warm.
    fn close(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        let pool = Arc::clone(&self.0);
        let closed = async move {
            pool.close().await;
            Outcome::Nothing
        };
        Ok(Waiter::once(current()?.run(closed)))
    }
}

/// Launches for the host from now on, as its zygote; `interpreter` is what runs Python here.
#[pyfunction]
pub(crate) fn serve_launches(py: Python<'_>, interpreter: String) -> PyResult<()> {
    let core = current()?;
    let child = Arc::clone(core.child()?);
    let opened = core.run(async move { child.serve_launches(Some(interpreter)).await.into() });
    block_on(py, None, |until| opened.wait(IS_SETTLED, until).then_some(()))?;
    match opened.peek(|slot| slot.clone()) {
        Some(Outcome::Failed(why)) => Err(PyRuntimeError::new_err(why)),
        _ => Ok(()),
    }
}
