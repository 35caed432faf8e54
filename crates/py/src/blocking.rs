use std::cell::Cell;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long the main thread may be deaf to signals.
const SLICE: Duration = Duration::from_millis(50);

/// Waits, without the interpreter, until `wait` gives something; none at `deadline`.
///
/// Python's main thread, which handles the signals, waits in slices and handles them in between.
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
    loop {
        let slice = Instant::now() + SLICE;
        let (until, last) = match deadline {
            Some(deadline) if deadline <= slice => (deadline, true),
            _ => (slice, false),
        };
        if let Some(found) = py.detach(|| wait(Some(until))) {
            return Ok(Some(found));
        }
        py.check_signals()?;
        if last {
            return Ok(None);
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
