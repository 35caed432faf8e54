use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::lead::current_lead;

/// What a thread is woken by that waits in [`park`].
#[derive(Default)]
pub(crate) struct Parker(Mutex<State>);

#[derive(Default)]
struct State {
    woken: bool,
    interrupted: bool,
    waker: Option<Waker>,
}

/// Why a thread waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Somebody woke it, the time is over, or nothing at all: it looks again.
    Woken,
    /// It has something else to do first, such as to handle a signal.
    Interrupted,
}

impl Parker {
    /// Wakes the thread, or keeps it from waiting the next time.
    pub(crate) fn unpark(&self) {
        self.wake(|state| state.woken = true);
    }

    /// Has the thread leave whatever it waits for, or not even begin.
    pub(crate) fn interrupt(&self) {
        self.wake(|state| state.interrupted = true);
    }

    fn wake(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Parked> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.interrupted) {
            return Poll::Ready(Parked::Interrupted);
        }
        if std::mem::take(&mut state.woken) {
            return Poll::Ready(Parked::Woken);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// This thread's.
pub(crate) fn parker() -> Arc<Parker> {
    thread_local! {
        static PARKER: OnceCell<Arc<Parker>> = const { OnceCell::new() };
    }
    PARKER.with(|parker| Arc::clone(parker.get_or_init(Arc::default)))
}

/// Who waits longer leaves the runtime to the io thread, and waits for that to wake it; and so it does the next time.
const LONG: Duration = Duration::from_millis(2);

thread_local! {
    /// Whether the last wait of this thread was a long one: then this one may be too.
    static WAITED_LONG: Cell<bool> = const { Cell::new(false) };
}

/// Blocks this thread until its `parker` is woken, or until `deadline`; it may also return without either.
///
/// Where that takes only moments the thread runs the runtime of this process meanwhile, so that what it waits for needs no
/// other thread.
pub(crate) fn park(parker: &Parker, deadline: Option<Instant>) -> Parked {
    let start = Instant::now();
    let long = start + LONG;
    if let Some(lead) = current_lead()
        && !WAITED_LONG.get()
    {
        let until = deadline.map_or(long, |deadline| deadline.min(long));
        if let Some(parked) = lead.run_until(poll_fn(|cx| parker.poll(cx)), until) {
            return parked;
        }
        if until < long {
            return Parked::Woken;
        }
    }
    let parked = park_alone(parker, deadline);
    WAITED_LONG.set(Instant::now() > long);
    parked
}

fn park_alone(parker: &Parker, deadline: Option<Instant>) -> Parked {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let cx = Context::from_waker(&waker);
    if let Poll::Ready(parked) = parker.poll(&cx) {
        return parked;
    }
    match deadline {
        None => thread::park(),
        Some(deadline) => thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
    }
    match parker.poll(&cx) {
        Poll::Ready(parked) => parked,
        Poll::Pending => Parked::Woken,
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
