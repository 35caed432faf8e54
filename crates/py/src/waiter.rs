use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use procession_launch::Found;
use procession_model::{ProcExit, ProcExitResult};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use tokio::task::AbortHandle;

use crate::blocking::block_on;
use crate::completions::Completions;
use crate::errors::failure;
use crate::exit_dict::{exit_dict, supervised_tuple};
use crate::fork::{Owned, refuse_in_fork};
use crate::monitor::{Due, Monitor};
use crate::time::deadline;

/// What something that was waited for came to.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Nothing,
    Text(String),
    Bytes(Bytes),
    Exit(Arc<ProcExit>),
    Supervised(Arc<ProcExitResult>),
    Found(Vec<Found>),
    Failed(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Nothing)
    }
}

impl Outcome {
    /// As Python sees it.
    ///
    /// # Errors
    /// `RuntimeError` with the text of the failure, or the error of the package that its code names.
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Nothing => Ok(py.None()),
            Self::Text(text) => Ok(PyString::new(py, &text).into_any().unbind()),
            Self::Bytes(bytes) => Ok(PyBytes::new(py, &bytes).into_any().unbind()),
            Self::Exit(exit) => Ok(exit_dict(py, &exit)?.into_any().unbind()),
            Self::Supervised(result) => supervised_tuple(py, &result),
            Self::Found(found) => {
                let tuple = |one: Found| {
                    let labels: HashMap<_, _> = one.labels.pairs().into_iter().collect();
                    (one.handle, one.running, one.labels.is_left_over(), labels).into_py_any(py)
                };
                let all: Vec<_> = found.into_iter().map(tuple).collect::<PyResult<_>>()?;
                all.into_py_any(py)
            }
            Self::Failed(text) => Err(failure(py, text)),
        }
    }
}

/// A place for one outcome.
pub(crate) type Once = Monitor<Option<Outcome>>;

pub(crate) const IS_SETTLED: Due<Option<Outcome>> = (|outcome, _| outcome.is_some(), 0);

/// The duty to give an outcome: when it is dropped unfulfilled, the runtime is gone, and whoever waits learns that.
pub(crate) struct Promise(Arc<Once>);

impl Promise {
    pub(crate) fn new() -> (Self, Arc<Once>) {
        let once = Arc::new(Once::new(None));
        (Self(Arc::clone(&once)), once)
    }

    /// Gives the outcome; only the first one counts.
    pub(crate) fn fulfil(self, outcome: Outcome) {
        self.0.update(|slot| {
            slot.get_or_insert(outcome);
        });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.0.is(IS_SETTLED) {
            let gone = "the Procession runtime was shut down before this was done".to_owned();
            self.0.update(|slot| {
                slot.get_or_insert(Outcome::Failed(gone));
            });
        }
    }
}

/// What a [`Waiter`] waits for.
trait Awaited: Send + Sync {
    fn is_done(&self) -> bool;
    fn wait(&self, deadline: Option<Instant>) -> bool;
    fn notify(&self, queue: Arc<Completions>, token: i64) -> Option<u64>;
    fn forget(&self, notification: u64);
    /// None: it is not done.
    fn outcome(&self) -> Option<Outcome>;
}

struct On<S> {
    monitor: Arc<Monitor<S>>,
    due: Due<S>,
    outcome: fn(&S) -> Option<Outcome>,
}

impl<S: Send> Awaited for On<S> {
    fn is_done(&self) -> bool {
        self.monitor.is(self.due)
    }

    fn wait(&self, deadline: Option<Instant>) -> bool {
        self.monitor.wait(self.due, deadline)
    }

    fn notify(&self, queue: Arc<Completions>, token: i64) -> Option<u64> {
        self.monitor.notify(self.due, queue, token)
    }

    fn forget(&self, notification: u64) {
        self.monitor.forget(notification);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.monitor.peek(|state| (self.outcome)(state))
    }
}

struct OfTask {
    on: On<Option<Outcome>>,
    task: AbortHandle,
}

impl Awaited for OfTask {
    fn is_done(&self) -> bool {
        self.on.is_done()
    }

    fn wait(&self, deadline: Option<Instant>) -> bool {
        self.on.wait(deadline)
    }

    fn notify(&self, queue: Arc<Completions>, token: i64) -> Option<u64> {
        self.on.notify(queue, token)
    }

    fn forget(&self, notification: u64) {
        self.on.forget(notification);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.on.outcome()
    }
}

impl Drop for OfTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Something that will be done once, and can be waited for from any thread or event loop.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Waiter(Owned<Box<dyn Awaited>>);

impl Waiter {
    /// Waits for a condition, which may pass again; the result is None.
    pub(crate) fn on<S: Send + 'static>(monitor: &Arc<Monitor<S>>, due: Due<S>) -> Self {
        let monitor = Arc::clone(monitor);
        Self(Owned::new(Box::new(On { monitor, due, outcome: |_| Some(Outcome::Nothing) })))
    }

    /// Waits for an outcome.
    pub(crate) fn once(monitor: Arc<Once>) -> Self {
        Self(Owned::new(Box::new(On { monitor, due: IS_SETTLED, outcome: Option::clone })))
    }

    /// Waits for the outcome of a task that is of no use to anybody else: it ends with this.
    pub(crate) fn of_task((once, task): (Arc<Once>, AbortHandle)) -> Self {
        let on = On { monitor: once, due: IS_SETTLED, outcome: Option::clone };
        Self(Owned::new(Box::new(OfTask { on, task })))
    }

    /// An outcome that is there already.
    pub(crate) fn settled(outcome: Outcome) -> Self {
        Self::once(Arc::new(Once::new(Some(outcome))))
    }
}

#[pymethods]
impl Waiter {
    fn done(&self) -> PyResult<bool> {
        refuse_in_fork()?;
        Ok(self.0.is_done())
    }

    #[pyo3(signature = (timeout))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        refuse_in_fork()?;
        let deadline = deadline(timeout)?;
        let wait = |until| self.0.wait(until).then_some(());
        Ok(self.0.is_done() || block_on(py, deadline, wait)?.is_some())
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        refuse_in_fork()?;
        let not_done = || PyRuntimeError::new_err("this is not done yet; wait for it first");
        self.0.outcome().ok_or_else(not_done)?.into_python(py)
    }

    fn notify(&self, queue: &CompletionQueue, token: i64) -> PyResult<Option<u64>> {
        refuse_in_fork()?;
        Ok(self.0.notify(Arc::clone(&queue.0), token))
    }

    fn forget(&self, notification: u64) -> PyResult<()> {
        refuse_in_fork()?;
        self.0.forget(notification);
        Ok(())
    }
}

/// Carries completions into an event loop.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct CompletionQueue(Owned<Arc<Completions>>);

#[pymethods]
impl CompletionQueue {
    #[new]
    fn new() -> PyResult<Self> {
        let queue = Completions::new()?;
        Ok(Self(Owned::new(Arc::new(queue))))
    }

    fn fileno(&self) -> PyResult<RawFd> {
        refuse_in_fork()?;
        Ok(self.0.fd())
    }

    fn drain(&self) -> PyResult<Vec<i64>> {
        refuse_in_fork()?;
        Ok(self.0.drain())
    }
}
