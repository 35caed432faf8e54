use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_model::{ActorId, ProcExit, ProcStatus};

use crate::output::Stream;

/// What happened to one proc, in order.
#[derive(Clone, Debug)]
pub enum ProcEvent {
    /// A line of its output.
    Output {
        /// Which stream.
        stream: Stream,
        /// The line, without its end.
        line: String,
        /// Whether the line ends here; false for a piece of one that is longer than 64 KiB.
        ends: bool,
    },
    /// Its status changed.
    Status(ProcStatus),
    /// It called back.
    Ready,
    /// An actor in it ended.
    ActorEnded {
        /// The actor.
        actor: ActorId,
        /// Why; none for a regular end.
        failure: Option<String>,
    },
    /// Something worth knowing that changes nothing.
    Note(String),
    /// It ended. Nothing follows.
    Exit(Arc<ProcExit>),
}

/// Hears of what happens to a proc, one event after the other; must not block. It may ask the proc
/// anything.
pub type Observer = Arc<dyn Fn(&ProcEvent) + Send + Sync>;

#[derive(Default)]
struct State {
    /// Each with the number of the first event that it hears.
    observers: Arc<[(u64, Observer)]>,
    queue: VecDeque<ProcEvent>,
    /// The number of the event that is first in the queue.
    first: u64,
    /// Some thread tells the queue's events, and whatever comes meanwhile.
    telling: bool,
    exit: Option<Arc<ProcExit>>,
}

/// Who is told of what happens to one proc: in one order for all, each event once, and none under a lock.
#[derive(Default)]
pub(crate) struct Observers(Mutex<State>);

impl Observers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells `observer` of what is put here from now on; gives it back with the exit, when that was it.
    pub(crate) fn add(&self, observer: Observer) -> Option<(Observer, Arc<ProcExit>)> {
        let mut state = self.state();
        if let Some(exit) = state.exit.clone() {
            return Some((observer, exit));
        }
        let from = state.first + state.queue.len() as u64;
        state.observers = state.observers.iter().cloned().chain([(from, observer)]).collect();
        None
    }

    /// Whether anybody would hear it.
    pub(crate) fn any(&self) -> bool {
        !self.state().observers.is_empty()
    }

    pub(crate) fn tell(&self, event: ProcEvent) {
        self.put([event]);
        self.tell_all();
    }

    /// Takes events in, in their order; [`Self::tell_all`] has to follow, outside of all locks.
    pub(crate) fn put(&self, events: impl IntoIterator<Item = ProcEvent>) {
        let mut state = self.state();
        for event in events {
            if state.exit.is_some() {
                return;
            }
            if let ProcEvent::Exit(exit) = &event {
                state.exit = Some(Arc::clone(exit));
            }
            state.queue.push_back(event);
        }
    }

    pub(crate) fn tell_all(&self) {
        let mut state = self.state();
        if state.telling {
            return;
        }
        state.telling = true;
        while let Some(event) = state.queue.pop_front() {
            let number = state.first;
            state.first += 1;
            let observers = Arc::clone(&state.observers);
            drop(state);
            for (_, observer) in observers.iter().filter(|(from, _)| *from <= number) {
                // It is supervision that calls it, and supervision must go on.
                if catch_unwind(AssertUnwindSafe(|| observer(&event))).is_err() {
                    tracing::error!(?event, "an observer of a proc panicked");
                }
            }
            state = self.state();
        }
        state.telling = false;
        if state.exit.is_some() {
            // An observer may hold what holds the proc, and what its drop does is not known here.
            let done = std::mem::take(&mut state.observers);
            drop(state);
            drop(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> (Observer, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        (Arc::new(move |event| record.lock().unwrap().push(format!("{event:?}"))), seen)
    }

    fn note(text: &str) -> ProcEvent {
        ProcEvent::Note(text.to_owned())
    }

    #[test]
    fn an_observer_may_cause_events_and_all_hear_them_in_one_order() {
        let all = Arc::new(Observers::default());
        let (first, seen) = recorder();
        let inner = Arc::downgrade(&all);
        all.add(Arc::new(move |event| {
            if matches!(event, ProcEvent::Ready) {
                inner.upgrade().unwrap().tell(note("caused"));
            }
        }));
        all.add(first);
        all.tell(ProcEvent::Ready);
        assert_eq!(*seen.lock().unwrap(), ["Ready", "Note(\"caused\")"]);
    }

    #[test]
    fn an_observer_that_panics_costs_the_others_nothing() {
        let all = Observers::default();
        all.add(Arc::new(|_| panic!("on demand")));
        let (second, seen) = recorder();
        all.add(second);
        all.tell(ProcEvent::Ready);
        all.tell(note("later"));
        assert_eq!(*seen.lock().unwrap(), ["Ready", "Note(\"later\")"]);
    }

    #[test]
    fn an_observer_hears_nothing_that_was_put_before_it_came() {
        let all = Observers::default();
        let (first, seen) = recorder();
        all.add(first);
        all.put([note("early"), note("earlier")]);
        let (late, heard) = recorder();
        all.add(late);
        all.put([note("after")]);
        all.tell_all();
        assert_eq!(seen.lock().unwrap().len(), 3);
        assert_eq!(*heard.lock().unwrap(), ["Note(\"after\")"]);
    }
}
