use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use procession_model::{ActorId, LaunchId, ProcExit, ProcId, ProcStatus};

use crate::output::Stream;
use crate::watchdog::{Doing, known_as};

/// What happened to a proc, in order.
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
    /// It ended. Of this launch nothing follows.
    Exit(Arc<ProcExit>),
    /// Its slot will be launched again.
    Restarting {
        /// The number of the next launch.
        incarnation: u32,
        /// In so long, or later where others have to end first.
        after: Duration,
        /// Which restart of the current period it is, from 1, and how many there may be; none for one that somebody
        /// asked for.
        attempt: Option<(u32, u32)>,
        /// Why.
        why: String,
    },
    /// Its slot is not launched again, though its end was one after which it should have been: the numbers.
    RestartLimit(String),
    /// Its slot has ended for good: only who asks for it by hand launches it again.
    Settled,
}

/// Which launch an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The launch.
    pub proc_id: ProcId,
    /// Its place in its mesh.
    pub rank: usize,
    /// Which launch of its slot it is.
    pub incarnation: u32,
}

/// Hears of what happens to a proc, one event after the other; must not block. It may ask the proc
/// anything.
pub type Observer = Arc<dyn Fn(&ProcEvent) + Send + Sync>;

/// As [`Observer`], for all launches of a slot.
pub type SlotObserver = Arc<dyn Fn(&Arc<Launch>, &ProcEvent) + Send + Sync>;

/// What an observer is there for: it hears nothing any more once that is gone.
pub type Owner = Weak<dyn Any + Send + Sync>;

#[derive(Clone)]
struct Listener {
    /// The number of the first event that it hears.
    from: u64,
    observer: SlotObserver,
    owner: Option<Owner>,
}

impl Listener {
    fn is_wanted(&self) -> bool {
        self.owner.as_ref().is_none_or(|owner| owner.strong_count() > 0)
    }
}

struct Told {
    launch: Arc<Launch>,
    event: ProcEvent,
    /// Who alone hears it; none: all who were there when it was put.
    only: Option<SlotObserver>,
}

#[derive(Default)]
struct State {
    listeners: Arc<[Listener]>,
    queue: VecDeque<Told>,
    /// The number of the event that is first in the queue.
    first: u64,
    /// Some thread tells the queue's events, and whatever comes meanwhile.
    telling: bool,
    /// The launch whose events are taken.
    open: Option<LaunchId>,
    /// What whoever comes between two launches, or after the last, is told.
    past: Vec<(Arc<Launch>, ProcEvent)>,
}

/// Who is told of what happens to the launches of one slot: in one order for all, each event once, and
/// none under a lock.
pub(crate) struct Audience {
    /// Whether launches may follow, so that observers stay.
    lasts: bool,
    state: Mutex<State>,
}

impl Audience {
    pub(crate) fn new(lasts: bool) -> Self {
        Self { lasts, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the events of this launch are taken, and of no other.
    pub(crate) fn open(&self, launch: LaunchId) {
        let mut state = self.state();
        state.open = Some(launch);
        state.past.clear();
    }

    /// Tells `observer` of what is put here from now on, and of the end, when that was it: then this is true, and
    /// [`Self::tell_all`] has to follow, outside of all locks. Else telling is left to who does it anyway.
    pub(crate) fn add(&self, observer: SlotObserver, owner: Option<Owner>) -> bool {
        let mut state = self.state();
        for (launch, event) in state.past.clone() {
            state.queue.push_back(Told { launch, event, only: Some(Arc::clone(&observer)) });
        }
        if self.lasts || state.past.is_empty() {
            let from = state.first + state.queue.len() as u64;
            let others = state.listeners.iter().filter(|listener| listener.is_wanted()).cloned();
            state.listeners = others.chain([Listener { from, observer, owner }]).collect();
        }
        !state.past.is_empty()
    }

    /// Whether anybody would hear it.
    fn any(&self) -> bool {
        self.state().listeners.iter().any(Listener::is_wanted)
    }

    /// Takes events in, in their order; [`Self::tell_all`] has to follow, outside of all locks.
    fn put(&self, launch: &Arc<Launch>, events: impl IntoIterator<Item = ProcEvent>) {
        let mut state = self.state();
        for event in events {
            match &event {
                ProcEvent::Settled => state.past.push((Arc::clone(launch), event.clone())),
                ProcEvent::Restarting { .. } | ProcEvent::RestartLimit(_) => {}
                _ if state.open != Some(launch.proc_id.launch_id()) => continue,
                ProcEvent::Exit(_) => {
                    state.open = None;
                    state.past.push((Arc::clone(launch), event.clone()));
                }
                _ => {}
            }
            state.queue.push_back(Told { launch: Arc::clone(launch), event, only: None });
        }
    }

    pub(crate) fn tell_all(&self) {
        let mut state = self.state();
        if state.telling {
            return;
        }
        state.telling = true;
        while let Some(Told { launch, event, only }) = state.queue.pop_front() {
            let number = state.first;
            state.first += 1;
            let all = Arc::clone(&state.listeners);
            drop(state);
            let hearing = all.iter().filter(|listener| only.is_none() && listener.from <= number);
            for observer in hearing.map(|listener| &listener.observer).chain(&only) {
                // It is supervision that calls it, and supervision must go on.
                let tell =
                    || known_as(Doing::TellsObserver(Arc::clone(&launch)), || observer(&launch, &event));
                if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                    tracing::error!(?event, "an observer of a proc panicked");
                }
            }
            state = self.state();
        }
        state.telling = false;
        if !self.lasts && !state.past.is_empty() {
            // An observer may hold what holds the proc, and what its drop does is not known here.
            let done = std::mem::take(&mut state.listeners);
            drop(state);
            drop(done);
        }
    }
}

/// Who is told of what happens to one launch.
pub(crate) struct Observers {
    pub(crate) launch: Arc<Launch>,
    pub(crate) audience: Arc<Audience>,
}

impl Observers {
    /// Tells `observer` of what is put here from now on, and of the exit, when that was it.
    pub(crate) fn add(&self, observer: Observer) {
        if self.audience.add(self.of_this_launch(observer), None) {
            self.audience.tell_all();
        }
    }

    pub(crate) fn of_this_launch(&self, observer: Observer) -> SlotObserver {
        let own = self.launch.proc_id.launch_id();
        Arc::new(move |launch, event| {
            if launch.proc_id.launch_id() == own && !matches!(event, ProcEvent::Settled) {
                observer(event);
            }
        })
    }

    /// Whether anybody would hear it.
    pub(crate) fn any(&self) -> bool {
        self.audience.any()
    }

    pub(crate) fn tell(&self, event: ProcEvent) {
        self.put([event]);
        self.tell_all();
    }

    /// Takes events in, in their order; [`Self::tell_all`] has to follow, outside of all locks.
    pub(crate) fn put(&self, events: impl IntoIterator<Item = ProcEvent>) {
        self.audience.put(&self.launch, events);
    }

    pub(crate) fn tell_all(&self) {
        self.audience.tell_all();
    }
}

#[cfg(test)]
mod tests {
    use procession_model::HostId;

    use super::*;

    /// A launch that goes on, of a slot that has no other.
    fn observers() -> Observers {
        let audience = Arc::new(Audience::new(false));
        launched(&audience, 1)
    }

    fn launched(audience: &Arc<Audience>, incarnation: u32) -> Observers {
        let proc_id = ProcId::fresh("p", &HostId::fresh("m")).unwrap();
        audience.open(proc_id.launch_id());
        let launch = Arc::new(Launch { proc_id, rank: 0, incarnation });
        Observers { launch, audience: Arc::clone(audience) }
    }

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
        let all = Arc::new(observers());
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
        let all = observers();
        all.add(Arc::new(|_| panic!("on demand")));
        let (second, seen) = recorder();
        all.add(second);
        all.tell(ProcEvent::Ready);
        all.tell(note("later"));
        assert_eq!(*seen.lock().unwrap(), ["Ready", "Note(\"later\")"]);
    }

    #[test]
    fn an_observer_whose_owner_is_gone_costs_nothing_once_another_comes() {
        let audience = Arc::new(Audience::new(true));
        let launch = launched(&audience, 1);
        for _ in 0..10 {
            let owner: Arc<dyn Any + Send + Sync> = Arc::new(());
            audience.add(Arc::new(|_, _| {}), Some(Arc::downgrade(&owner)));
            assert!(launch.any());
        }
        assert!(!launch.any(), "nobody would hear a line");
        assert_eq!(audience.state().listeners.len(), 1);
    }

    #[test]
    fn an_observer_hears_nothing_that_was_put_before_it_came() {
        let all = observers();
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

    #[test]
    fn an_observer_of_a_slot_follows_its_launches_and_hears_nothing_late_of_an_earlier_one() {
        let audience = Arc::new(Audience::new(true));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let observer: SlotObserver = Arc::new(move |launch, event| {
            record.lock().unwrap().push(format!("{} {event:?}", launch.incarnation))
        });
        let first = launched(&audience, 1);
        assert!(!audience.add(Arc::clone(&observer), None));
        first.tell(note("one"));
        let second = launched(&audience, 2);
        first.tell(note("late"));
        second.tell(note("two"));
        second.tell(ProcEvent::Settled);
        assert_eq!(*seen.lock().unwrap(), ["1 Note(\"one\")", "2 Note(\"two\")", "2 Settled"]);
        assert!(audience.add(observer, None));
        audience.tell_all();
        assert_eq!(seen.lock().unwrap().len(), 4, "who comes after the end is told of it");
    }
}
