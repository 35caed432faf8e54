//! Virtual time, for tests: it passes while the thread that has begun it waits for something of ours, and while it is advanced.
//! In between it stands still, whatever other threads do.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use procession_host::{Standstill, VirtualTime as Time};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::time::sleep;

use crate::core::current;
use crate::errors::invalid_argument;
use crate::time::duration;
use crate::waiter::{Outcome, Waiter};

static IS_ON: AtomicBool = AtomicBool::new(false);
static NOW: Mutex<Option<Now>> = Mutex::new(None);

struct Now {
    time: Time,
    /// None while it passes.
    still: Option<Standstill>,
    /// How many have it pass.
    passing: usize,
}

thread_local! {
    static HAS_BEGUN_IT: Cell<bool> = const { Cell::new(false) };
}

fn now() -> MutexGuard<'static, Option<Now>> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the clock of the runtime is none to wait by.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Acquire)
}

/// Whether it passes while this thread waits.
pub(crate) fn is_of_this_thread() -> bool {
    HAS_BEGUN_IT.get()
}

/// It passes from here on, until as many have stopped it.
pub(crate) fn go() {
    if let Some(now) = &mut *now() {
        now.passing += 1;
        now.still = None;
    }
}

pub(crate) fn stop() {
    if let Some(now) = &mut *now() {
        now.passing = now.passing.saturating_sub(1);
        if now.passing == 0 {
            now.still = Some(now.time.stand_still());
        }
    }
}

/// The virtual time of this process's host.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct VirtualTime;

#[pymethods]
impl VirtualTime {
    /// Begins it; RuntimeError where it has begun, InvalidArgument where a proc of the host lives.
    #[new]
    fn new() -> PyResult<Self> {
        let core = current()?;
        let mut now = now();
        if now.is_some() || is_on() {
            return Err(PyRuntimeError::new_err(
                "virtual time has begun already; there is one for a process",
            ));
        }
        let _inside = core.handle.enter();
        let time = Time::begin(core.host()?).map_err(invalid_argument)?;
        let still = Some(time.stand_still());
        *now = Some(Now { time, still, passing: 0 });
        IS_ON.store(true, Ordering::Release);
        HAS_BEGUN_IT.set(true);
        Ok(Self)
    }

    /// Seconds that have passed of it.
    fn elapsed(&self) -> f64 {
        now().as_ref().map_or(0.0, |now| now.time.elapsed().as_secs_f64())
    }

    /// Lets so many seconds of it pass; done then.
    fn advance(&self, seconds: f64) -> PyResult<Waiter> {
        let length = duration("seconds", seconds)?;
        let passed = async move {
            let mut over = pin!(sleep(length));
            // The timer is set before the clock goes, or that would leap to others at once.
            let is_over = poll_fn(|cx| Poll::Ready(over.as_mut().poll(cx).is_ready())).await;
            if !is_over {
                go();
                over.await;
                stop();
            }
            Outcome::Nothing
        };
        Ok(Waiter::once(current()?.run(passed)))
    }

    /// Kills what lives, and goes on by the clock; done then. Idempotent.
    fn end(&self) -> PyResult<Waiter> {
        HAS_BEGUN_IT.set(false);
        let ends = now().take();
        let ended = async move {
            if let Some(Now { time, still, .. }) = ends {
                drop(still);
                time.end().await;
                IS_ON.store(false, Ordering::Release);
            }
            Outcome::Nothing
        };
        Ok(Waiter::once(current()?.run(ended)))
    }
}
