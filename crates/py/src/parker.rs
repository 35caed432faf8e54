use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::lead::{LONG, current_lead};
use crate::virtual_time;

/// What a thread is woken by that waits in [`park`].
#[derive(Default)]
pub(crate) struct Parker(Mutex<State>);

#[derive(Default)]
struct State {
    woken: bool,
    interrupted: bool,
    /// Virtual time passes for as long as it waits.
    lets_time_pass: bool,
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
            if std::mem::take(&mut state.lets_time_pass) {
                // What it waits for is there now: by the time that it looks, it is no later.
                virtual_time::stop();
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// By the deadlines of the wall clock, while the io thread runs the runtime.
    fn park_in_virtual_time(&self, deadline: Option<Instant>) -> Parked {
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if virtual_time::is_of_this_thread() && !state.woken && !state.interrupted {
                state.lets_time_pass = true;
                virtual_time::go();
            }
        }
        let parked = park_alone(self, deadline);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.lets_time_pass) {
            virtual_time::stop();
        }
        parked
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

thread_local! {
    /// Whether the last wait of this thread was a long one: then this one may be too.
    static WAITED_LONG: Cell<bool> = const { Cell::new(false) };
}

/// Blocks this thread until its `parker` is woken, or until `deadline`; it may also return without either.
///
/// The thread runs the runtime of this process meanwhile, so that what it waits for needs no other thread; unless another one
/// does so and this one may have to wait long.
pub(crate) fn park(parker: &Parker, deadline: Option<Instant>) -> Parked {
    if virtual_time::is_on() {
        return parker.park_in_virtual_time(deadline);
    }
    let start = Instant::now();
    let parked = current_lead()
        .filter(|lead| !(WAITED_LONG.get() && lead.is_taken()))
        .and_then(|lead| lead.run_until(poll_fn(|cx| parker.poll(cx)), start, deadline, WAITED_LONG.get()))
        .unwrap_or_else(|| park_alone(parker, deadline));
    WAITED_LONG.set(start.elapsed() > LONG);
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
