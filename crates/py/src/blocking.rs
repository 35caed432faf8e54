use std::cell::Cell;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::signals::Interrupts;

/// How long the main thread waits before it has signals interrupt it, which has its price; and how long it may be deaf to
/// them where they cannot.
const SLICE: Duration = Duration::from_millis(50);

/// Waits, without the interpreter, until `wait` gives something; none at `deadline`.
///
/// `wait` is given until when, and may give nothing earlier, when this thread is interrupted. Python's main thread, which
/// handles the signals, handles them in between.
///
/// # Errors
/// What a signal handler raised: `KeyboardInterrupt`.
pub(crate) fn block_on<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: impl Fn(Option<Instant>) -> Option<T> + Sync,
) -> PyResult<Option<T>> {
    if !is_main_thread(py)? {
        return Ok(py.detach(|| wait(deadline)));
    }
    let slice = Instant::now() + SLICE;
    let first = deadline.map_or(slice, |deadline| deadline.min(slice));
    let found = py.detach(|| wait(Some(first)));
    if found.is_some() {
        return Ok(found);
    }
    let interrupts = Interrupts::begin(py)?;
    let result = wait_on(py, deadline, &wait, interrupts.is_some());
    if let Some(interrupts) = interrupts {
        interrupts.end(py)?;
    }
    result
}

/// What `work` gives, which the runtime does meanwhile. It goes on where nobody waits for it any more.
///
/// # Errors
/// As [`block_on`]; the runtime was shut down before.
pub(crate) fn wait_for<T: Send + 'static>(
    py: Python<'_>,
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let (done_tx, done) = mpsc::channel();
    runtime.spawn(async move {
        let _given_up = done_tx.send(work.await);
    });
    let done = Mutex::new(done);
    let found = block_on(py, None, |until| {
        let done = done.lock().unwrap_or_else(PoisonError::into_inner);
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => Some(done.recv().ok()),
            Some(left) => match done.recv_timeout(left) {
                Ok(found) => Some(Some(found)),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(None),
            },
        }
    })?;
    found.flatten().ok_or_else(|| PyRuntimeError::new_err("the runtime was shut down before this was done"))
}

fn wait_on<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: &(impl Fn(Option<Instant>) -> Option<T> + Sync),
    interruptible: bool,
) -> PyResult<Option<T>> {
    loop {
        py.check_signals()?;
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(None);
        }
        let slice = (!interruptible).then_some(now + SLICE);
        let until = deadline.into_iter().chain(slice).min();
        let found = py.detach(|| wait(until));
        if found.is_some() {
            return Ok(found);
        }
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        static IS_MAIN: Cell<Option<bool>> = const { Cell::new(None) };
    }
    if let Some(known) = IS_MAIN.get() {
        return Ok(known);
    }
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    let is_main = main.eq(threading.call_method0("get_ident")?)?;
    IS_MAIN.set(Some(is_main));
    Ok(is_main)
}
