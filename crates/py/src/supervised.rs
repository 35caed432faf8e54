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

use crate::blocking::block_on;
use crate::core::current;
use crate::errors::value_error;
use crate::fork::{Owned, refuse_in_fork};
use crate::time::duration;
use crate::waiter::{IS_SETTLED, Once, Outcome, Waiter};

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

/// What became of a start; none when nobody wants it any more.
enum Start {
    UnderWay,
    Over(Option<Result<Process, ProcLauncherError>>),
}

/// A start that somebody waits for; when that ends before it was taken, what it started is killed.
struct Awaited(Arc<Mutex<Start>>);

impl Awaited {
    /// Leaves the start to nobody; gives what became of it so far.
    fn take(&self) -> Option<Result<Process, ProcLauncherError>> {
        let mut start = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *start, Start::Over(None)) {
            Start::Over(result) => result,
            Start::UnderWay => None,
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(Ok(process)) = self.take()
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
    py: Python<'_>,
    argv: Vec<OsString>,
    arg0: Option<String>,
    env: HashMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    tail_lines: usize,
    log_channel: Option<&str>,
) -> PyResult<Supervised> {
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
    let start = Arc::new(Mutex::new(Start::UnderWay));
    let awaited = Awaited(Arc::clone(&start));
    // It is watched where it is started, and everything is watched on the io thread.
    let done = core.run(async move {
        let result = Process::spawn(spec).await;
        let unwanted = {
            let mut start = start.lock().unwrap_or_else(PoisonError::into_inner);
            match *start {
                Start::UnderWay => {
                    *start = Start::Over(Some(result));
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
    // A launcher that is told of the launch and of its end finds the process as soon as it looks for it: so this
    // blocks its thread, for as long as the file system takes.
    block_on(py, None, |deadline| done.wait(IS_SETTLED, deadline).then_some(()))?;
    let gone =
        || PyRuntimeError::new_err("the Procession runtime was shut down before the program was started");
    let process = awaited.take().ok_or_else(gone)?.map_err(start_error)?;
    let watched = process.clone();
    let exit = core.run(async move { Outcome::Supervised(Arc::new(watched.wait().await)) });
    Ok(Supervised { process: Owned::new(process), exit: Owned::new(exit) })
}
