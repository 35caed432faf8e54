use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use procession_host::{WorkerDial, WorkerError, WorkerLauncher, WorkerServer as Server};
use procession_launch::ProcLauncher;
use procession_model::InvalidArgument;
use procession_net::{KeyError, SessionKey as Key};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use crate::blocking::{block_on, wait_for};
use crate::core::{current, no_thread};
use crate::engine_kinds::Kinds;
use crate::errors::{LAUNCHER_UNAVAILABLE, invalid_argument};
use crate::fork::{Owned, refuse_in_fork};
use crate::io_thread::IoThread;
use crate::procs::Launcher;
use crate::time::{deadline, duration};
use crate::trace;
use crate::waiter::{IS_SETTLED, Once, Outcome, Promise, Waiter};

/// For the thread of a server to end when nothing is left of what it launched.
const END_GRACE: Duration = Duration::from_secs(2);

/// What machines share whose ends trust each other.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct SessionKey(Key);

fn refused(field: &str, given: &str, error: &KeyError) -> PyErr {
    invalid_argument(InvalidArgument::new(field, given.to_owned(), error.to_string()))
}

#[pymethods]
impl SessionKey {
    /// A new one.
    #[staticmethod]
    fn random() -> Self {
        Self(Key::random())
    }

    /// 32 bytes, or 64 hex digits.
    #[staticmethod]
    fn from_bytes(field: &str, bytes: &[u8]) -> PyResult<Self> {
        if let Ok(bytes) = bytes.try_into() {
            return Ok(Self(Key::from_bytes(bytes)));
        }
        let given = format!("{} bytes", bytes.len());
        Key::from_text(bytes, "this").map(Self).map_err(|error| refused(field, &given, &error))
    }

    #[staticmethod]
    fn read(field: &str, path: PathBuf) -> PyResult<Self> {
        Key::read(&path).map(Self).map_err(|error| refused(field, &format!("{path:?}"), &error))
    }

    #[staticmethod]
    fn from_environment(field: &str) -> PyResult<Self> {
        Key::from_environment().map(Self).map_err(|error| refused(field, "None", &error))
    }

    fn write(&self, path: PathBuf) -> PyResult<()> {
        self.0.write(&path).map_err(|error| refused("file", &format!("{path:?}"), &error))
    }

    /// For whoever keeps it.
    fn text(&self) -> String {
        self.0.text()
    }

    fn __repr__(&self) -> &'static str {
        "SessionKey(…)"
    }
}

/// This machine, as long as it is served.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct WorkerServer {
    server: Mutex<Option<Server>>,
    address: String,
    asked: Arc<Once>,
    handle: Handle,
    io: IoThread,
}

/// Serves this machine, on a thread of its own.
#[pyfunction]
pub(crate) fn serve_worker(
    py: Python<'_>,
    address: String,
    key: &SessionKey,
    lease: f64,
    until_asked: bool,
    interpreter: Option<String>,
) -> PyResult<WorkerServer> {
    refuse_in_fork()?;
    trace::start();
    let (lease, key, bind) = (duration("lease", lease)?, key.0.clone(), address.clone());
    let started = || {
        IoThread::start(
            move || async move { Server::listen(&bind, &key, lease, until_asked, interpreter).await },
        )
    };
    let (server, handle, io) = py.detach(started).map_err(no_thread)?.map_err(|error| match error {
        WorkerError::Address(error) => {
            let rule = format!("{error}; give host:port");
            invalid_argument(InvalidArgument::new("address", format!("{address:?}"), rule))
        }
        error => PyRuntimeError::new_err(error.to_string()),
    })?;
    let (promise, asked) = Promise::new();
    let asked_to_end = server.asked_to_end();
    handle.spawn(async move {
        asked_to_end.await;
        promise.fulfil(Outcome::Nothing);
    });
    let address = server.address();
    Ok(WorkerServer { server: Mutex::new(Some(server)), address, asked, handle, io })
}

#[pymethods]
impl WorkerServer {
    /// With the port that was bound.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// Waits until a client has asked for the end, or it has ended; false at the timeout.
    #[pyo3(signature = (timeout))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = deadline(timeout)?;
        let asked = block_on(py, deadline, |until| self.asked.wait(IS_SETTLED, until).then_some(()))?;
        Ok(asked.is_some())
    }

    /// Done when a client has asked for the end, or it has ended.
    fn asked(&self) -> Waiter {
        Waiter::once(Arc::clone(&self.asked))
    }

    /// Kills all that was launched, and returns when nothing of it is left.
    fn stop(&self, py: Python<'_>) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| {
            if let Some(server) = server {
                let (ended_tx, ended) = mpsc::channel();
                self.handle.spawn(async move {
                    server.shutdown().await;
                    let _nobody_waits = ended_tx.send(());
                });
                // That it was dropped means that the thread has ended.
                let _gone = ended.recv();
            }
            self.io.stop();
            if !self.io.join(Instant::now().checked_add(END_GRACE)) {
                tracing::warn!("the thread of the worker is still busy; it is not waited for");
            }
        });
    }

    fn __repr__(&self) -> String {
        format!("WorkerServer({})", self.address)
    }
}

/// A machine that is served elsewhere, connected.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Worker(Owned<Arc<WorkerLauncher>>);

#[pymethods]
impl Worker {
    #[getter]
    fn address(&self) -> String {
        self.0.address()
    }

    /// What runs Python there, if it says so.
    #[getter]
    fn interpreter(&self) -> Option<String> {
        self.0.interpreter()
    }

    fn launcher(&self) -> Launcher {
        let launcher: Arc<WorkerLauncher> = Arc::clone(&self.0);
        let launcher: Arc<dyn ProcLauncher> = launcher;
        Launcher::new(launcher)
    }

    /// Closes the connection, at which all ends that was launched over it.
    fn close(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        let launcher = Arc::clone(&self.0);
        let closed = async move {
            launcher.close().await;
            Outcome::Nothing
        };
        Ok(Waiter::once(current()?.run(closed)))
    }

    /// Asks it to end.
    fn shut_down(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        let launcher = Arc::clone(&self.0);
        let ended = async move { launcher.shut_worker_down().await.map_err(unavailable).into() };
        Ok(Waiter::once(current()?.run(ended)))
    }

    fn __repr__(&self) -> String {
        format!("Worker({})", self.0.address())
    }
}

/// Those that this process has connected to.
static CONNECTED: Mutex<Vec<Weak<WorkerLauncher>>> = Mutex::new(Vec::new());

fn connected() -> MutexGuard<'static, Vec<Weak<WorkerLauncher>>> {
    CONNECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves all workers: else they would wait for this client to come back.
pub(crate) async fn leave_all() {
    let all = std::mem::take(&mut *connected());
    let mut leaving: JoinSet<()> =
        all.iter().filter_map(Weak::upgrade).map(|launcher| async move { launcher.close().await }).collect();
    while leaving.join_next().await.is_some() {}
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unavailable(error: WorkerError) -> String {
    format!("{LAUNCHER_UNAVAILABLE}: {error}")
}

/// Launches procs for whoever is at the other end of stdin and stdout, until that ends; gives why it did.
#[pyfunction]
pub(crate) fn serve_stdio(py: Python<'_>, interpreter: Option<String>, lease: f64) -> PyResult<String> {
    refuse_in_fork()?;
    trace::start();
    let lease = duration("lease", lease)?;
    let served = || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(procession_host::serve_stdio(interpreter, lease, Some(Arc::new(Kinds))))
    };
    py.detach(served).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Dials all of them at the same time; of each the connection, or why there is none.
#[pyfunction]
pub(crate) fn connect_workers(
    py: Python<'_>,
    addresses: Vec<String>,
    key: &SessionKey,
    within: f64,
    lease: f64,
    bind: Option<String>,
    advertise: Option<String>,
) -> PyResult<Vec<Py<PyAny>>> {
    let core = current()?;
    core.host()?;
    let how = WorkerDial {
        within: duration("timeout", within)?,
        lease: duration("lease", lease)?,
        bind,
        advertise,
    };
    let (count, key) = (addresses.len(), key.0.clone());
    let dialling = async move {
        let mut dialling: JoinSet<_> = addresses
            .into_iter()
            .enumerate()
            .map(|(at, address)| {
                let (key, how) = (key.clone(), how.clone());
                async move { (at, WorkerLauncher::connect(&address, &key, how).await) }
            })
            .collect();
        let mut all: Vec<_> = (0..count).map(|_| None).collect();
        while let Some(dialled) = dialling.join_next().await {
            if let Ok((at, dialled)) = dialled {
                all[at] = Some(dialled);
            }
        }
        all
    };
    // Where nobody waits any more that lets go of the connections.
    let all = wait_for(py, &core.handle, dialling)?;
    all.into_iter()
        .map(|one| match one {
            Some(Ok(launcher)) => {
                connected().push(Arc::downgrade(&launcher));
                Ok(Py::new(py, Worker(Owned::new(launcher)))?.into_any())
            }
            Some(Err(error)) => Ok(error.to_string().into_pyobject(py)?.into_any().unbind()),
            None => Ok("dialling it has failed; the log says where".into_pyobject(py)?.into_any().unbind()),
        })
        .collect()
}
