use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use procession_actor::{Proc, WeakProc};
use procession_launch::ProcLauncherError;
use procession_launch_local::LaunchFailure;
use procession_launch_local::supervised::{Hold, Sink, Stream, Supervised as Process, SupervisedSpec};
use procession_model::{Head, InvalidArgument, LOG_STDERR_TAG, LOG_STDOUT_TAG, Packet, PortId};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::blocking::block_on;
use crate::confinement::GivenConfinement;
use crate::core::current;
use crate::errors::{invalid_argument, value_error};
use crate::fork::{Owned, refuse_in_fork};
use crate::time::duration;
use crate::waiter::{IS_SETTLED, Once, Outcome, Waiter};

/// Output of one program that may be under way to the host, in bytes; and how much of it gets one receipt.
const UNDER_WAY: usize = 1 << 20;
const COUNTED: usize = 64 << 10;

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

/// Sends what it is shown to the log channel `port`, and says when to wait: while more is under way than the host
/// has said to have taken. An exit travels behind it, and whoever reads the output may be slow.
fn log_feed(proc_: WeakProc, port: PortId) -> (Sink, Hold) {
    let under_way = Arc::new(AtomicUsize::new(0));
    let taken = Arc::clone(&under_way);
    let mut uncounted = 0;
    let sink: Sink = Box::new(move |stream, bytes| {
        let Some(proc_) = proc_.upgrade() else { return };
        let tag = match stream {
            Stream::Stdout => LOG_STDOUT_TAG,
            Stream::Stderr => LOG_STDERR_TAG,
        };
        uncounted += bytes.len();
        let ports =
            if uncounted < COUNTED { Vec::new() } else { vec![receipt(&proc_, &taken, &mut uncounted)] };
        let head = Head::Send { port: port.clone(), tag: tag.to_owned(), ports };
        // When the host is gone nobody reads the output any more, and nobody says so.
        if proc_.post(Packet { head, parts: vec![Bytes::copy_from_slice(bytes)] }).is_err() {
            taken.store(0, Ordering::Release);
        }
    });
    (sink, Box::new(move || under_way.load(Ordering::Acquire) > UNDER_WAY))
}

/// A once port that the host lets go of when it has taken what was sent until then.
fn receipt(proc_: &Proc, under_way: &Arc<AtomicUsize>, uncounted: &mut usize) -> PortId {
    let count = std::mem::take(uncounted);
    under_way.fetch_add(count, Ordering::AcqRel);
    let taken = Arc::clone(under_way);
    let held = proc_.mailbox().open_once_sink(move |_| {
        let _was =
            taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_sub(count)));
    });
    // It leaves with the packet, and is not to be closed from here.
    let _first_use = held.spend();
    held.port().clone()
}

/// `ValueError` for an argument that is refused on every machine; else `OSError`, with the kernel's number for it.
fn start_error(error: ProcLauncherError) -> PyErr {
    let ProcLauncherError::Launch(source) = error else { return PyOSError::new_err(error.to_string()) };
    let inner = source.get_ref();
    if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<InvalidArgument>()) {
        return invalid_argument(refused.clone());
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
#[pyo3(signature = (argv, arg0, env, cwd, tail_lines, log_channel, confinement = None))]
#[expect(clippy::too_many_arguments, reason = "one for each thing that can be said about a start")]
pub(crate) fn supervise(
    py: Python<'_>,
    argv: Vec<OsString>,
    arg0: Option<String>,
    env: HashMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    tail_lines: usize,
    log_channel: Option<&str>,
    confinement: Option<GivenConfinement>,
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
    let (sink, hold) = port.map(|port| log_feed(core.proc_.downgrade(), port)).unzip();
    let spec = SupervisedSpec {
        program: program.into(),
        arg0,
        args: args.collect::<PyResult<_>>()?,
        env: env.into_iter().collect(),
        cwd,
        confinement: confinement.map(Into::into).unwrap_or_default(),
        tail_lines,
        sink,
        hold,
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
