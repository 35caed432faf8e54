use std::sync::Arc;
use std::time::Duration;

use procession_actor::{Held, Proc};
use procession_model::PortId;
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::answer::{Answer, CANCELLED, Received, TIMED_OUT};
use crate::blocking::block_on;
use crate::core::{Core, current};
use crate::fork::{Owned, refuse_in_fork};
use crate::monitor::{Due, Monitor};
use crate::plain;
use crate::waiter::Waiter;

enum Slot {
    /// With the number of the port that it is expected on, once that is open.
    Pending(Option<u64>),
    Here(Received),
    Taken,
}

/// The answers to one call.
pub(crate) struct ReplyState {
    slots: Vec<Slot>,
    pending: usize,
    first_bad: Option<usize>,
    /// What is complete, in the order of completion.
    order: Vec<usize>,
    /// What is not waited for any more, and had not come.
    given_up: Vec<usize>,
    /// What watches the deadline, until all is complete.
    alarm: Option<AbortHandle>,
}

const ALL: Due<ReplyState> = (|state, _| state.pending == 0 || state.first_bad.is_some(), 0);

/// As many have completed that there is one at `place` of the order.
fn nth(place: usize) -> Due<ReplyState> {
    (|state, place| state.order.len() > place, place)
}

fn one(index: usize) -> Due<ReplyState> {
    (|state, index| !matches!(state.slots[index], Slot::Pending(_)), index)
}

impl ReplyState {
    pub(crate) fn expecting(answers: usize) -> Self {
        let slots = (0..answers).map(|_| Slot::Pending(None)).collect();
        let order = Vec::with_capacity(answers);
        Self { slots, pending: answers, first_bad: None, order, given_up: Vec::new(), alarm: None }
    }

    fn settle(&mut self, index: usize, received: Received) {
        if !matches!(self.slots[index], Slot::Pending(_)) {
            return;
        }
        if received.is_bad() {
            self.first_bad.get_or_insert(index);
        }
        self.slots[index] = Slot::Here(received);
        self.pending -= 1;
        self.order.push(index);
        if self.pending == 0
            && let Some(alarm) = self.alarm.take()
        {
            alarm.abort();
        }
    }

    /// Settles all that is pending as `outcome`; gives the numbers of the ports that nobody waits on any more.
    fn give_up(&mut self, outcome: u8) -> Vec<u64> {
        let mut ports = Vec::new();
        for index in 0..self.slots.len() {
            if let Slot::Pending(port) = self.slots[index] {
                ports.extend(port);
                self.given_up.push(index);
                self.settle(index, Received::bare(outcome, ""));
            }
        }
        ports
    }

    fn take(&mut self, index: usize) -> Result<Option<Received>, &'static str> {
        match std::mem::replace(&mut self.slots[index], Slot::Taken) {
            Slot::Here(received) => Ok(Some(received)),
            Slot::Pending(port) => {
                self.slots[index] = Slot::Pending(port);
                Ok(None)
            }
            Slot::Taken => Err("this answer was taken before"),
        }
    }
}

/// The answers to one call, by position.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Replies {
    state: Owned<Arc<Monitor<ReplyState>>>,
    count: usize,
}

impl Replies {
    pub(crate) fn new(state: ReplyState) -> Self {
        let count = state.slots.len();
        Self { state: Owned::new(Arc::new(Monitor::new(state))), count }
    }

    /// The right to give the answer at `index`. An answer that nobody waits for any more is dropped.
    pub(crate) fn open(&self, core: &Core, index: usize) -> Arc<Held> {
        let state = Arc::downgrade(&self.state);
        let held = core.mailbox.open_once_sink(move |answer| {
            if let Some(state) = state.upgrade() {
                let received = Received::from(answer);
                state.update(|state| state.settle(index, received));
            }
        });
        self.state.peek(|state| state.slots[index] = Slot::Pending(Some(held.port().index)));
        held
    }

    /// What has not come when `timeout` is over is waited for no longer.
    pub(crate) fn end_in(&self, core: &Core, timeout: Duration) {
        let (state, proc_) = (Arc::clone(&self.state), core.proc_.clone());
        let at = Instant::now() + timeout;
        let alarm = core.handle.spawn(async move {
            sleep_until(at).await;
            give_up(&state, &proc_, TIMED_OUT);
        });
        let alarm = alarm.abort_handle();
        self.state.peek(|state| match state.pending {
            0 => alarm.abort(),
            _ => state.alarm = Some(alarm),
        });
    }

    /// The answer at `index`, taken.
    #[cfg(test)]
    pub(crate) fn received(&self, index: usize) -> Option<Received> {
        self.state.peek(|state| state.take(index)).expect("nobody took it before")
    }

    /// The answer at `index`, where it is a plain value that has come and was not taken; it is not taken by this.
    fn plain<'py>(&self, py: Python<'py>, index: usize) -> Option<Bound<'py, PyAny>> {
        // Not read under the lock: what is made meanwhile may set the garbage collector off, which may run anything.
        let pickle = self.state.peek(|state| match &state.slots[index] {
            Slot::Here(received) => received.plain().cloned(),
            Slot::Pending(_) | Slot::Taken => None,
        });
        plain::loads(py, &pickle?)
    }

    fn check(&self, index: usize) -> PyResult<()> {
        refuse_in_fork()?;
        if index < self.count {
            return Ok(());
        }
        Err(PyIndexError::new_err(format!("there are {} answers, and {index} is none of them", self.count)))
    }
}

/// Waits no longer for what has not come, and says so to those who should answer; whether there was any.
fn give_up(state: &Monitor<ReplyState>, proc_: &Proc, outcome: u8) -> bool {
    let (ports, any) = state.update(|state| {
        let before = state.given_up.len();
        (state.give_up(outcome), state.given_up.len() > before)
    });
    for port in ports {
        proc_.cancel_port(&PortId::new(proc_.id().clone(), port));
    }
    any
}

#[pymethods]
impl Replies {
    fn __len__(&self) -> usize {
        self.count
    }

    fn all_done(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        Ok(Waiter::on(&self.state, ALL))
    }

    fn one_done(&self, index: usize) -> PyResult<Waiter> {
        self.check(index)?;
        Ok(Waiter::on(&self.state, one(index)))
    }

    fn take(&self, index: usize) -> PyResult<Option<Answer>> {
        self.check(index)?;
        let taken = self.state.peek(|state| state.take(index)).map_err(PyRuntimeError::new_err)?;
        Ok(taken.map(Answer::from))
    }

    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        self.check(0)?;
        if !self.state.is(one(0)) {
            block_on(py, None, |until| self.state.wait(one(0), until).then_some(()))?;
        }
        Ok(())
    }

    fn settle(&self, future: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.check(0)?;
        let py = future.py();
        let Some(value) = self.plain(py, 0) else { return Ok(false) };
        future.setattr(intern!(py, "_value"), value)?;
        self.state.peek(|state| state.slots[0] = Slot::Taken);
        Ok(true)
    }

    fn fill(&self, values: &Bound<'_, PyList>) -> PyResult<bool> {
        refuse_in_fork()?;
        let py = values.py();
        let all = (0..self.count).map(|index| self.plain(py, index)).collect::<Option<Vec<_>>>();
        let Some(all) = all else { return Ok(false) };
        all.into_iter().try_for_each(|value| values.append(value))?;
        self.state.peek(|state| state.slots.iter_mut().for_each(|slot| *slot = Slot::Taken));
        Ok(true)
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        let core = current()?;
        Ok(py.detach(|| give_up(&self.state, &core.proc_, CANCELLED)))
    }

    fn given_up(&self) -> PyResult<Vec<usize>> {
        refuse_in_fork()?;
        Ok(self.state.peek(|state| state.given_up.clone()))
    }

    fn first_bad(&self) -> PyResult<Option<usize>> {
        refuse_in_fork()?;
        Ok(self.state.peek(|state| state.first_bad))
    }

    fn nth(&self, place: usize) -> PyResult<Option<usize>> {
        self.check(place)?;
        Ok(self.state.peek(|state| state.order.get(place).copied()))
    }

    fn nth_done(&self, place: usize) -> PyResult<Waiter> {
        self.check(place)?;
        Ok(Waiter::on(&self.state, nth(place)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use procession_actor::Answer as Arrived;

    use super::*;
    use crate::answer::{LOG, RESULT};

    fn good() -> Received {
        Received { outcome: RESULT, ..Received::closed("") }
    }

    #[test]
    fn all_is_done_when_every_answer_has_come() {
        let state = Monitor::new(ReplyState::expecting(2));
        state.update(|state| state.settle(1, good()));
        assert!(!state.is(ALL) && state.is(one(1)) && !state.is(one(0)));
        state.update(|state| state.settle(0, good()));
        assert!(state.is(ALL));
        assert_eq!(state.peek(|state| state.first_bad), None);
    }

    #[test]
    fn all_is_done_at_the_first_bad_answer() {
        let state = Monitor::new(ReplyState::expecting(3));
        state.update(|state| state.settle(2, Arrived::Closed("gone".to_owned()).into()));
        assert!(state.wait(ALL, Some(Instant::now())));
        state.update(|state| state.settle(0, Received::closed("later")));
        assert_eq!(state.peek(|state| state.first_bad), Some(2));
    }

    #[test]
    fn positions_come_in_the_order_of_completion_and_once() {
        let state = Monitor::new(ReplyState::expecting(3));
        for index in [2, 0, 2] {
            state.update(|state| state.settle(index, good()));
        }
        assert!(state.is(nth(1)) && !state.is(nth(2)));
        state.peek(|state| assert_eq!((&state.order[..], state.pending), (&[2, 0][..], 1)));
    }

    #[test]
    fn an_answer_is_given_once() {
        let mut state = ReplyState::expecting(1);
        assert!(state.take(0).unwrap().is_none());
        state.settle(0, Received { outcome: LOG, ..good() });
        assert_eq!(state.take(0).unwrap().map(|received| received.outcome), Some(LOG));
        assert!(state.take(0).is_err());
    }

    #[test]
    fn what_is_given_up_is_complete_and_an_answer_that_comes_later_changes_nothing() {
        let mut state = ReplyState::expecting(3);
        for (index, port) in [(0, 10), (1, 11), (2, 12)] {
            state.slots[index] = Slot::Pending(Some(port));
        }
        state.settle(1, good());
        assert_eq!(state.give_up(TIMED_OUT), [10, 12]);
        state.settle(2, good());
        assert!(state.give_up(CANCELLED).is_empty());
        assert_eq!((state.first_bad, state.pending, &state.given_up[..]), (Some(0), 0, &[0, 2][..]));
        assert_eq!(state.take(2).unwrap().map(|received| received.outcome), Some(TIMED_OUT));
        assert_eq!(state.take(1).unwrap().map(|received| received.outcome), Some(RESULT));
    }

    #[test]
    fn a_call_of_nobody_is_done_at_once() {
        let state = Monitor::new(ReplyState::expecting(0));
        assert!(state.is(ALL));
    }
}
