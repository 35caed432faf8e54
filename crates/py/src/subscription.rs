use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use procession_host::{Gate, Owner, ProcEvent, Slot, SlotObserver, Stream};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::blocking::block_on;
use crate::event_queue::{Event, EventQueue, What};
use crate::exit_dict::exit_dict;
use crate::fork::{Owned, refuse_in_fork};
use crate::monitor::{Due, Monitor};
use crate::procs::ProcHandle;
use crate::time::{deadline, epoch_seconds};
use crate::waiter::Waiter;

/// What one subscriber has not read yet.
#[derive(Default)]
struct Feed {
    queue: EventQueue,
    /// Slots that are followed and have not ended for good.
    live: usize,
    /// No proc is followed yet, and some will be.
    waits_for_procs: bool,
}

impl Feed {
    fn is_at_end(&self) -> bool {
        self.queue.is_empty() && self.live == 0 && !self.waits_for_procs
    }
}

const HAS_SOMETHING: Due<Feed> = (|feed, _| !feed.queue.is_empty() || feed.is_at_end(), 0);

/// A queue of what happens to some procs, in order.
#[pyclass(frozen, weakref, module = "procession._native")]
pub(crate) struct Subscription {
    feed: Owned<Arc<Monitor<Feed>>>,
    output: bool,
    lifecycle: bool,
}

impl Subscription {
    fn start(output: bool, lifecycle: bool, feed: Feed) -> Self {
        Self { feed: Owned::new(Arc::new(Monitor::new(feed))), output, lifecycle }
    }

    /// What the output of its procs is read through, where its reader holds them up.
    pub(crate) fn gate(&self) -> Option<Gate> {
        self.feed.peek(|feed| feed.queue.gate())
    }

    /// `count` procs are followed from now on.
    pub(crate) fn expect(&self, count: usize) {
        self.feed.update(|feed| {
            feed.live += count;
            feed.waits_for_procs = false;
        });
    }

    fn owner(&self) -> Owner {
        let feed: Arc<dyn Any + Send + Sync> = (*self.feed).clone();
        Arc::downgrade(&feed)
    }

    /// Follows one slot that [`Self::expect`] has counted.
    pub(crate) fn follow(&self) -> SlotObserver {
        let (feed, output, lifecycle) = (Arc::downgrade(&self.feed), self.output, self.lifecycle);
        let live = AtomicBool::new(true);
        Arc::new(move |launch, event| {
            let Some(feed) = feed.upgrade() else { return };
            let what = what(event, output, lifecycle);
            let ended = matches!(event, ProcEvent::Settled) && live.swap(false, Ordering::Relaxed);
            let begins = matches!(event, ProcEvent::Restarting { .. }) && !live.swap(true, Ordering::Relaxed);
            if ended || begins || what.is_some() {
                feed.update(|feed| {
                    feed.live = feed.live + usize::from(begins) - usize::from(ended);
                    if let Some(what) = what {
                        feed.queue.push(Event { about: Arc::clone(launch), at: SystemTime::now(), what });
                    }
                });
            }
        })
    }
}

fn what(event: &ProcEvent, output: bool, lifecycle: bool) -> Option<What> {
    let what = match event {
        ProcEvent::Output { stream, line, ends } => {
            let (stream, line, ends) = (stream_name(*stream), line.clone(), *ends);
            return output.then_some(What::Output { stream, line, ends });
        }
        ProcEvent::Status(status) => What::Status(*status),
        ProcEvent::Ready => What::Ready,
        ProcEvent::ActorEnded { actor, failure } => {
            What::ActorEnded { actor: actor.clone(), failure: failure.clone() }
        }
        ProcEvent::Note(text) => What::Note(text.clone()),
        ProcEvent::Exit(exit) => What::Exit(Arc::clone(exit)),
        ProcEvent::Restarting { incarnation, after, attempt, why } => {
            let (incarnation, after, attempt, why) = (*incarnation, *after, *attempt, why.clone());
            What::Restarting { incarnation, after, attempt, why }
        }
        ProcEvent::RestartLimit(limit) => What::RestartLimit(limit.clone()),
        ProcEvent::Settled => return None,
    };
    lifecycle.then_some(what)
}

fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

fn event_dict<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyDict>> {
    let Event { about, at, what } = event;
    let dict = PyDict::new(py);
    let set_kind = |kind: &str| dict.set_item(intern!(py, "kind"), kind);
    dict.set_item(intern!(py, "proc_id"), about.proc_id.as_str())?;
    dict.set_item(intern!(py, "rank"), about.rank)?;
    dict.set_item(intern!(py, "name"), about.proc_id.name())?;
    dict.set_item(intern!(py, "incarnation"), about.incarnation)?;
    dict.set_item(intern!(py, "at"), epoch_seconds(*at))?;
    match what {
        What::Output { stream, line, ends } => {
            set_kind("output")?;
            dict.set_item(intern!(py, "stream"), stream)?;
            dict.set_item(intern!(py, "line"), line)?;
            dict.set_item(intern!(py, "ends"), ends)?;
        }
        What::Dropped { stream, count } => {
            set_kind("dropped")?;
            dict.set_item(intern!(py, "stream"), stream)?;
            dict.set_item(intern!(py, "count"), count)?;
        }
        What::Status(status) => {
            set_kind("status")?;
            dict.set_item(intern!(py, "status"), status.as_str())?;
        }
        What::Ready => set_kind("ready")?,
        What::ActorEnded { actor, failure } => {
            set_kind("actor_ended")?;
            dict.set_item(intern!(py, "actor"), actor.to_string())?;
            dict.set_item(intern!(py, "failure"), failure)?;
        }
        What::Note(text) => {
            set_kind("note")?;
            dict.set_item(intern!(py, "text"), text)?;
        }
        What::Exit(exit) => {
            set_kind("exit")?;
            dict.set_item(intern!(py, "exit"), exit_dict(py, exit)?)?;
        }
        What::Restarting { incarnation, after, attempt, why } => {
            set_kind("restarting")?;
            dict.set_item(intern!(py, "next_incarnation"), incarnation)?;
            dict.set_item(intern!(py, "after"), after.as_secs_f64())?;
            dict.set_item(intern!(py, "attempt"), attempt.map(|(attempt, _)| attempt))?;
            dict.set_item(intern!(py, "of"), attempt.map(|(_, of)| of))?;
            dict.set_item(intern!(py, "why"), why)?;
        }
        What::RestartLimit(limit) => {
            set_kind("restart_limit")?;
            dict.set_item(intern!(py, "limit"), limit)?;
        }
    }
    Ok(dict)
}

#[pymethods]
impl Subscription {
    #[new]
    #[pyo3(signature = (*, output, lifecycle))]
    fn new(output: bool, lifecycle: bool) -> PyResult<Self> {
        refuse_in_fork()?;
        let queue = EventQueue::holding_up(Gate::default());
        Ok(Self::start(output, lifecycle, Feed { queue, waits_for_procs: true, live: 0 }))
    }

    #[pyo3(signature = (timeout))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyDict>>> {
        refuse_in_fork()?;
        let deadline = deadline(timeout)?;
        loop {
            let (event, at_end) = self.feed.peek(|feed| (feed.queue.pop(), feed.is_at_end()));
            match event {
                Some(event) => return Ok(Some(event_dict(py, &event)?)),
                None if at_end => return Ok(None),
                None => {}
            }
            let wait = |until| self.feed.wait(HAS_SOMETHING, until).then_some(());
            if block_on(py, deadline, wait)?.is_none() {
                return Ok(None);
            }
        }
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        refuse_in_fork()?;
        let events = self.feed.peek(|feed| feed.queue.pop_some());
        events.iter().map(|event| event_dict(py, event)).collect()
    }

    fn waiter(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        Ok(Waiter::on(&self.feed, HAS_SOMETHING))
    }

    #[getter]
    fn ended(&self) -> PyResult<bool> {
        refuse_in_fork()?;
        Ok(self.feed.peek(|feed| feed.is_at_end()))
    }
}

/// Follows some procs from now on. Of those that have ended it hears the exit.
#[pyfunction]
#[pyo3(signature = (procs, *, output, lifecycle))]
pub(crate) fn subscribe(
    py: Python<'_>,
    procs: Vec<PyRef<'_, ProcHandle>>,
    output: bool,
    lifecycle: bool,
) -> PyResult<Subscription> {
    Ok(follow(py, &procs, output, lifecycle, None)?.0)
}

/// As [`subscribe`] for output, and what is kept of the past: of each proc the lines of stdout and of stderr. A line is
/// either among them or will be read, and never both.
#[pyfunction]
#[pyo3(signature = (procs, lines))]
pub(crate) fn subscribe_with_past(
    py: Python<'_>,
    procs: Vec<PyRef<'_, ProcHandle>>,
    lines: Option<usize>,
) -> PyResult<(Subscription, Vec<[Vec<String>; 2]>)> {
    follow(py, &procs, true, false, lines)
}

fn follow(
    py: Python<'_>,
    procs: &[PyRef<'_, ProcHandle>],
    output: bool,
    lifecycle: bool,
    lines: Option<usize>,
) -> PyResult<(Subscription, Vec<[Vec<String>; 2]>)> {
    refuse_in_fork()?;
    let subscription = Subscription::start(output, lifecycle, Feed::default());
    subscription.expect(procs.len());
    let slots: Vec<Slot> = procs.iter().map(|proc_| (*proc_.0).clone()).collect();
    let past = py.detach(|| {
        let follow = |slot: &Slot| match lines {
            None => slot.watch_with_past(subscription.follow(), Some(subscription.owner())),
            Some(count) => {
                slot.watch_with_last_lines(subscription.follow(), Some(subscription.owner()), count)
            }
        };
        slots.iter().map(follow).collect()
    });
    Ok((subscription, past))
}
