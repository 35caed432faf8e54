use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use procession_actor::WeakProc;
use procession_launch::ProcLauncherError;
use procession_launch_local::LaunchFailure;
use procession_launch_local::supervised::{Sink, Stream, Supervised as Process, SupervisedSpec};
use procession_model::{Head, InvalidArgument, LOG_STDERR_TAG, LOG_STDOUT_TAG, Packet, PortId};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::core::current;
use crate::errors::value_error;
use crate::fork::{Owned, refuse_in_fork};
use crate::time::duration;
use crate::waiter::{Once, Outcome, Waiter};

/// A process of this process, watched to its end.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Supervised {
    process: Owned<Process>,
    exit: Owned<Arc<Once>>,
}

#[pymethods]
impl Supervised {
    #[getter]
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn wait(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        Ok(Waiter::once(Arc::clone(&self.exit)))
    }

    fn terminate(&self, timeout: f64) -> PyResult<Waiter> {
        let timeout = duration("timeout", timeout)?;
        let process = (*self.process).clone();
        Ok(Waiter::once(current()?.run(async move { asked(process.terminate(timeout).await) })))
    }

    fn kill(&self) -> PyResult<Waiter> {
        let process = (*self.process).clone();
        Ok(Waiter::once(current()?.run(async move { asked(process.kill().await) })))
    }

    fn __repr__(&self) -> String {
        format!("Supervised(pid={})", self.process.pid())
    }
}

fn asked(result: Result<(), ProcLauncherError>) -> Outcome {
    result.map_err(|error| error.to_string()).into()
}

/// Sends what it is shown to the log channel `port`.
fn log_sink(proc_: WeakProc, port: PortId) -> Sink {
    Box::new(move |stream, bytes| {
        let tag = match stream {
            Stream::Stdout => LOG_STDOUT_TAG,
            Stream::Stderr => LOG_STDERR_TAG,
        };
        if let Some(proc_) = proc_.upgrade() {
            let head = Head::Send { port: port.clone(), tag: tag.to_owned(), ports: Vec::new() };
            // When the host is gone nobody reads the output any more.
            let _unread = proc_.post(Packet { head, parts: vec![Bytes::copy_from_slice(bytes)] });
        }
    })
}

/// `ValueError` for an argument that is refused on every machine; else `OSError`, with the kernel's number for it.
fn start_error(error: ProcLauncherError) -> PyErr {
    let ProcLauncherError::Launch(source) = error else { return PyOSError::new_err(error.to_string()) };
    let inner = source.get_ref();
    if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<InvalidArgument>()) {
        return value_error(refused);
    }
    let failure = inner.and_then(|inner| inner.downcast_ref::<LaunchFailure>());
    match failure.map(LaunchFailure::errno).or(source.raw_os_error()) {
        // Python shows the number, and so the text need not.
        Some(errno) => {
            let text = failure.map_or_else(|| source.to_string(), |failure| failure.text().to_owned());
            PyOSError::new_err((errno, text))
        }
        None => PyOSError::new_err(source.to_string()),
    }
}

/// What became of a start; none when it was taken, or when nobody wants it any more.
enum Start {
    UnderWay,
    Over(Option<Result<Process, ProcLauncherError>>),
}

/// A process of this process that is being started; when it is dropped before it was taken, the process is killed.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Starting {
    slot: Owned<Arc<Mutex<Start>>>,
    done: Owned<Arc<Once>>,
}

#[pymethods]
impl Starting {
    /// Done when it was started, or cannot be.
    fn wait(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        Ok(Waiter::once(Arc::clone(&self.done)))
    }

    /// The process, once.
    fn take(&self) -> PyResult<Supervised> {
        refuse_in_fork()?;
        let core = current()?;
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Start::Over(result) = &mut *slot else {
            return Err(PyRuntimeError::new_err("the process is not started yet; wait for that first"));
        };
        let taken = || PyRuntimeError::new_err("the process was taken before; keep what you got then");
        let process = result.take().ok_or_else(taken)?.map_err(start_error)?;
        let watched = process.clone();
        let exit = core.run(async move { Outcome::Supervised(Arc::new(watched.wait().await)) });
        Ok(Supervised { process: Owned::new(process), exit: Owned::new(exit) })
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // A fork must leave it alone, and its lock may be taken there for ever.
        if refuse_in_fork().is_err() {
            return;
        }
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Start::Over(Some(Ok(process))) = std::mem::replace(&mut *slot, Start::Over(None))
            && let Ok(core) = current()
        {
            let _nobody_waits = core.run(async move { asked(process.kill().await) });
        }
    }
}

/// Starts a process of this process: a session of its own, its output read in bounded memory, its tree killed when it
/// ends.
#[pyfunction]
#[pyo3(signature = (argv, arg0, env, cwd, tail_lines, log_channel))]
pub(crate) fn supervise(
    argv: Vec<OsString>,
    arg0: Option<String>,
    env: HashMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    tail_lines: usize,
    log_channel: Option<&str>,
) -> PyResult<Starting> {
    let core = current()?;
    let mut argv = argv.into_iter();
    let program =
        argv.next().ok_or_else(|| PyValueError::new_err("argv = []: it starts with the program"))?;
    let args = argv.enumerate().map(|(index, arg)| {
        arg.into_string().map_err(|arg| {
            PyValueError::new_err(format!("argv[{}] = {arg:?}: arguments have to be valid UTF-8", index + 1))
        })
    });
    let port = log_channel.map(str::parse).transpose().map_err(value_error)?;
    let spec = SupervisedSpec {
        program: program.into(),
        arg0,
        args: args.collect::<PyResult<_>>()?,
        env: env.into_iter().collect(),
        cwd,
        tail_lines,
        sink: port.map(|port| log_sink(core.proc_.downgrade(), port)),
    };
    let slot = Arc::new(Mutex::new(Start::UnderWay));
    let place = Arc::clone(&slot);
    // It is watched where it is started, and everything is watched on the io thread.
    let done = core.run(async move {
        let result = Process::spawn(spec).await;
        let unwanted = {
            let mut slot = place.lock().unwrap_or_else(PoisonError::into_inner);
            match *slot {
                Start::UnderWay => {
                    *slot = Start::Over(Some(result));
                    None
                }
                Start::Over(_) => result.ok(),
            }
        };
        match unwanted {
            Some(process) => asked(process.kill().await),
            None => Outcome::Nothing,
        }
    });
    Ok(Starting { slot: Owned::new(slot), done: Owned::new(done) })
}
