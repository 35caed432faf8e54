use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::completions::Completions;
use crate::parker::{Parked, Parker, park, parker};

/// A condition on a state, with one number to tell its instances apart.
pub(crate) type Due<S> = (fn(&S, usize) -> bool, usize);

/// A state whose changes can be waited for, by threads and by event loops alike.
///
/// Who waits names a condition, and is woken once it holds and not for every change.
pub(crate) struct Monitor<S>(Mutex<Inner<S>>);

struct Inner<S> {
    state: S,
    waiting: Vec<Waiting<S>>,
    next_id: u64,
}

struct Waiting<S> {
    id: u64,
    due: Due<S>,
    wake: Wake,
}

enum Wake {
    Thread(Arc<Parker>),
    Queue(Arc<Completions>, i64),
}

impl Wake {
    fn fire(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Queue(queue, token) => queue.push(token),
        }
    }
}

impl<S> Inner<S> {
    fn holds(&self, (condition, number): Due<S>) -> bool {
        condition(&self.state, number)
    }

    fn enlist(&mut self, due: Due<S>, wake: Wake) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push(Waiting { id, due, wake });
        id
    }

    /// Takes `id` off the list; false when its wake has fired.
    fn strike(&mut self, id: u64) -> bool {
        let found = self.waiting.iter().position(|waiting| waiting.id == id);
        found.map(|index| self.waiting.swap_remove(index)).is_some()
    }
}

impl<S> Monitor<S> {
    pub(crate) fn new(state: S) -> Self {
        Self(Mutex::new(Inner { state, waiting: Vec::new(), next_id: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // No user code runs under this lock, so what a panic leaves behind is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes those whose condition holds now.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let (result, due) = {
            let mut guard = self.lock();
            let inner = &mut *guard;
            let result = change(&mut inner.state);
            let state = &inner.state;
            let due: Vec<Waiting<S>> =
                inner.waiting.extract_if(.., |waiting| (waiting.due.0)(state, waiting.due.1)).collect();
            (result, due)
        };
        due.into_iter().for_each(|waiting| waiting.wake.fire());
        result
    }

    /// Looks at the state, or takes from it what nobody waits for.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.lock().state)
    }

    /// Whether the condition holds.
    pub(crate) fn is(&self, due: Due<S>) -> bool {
        self.lock().holds(due)
    }

    /// Blocks this thread until the condition has held; false at `deadline`, or when the thread is interrupted.
    pub(crate) fn wait(&self, due: Due<S>, deadline: Option<Instant>) -> bool {
        let parker = parker();
        let id = {
            let mut inner = self.lock();
            if inner.holds(due) {
                return true;
            }
            inner.enlist(due, Wake::Thread(Arc::clone(&parker)))
        };
        loop {
            if deadline.is_some_and(|at| at <= Instant::now())
                || park(&parker, deadline) == Parked::Interrupted
            {
                return !self.lock().strike(id);
            }
            if !self.lock().waiting.iter().any(|waiting| waiting.id == id) {
                return true;
            }
        }
    }

    /// Puts `token` into `queue` once the condition holds, at once when it does already; otherwise gives what
    /// [`Self::forget`] takes.
    pub(crate) fn notify(&self, due: Due<S>, queue: Arc<Completions>, token: i64) -> Option<u64> {
        let mut inner = self.lock();
        if inner.holds(due) {
            drop(inner);
            queue.push(token);
            return None;
        }
        Some(inner.enlist(due, Wake::Queue(queue, token)))
    }

    /// Takes a notification back. Nothing happens when its token is in the queue already.
    pub(crate) fn forget(&self, notification: u64) {
        self.lock().strike(notification);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const AT_LEAST: fn(&usize, usize) -> bool = |state, wanted| *state >= wanted;

    #[test]
    fn a_thread_wakes_once_its_condition_holds() {
        let monitor = Arc::new(Monitor::new(0));
        let started = Arc::new(Barrier::new(2));
        let waiter = thread::spawn({
            let (monitor, started) = (Arc::clone(&monitor), Arc::clone(&started));
            move || {
                started.wait();
                monitor.wait((AT_LEAST, 1000), None);
                monitor.peek(|state| *state)
            }
        });
        started.wait();
        for _ in 0..1000 {
            monitor.update(|state| *state += 1);
        }
        assert_eq!(waiter.join().unwrap(), 1000);
        assert!(monitor.lock().waiting.is_empty());
    }

    #[test]
    fn a_wait_that_times_out_leaves_nothing_behind() {
        let monitor = Monitor::new(0);
        assert!(!monitor.wait((AT_LEAST, 1), Some(Instant::now())));
        assert!(!monitor.wait((AT_LEAST, 1), Some(Instant::now() + Duration::from_millis(5))));
        assert!(monitor.lock().waiting.is_empty());
    }

    #[test]
    fn a_condition_that_holds_already_needs_no_wait() {
        let monitor = Monitor::new(3);
        assert!(monitor.wait((AT_LEAST, 3), None));
        assert!(monitor.is((AT_LEAST, 2)));
    }

    #[test]
    fn a_stray_wake_up_does_not_end_a_wait() {
        let monitor = Monitor::new(0);
        parker().unpark();
        assert!(!monitor.wait((AT_LEAST, 1), Some(Instant::now() + Duration::from_millis(5))));
    }

    #[test]
    fn an_event_loop_hears_of_each_condition_once() {
        let queue = Arc::new(Completions::new().unwrap());
        let monitor = Monitor::new(0);
        monitor.notify((AT_LEAST, 0), Arc::clone(&queue), 10);
        monitor.notify((AT_LEAST, 2), Arc::clone(&queue), 12);
        assert_eq!(queue.drain(), [10]);
        monitor.update(|state| *state += 1);
        assert!(queue.drain().is_empty());
        monitor.update(|state| *state += 1);
        monitor.update(|state| *state += 1);
        assert_eq!(queue.drain(), [12]);
    }

    #[test]
    fn an_event_loop_that_waits_no_more_leaves_nothing_behind() {
        let queue = Arc::new(Completions::new().unwrap());
        let monitor = Monitor::new(0);
        let notification =
            monitor.notify((AT_LEAST, 1), Arc::clone(&queue), 1).expect("it does not hold yet");
        let other = monitor.notify((AT_LEAST, 1), Arc::clone(&queue), 2);
        assert!(other.is_some() && monitor.notify((AT_LEAST, 0), Arc::clone(&queue), 3).is_none());
        monitor.forget(notification);
        monitor.update(|state| *state += 1);
        assert_eq!(queue.drain(), [3, 2]);
        monitor.forget(notification);
        assert!(monitor.lock().waiting.is_empty());
        assert_eq!(Arc::strong_count(&queue), 1);
    }
}
