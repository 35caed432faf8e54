//! Who runs the runtime: the io thread, or a thread of Python's that waits for something.
//!
//! What a waiting thread waits for comes over a connection. If the io thread read that, it would have to wake the other
//! one, which costs more than the reading. So whoever waits takes the lead: it runs the runtime until it has what it
//! waits for. The io thread leads when nobody has waited for a while.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::core::lead_of_this_process;

/// How long the io thread waits for another thread to take the lead again. So long may what nobody waits for be late.
const GRACE: Duration = Duration::from_millis(1);

/// The runtime, and who runs it.
pub(crate) struct Lead {
    runtime: RwLock<Option<Arc<Runtime>>>,
    io_thread: OnceLock<Thread>,
    /// How many threads but the io thread run it, or wait to.
    others: AtomicUsize,
    /// How often one of them was done.
    turns: AtomicU64,
    /// The io thread leaves it to the others.
    lent: AtomicBool,
    /// It sleeps until the last of them is done.
    asleep: AtomicBool,
    /// One of the others wants it.
    wanted: Notify,
    ending: AtomicBool,
    /// The others are to leave.
    over: Notify,
}

/// The lead of this process's runtime, where other threads may have it.
pub(crate) fn current_lead() -> Option<&'static Arc<Lead>> {
    lead_of_this_process().filter(|lead| !lead.ending.load(Ordering::Acquire))
}

impl Lead {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self {
            runtime: RwLock::new(Some(Arc::new(runtime))),
            io_thread: OnceLock::new(),
            others: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
            lent: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            wanted: Notify::new(),
            ending: AtomicBool::new(false),
            over: Notify::new(),
        }
    }

    /// As the runtime's own, on the thread that has made it, before anybody else knows of it.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().expect("nobody has ended it yet").block_on(future)
    }

    fn runtime(&self) -> Option<Arc<Runtime>> {
        self.runtime.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the runtime on this thread until `future` is done; none at `deadline`, and when the runtime ends.
    ///
    /// Must not be called on a thread that runs it already.
    pub(crate) fn run_until<F: Future>(&self, future: F, deadline: Instant) -> Option<F::Output> {
        self.others.fetch_add(1, Ordering::SeqCst);
        let _turn = Turn(self);
        let runtime = self.runtime()?;
        if !self.lent.load(Ordering::SeqCst) {
            self.wanted.notify_one();
        }
        runtime.block_on(async {
            let mut over = pin!(self.over.notified());
            over.as_mut().enable();
            if self.ending.load(Ordering::SeqCst) {
                return None;
            }
            let wait = async {
                tokio::select! {
                    biased;
                    output = future => Some(output),
                    () = over => None,
                }
            };
            timeout_at(deadline.into(), wait).await.ok().flatten()
        })
    }

    /// Leads on this thread, the io thread, whenever no other does, until `stop` is done.
    pub(crate) fn serve(&self, stop: impl Future<Output = ()>) {
        let Some(runtime) = self.runtime() else { return };
        let _first = self.io_thread.set(thread::current());
        let mut stop = pin!(stop);
        loop {
            let stopped = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = &mut stop => true,
                    () = self.wanted.notified() => false,
                }
            });
            if stopped {
                return;
            }
            self.lend();
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Leaves the lead to the others for as long as they take it again and again.
    fn lend(&self) {
        self.lent.store(true, Ordering::SeqCst);
        loop {
            let turns = self.turns.load(Ordering::SeqCst);
            thread::park_timeout(GRACE);
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
            if self.turns.load(Ordering::SeqCst) != turns {
                continue;
            }
            if self.others.load(Ordering::SeqCst) == 0 {
                self.lent.store(false, Ordering::SeqCst);
                // Whoever came before that asks for nothing.
                if self.others.load(Ordering::SeqCst) == 0 {
                    return;
                }
                self.lent.store(true, Ordering::SeqCst);
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            while self.others.load(Ordering::SeqCst) != 0
                && self.asleep.load(Ordering::SeqCst)
                && !self.ending.load(Ordering::SeqCst)
            {
                thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// Has the io thread end, and every other one leave.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.over.notify_waiters();
        if let Some(thread) = self.io_thread.get() {
            thread.unpark();
        }
    }

    /// Ends the runtime once every other thread has left it; for what still runs on its pool it waits for `grace`.
    pub(crate) fn shut_down(&self, grace: Duration) {
        self.end();
        let runtime = self.runtime.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut runtime) = runtime else { return };
        loop {
            match Arc::try_unwrap(runtime) {
                Ok(runtime) => return runtime.shutdown_timeout(grace),
                Err(shared) => runtime = shared,
            }
            self.over.notify_waiters();
            thread::park_timeout(GRACE);
        }
    }
}

/// One thread's time with the lead.
struct Turn<'a>(&'a Lead);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let lead = self.0;
        lead.turns.fetch_add(1, Ordering::SeqCst);
        if lead.others.fetch_sub(1, Ordering::SeqCst) == 1
            && lead.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = lead.io_thread.get()
        {
            thread.unpark();
        }
    }
}
