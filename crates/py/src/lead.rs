//! Who runs the runtime: the io thread, or a thread of Python's that waits for something.
//!
//! What a waiting thread waits for comes over a connection. If the io thread read that, it would have to wake the other
//! one, which costs more than the reading. So whoever waits takes the lead: it runs the runtime until it has what it
//! waits for, or until another one wants to who may not have to wait so long. The io thread leads when nobody has waited
//! for a while; an alarm tells it that, so that it sleeps as long as others lead, and no turn of theirs wakes it.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::alarm::Alarm;
use crate::core::lead_of_this_process;

/// How long the io thread waits for another thread to take the lead again. So long may what nobody waits for be late.
const GRACE: Duration = Duration::from_millis(1);
/// Who has waited longer leaves the lead to another thread that wants it.
pub(crate) const LONG: Duration = Duration::from_millis(2);

/// The runtime, and who runs it.
pub(crate) struct Lead {
    runtime: RwLock<Option<Arc<Runtime>>>,
    /// How many threads but the io thread run it, or wait to.
    others: AtomicUsize,
    /// How often one of them was done.
    turns: AtomicU64,
    /// The io thread leaves it to the others.
    lent: AtomicBool,
    /// What the io thread sleeps by meanwhile: it goes off when nobody has led for [`GRACE`].
    alarm: Alarm,
    /// The alarm is set.
    armed: AtomicBool,
    /// How many turns there had been when it was set.
    armed_after: AtomicU64,
    /// One of the others wants it, and the io thread has it.
    wanted: Notify,
    /// Another one wants it, and who has it may have waited long.
    crowded: Notify,
    /// When the first of those that run it, or wait to, began to wait: since `made`, in nanoseconds.
    since: AtomicU64,
    made: Instant,
    ending: AtomicBool,
    /// The others are to leave.
    over: Notify,
}

/// The lead of this process's runtime, where other threads may have it.
pub(crate) fn current_lead() -> Option<&'static Arc<Lead>> {
    lead_of_this_process().filter(|lead| !lead.ending.load(Ordering::Acquire))
}

impl Lead {
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn new(runtime: Runtime) -> io::Result<Self> {
        Ok(Self {
            runtime: RwLock::new(Some(Arc::new(runtime))),
            others: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
            lent: AtomicBool::new(false),
            alarm: Alarm::new()?,
            armed: AtomicBool::new(false),
            armed_after: AtomicU64::new(0),
            wanted: Notify::new(),
            crowded: Notify::new(),
            since: AtomicU64::new(0),
            made: Instant::now(),
            ending: AtomicBool::new(false),
            over: Notify::new(),
        })
    }

    /// As the runtime's own, on the thread that has made it, before anybody else knows of it.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().expect("nobody has ended it yet").block_on(future)
    }

    fn runtime(&self) -> Option<Arc<Runtime>> {
        self.runtime.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether another thread than the io thread has it, or waits for it.
    pub(crate) fn is_taken(&self) -> bool {
        self.others.load(Ordering::SeqCst) > 0
    }

    /// Runs the runtime on this thread until `future` is done. None at `deadline`, when the runtime ends, and when another
    /// thread wants to run it while this one has done so for [`LONG`] since `start`.
    ///
    /// `rarely` says that this thread does not expect to have the lead again within moments. Must not be called on a thread
    /// that runs the runtime already.
    pub(crate) fn run_until<F: Future>(
        &self,
        future: F,
        start: Instant,
        deadline: Option<Instant>,
        rarely: bool,
    ) -> Option<F::Output> {
        let _turn = Turn::begin(self, start);
        if rarely {
            self.disarm();
        }
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
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                output = future => Some(output),
                () = over => None,
                () = self.crowd(start) => None,
                () = late => None,
            }
        })
    }

    /// Done when who has waited since `start` is to leave the lead to another one.
    async fn crowd(&self, start: Instant) {
        let mut crowded = pin!(self.crowded.notified());
        loop {
            crowded.as_mut().enable();
            if self.others.load(Ordering::SeqCst) > 1 && start.elapsed() > LONG {
                return;
            }
            crowded.as_mut().await;
            crowded.set(self.crowded.notified());
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.made).as_nanos().try_into().unwrap_or(u64::MAX)
    }

    /// Has the io thread look after [`GRACE`] whether anybody leads.
    fn arm(&self) {
        if !self.armed.swap(true, Ordering::SeqCst) {
            self.armed_after.store(self.turns.load(Ordering::SeqCst), Ordering::SeqCst);
            self.alarm.set(GRACE);
        }
    }

    /// Spares the io thread from looking, since it would find that this thread leads.
    fn disarm(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.alarm.clear();
            if self.ending.load(Ordering::SeqCst) {
                self.alarm.set(Duration::ZERO);
            }
        }
    }

    /// Leads on this thread, the io thread, whenever no other does, until `stop` is done.
    pub(crate) fn serve(&self, stop: impl Future<Output = ()>) {
        let Some(runtime) = self.runtime() else { return };
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
        self.arm();
        loop {
            self.alarm.wait();
            self.armed.store(false, Ordering::SeqCst);
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
            // Who leads sets the alarm when it is done.
            if self.is_taken() {
                continue;
            }
            if self.turns.load(Ordering::SeqCst) != self.armed_after.load(Ordering::SeqCst) {
                self.arm();
                continue;
            }
            self.lent.store(false, Ordering::SeqCst);
            // Whoever came before that asks for nothing.
            if !self.is_taken() {
                return;
            }
            self.lent.store(true, Ordering::SeqCst);
            self.arm();
        }
    }

    /// Has the io thread end, and every other one leave.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.over.notify_waiters();
        self.alarm.set(Duration::ZERO);
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

impl<'a> Turn<'a> {
    fn begin(lead: &'a Lead, start: Instant) -> Self {
        if lead.others.fetch_add(1, Ordering::SeqCst) == 0 {
            lead.since.store(lead.nanos(start), Ordering::SeqCst);
        } else if lead.nanos(start).saturating_sub(lead.since.load(Ordering::SeqCst)) > LONG.as_nanos() as u64
        {
            lead.crowded.notify_waiters();
        }
        Self(lead)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let lead = self.0;
        lead.turns.fetch_add(1, Ordering::SeqCst);
        if lead.others.fetch_sub(1, Ordering::SeqCst) == 1 && lead.lent.load(Ordering::SeqCst) {
            lead.arm();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use tokio::runtime::Handle;
    use tokio::sync::oneshot;

    use super::*;
    use crate::io_thread::IoThread;

    const FOREVER: Duration = Duration::from_secs(60);

    fn started() -> (Handle, IoThread) {
        let ((), handle, io) = IoThread::start(|| async { Ok::<_, ()>(()) }).unwrap().unwrap();
        (handle, io)
    }

    fn lead<F: Future>(io: &IoThread, future: F) -> Option<F::Output> {
        io.lead().run_until(future, Instant::now(), None, true)
    }

    /// The name of the thread on which a new task runs.
    fn runs_on(handle: &Handle) -> Option<String> {
        let (tx, rx) = mpsc::channel();
        handle.spawn(async move { tx.send(thread::current().name().map(str::to_owned)).unwrap() });
        rx.recv_timeout(FOREVER).unwrap()
    }

    #[test]
    fn who_waits_leads_however_long_it_takes_and_the_io_thread_after_it() {
        let (handle, io) = started();
        thread::scope(|scope| {
            let (done, is_done) = oneshot::channel::<()>();
            let waiting = thread::Builder::new()
                .name("waiting".to_owned())
                .spawn_scoped(scope, || lead(&io, is_done))
                .unwrap();
            while runs_on(&handle).as_deref() != Some("waiting") {}
            thread::sleep(LONG * 3);
            assert_eq!(runs_on(&handle).as_deref(), Some("waiting"));
            done.send(()).unwrap();
            assert_eq!(waiting.join().unwrap(), Some(Ok(())));
        });
        assert_eq!(runs_on(&handle).as_deref(), Some("procession-io"));
        io.stop();
        assert!(io.join(None));
    }

    #[test]
    fn who_has_waited_long_leaves_the_lead_to_another_thread() {
        let (handle, io) = started();
        thread::scope(|scope| {
            let first = scope.spawn(|| lead(&io, pending::<()>()));
            while !io.lead().is_taken() {
                thread::yield_now();
            }
            thread::sleep(LONG * 2);
            let (done, is_done) = oneshot::channel::<()>();
            let second = thread::Builder::new()
                .name("second".to_owned())
                .spawn_scoped(scope, || lead(&io, is_done))
                .unwrap();
            assert_eq!(first.join().unwrap(), None);
            while runs_on(&handle).as_deref() != Some("second") {}
            done.send(()).unwrap();
            assert_eq!(second.join().unwrap(), Some(Ok(())));
        });
        io.stop();
        assert!(io.join(None));
    }

    #[test]
    fn a_thousand_turns_of_several_threads_are_done_and_the_io_thread_leads_after_each_pause() {
        let (handle, io) = started();
        let round = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut done = 0;
                    for turn in 0..1000 {
                        let task = handle.spawn(async move { turn });
                        // None where another thread wanted the lead after a long wait.
                        if let Some(gave) = lead(&io, task) {
                            assert_eq!(gave.unwrap(), turn);
                            done += 1;
                        }
                        if turn % 250 == 0 {
                            round.wait();
                            runs_on(&handle);
                        }
                    }
                    assert!(done > 500, "{done} of 1000 turns came to their end");
                });
            }
        });
        io.stop();
        assert!(io.join(None));
    }

    #[test]
    fn the_end_of_the_runtime_is_the_end_of_every_wait() {
        let (_, io) = started();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| lead(&io, pending::<()>()))).collect();
            while !io.lead().is_taken() {
                thread::yield_now();
            }
            io.stop();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), None);
            }
        });
        assert!(io.join(None));
    }
}
