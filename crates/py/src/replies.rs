use std::sync::Arc;

use procession_actor::Held;
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;

use crate::answer::{Answer, Received};
use crate::core::Core;
use crate::fork::{Owned, refuse_in_fork};
use crate::monitor::{Due, Monitor};
use crate::waiter::Waiter;

enum Slot {
    Pending,
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
}

const ALL: Due<ReplyState> = (|state, _| state.pending == 0 || state.first_bad.is_some(), 0);

/// As many have completed that there is one at `place` of the order.
fn nth(place: usize) -> Due<ReplyState> {
    (|state, place| state.order.len() > place, place)
}

fn one(index: usize) -> Due<ReplyState> {
    (|state, index| !matches!(state.slots[index], Slot::Pending), index)
}

impl ReplyState {
    pub(crate) fn expecting(answers: usize) -> Self {
        let slots = (0..answers).map(|_| Slot::Pending).collect();
        Self { slots, pending: answers, first_bad: None, order: Vec::with_capacity(answers) }
    }

    fn settle(&mut self, index: usize, received: Received) {
        if !matches!(self.slots[index], Slot::Pending) {
            return;
        }
        if received.is_bad() {
            self.first_bad.get_or_insert(index);
        }
        self.slots[index] = Slot::Here(received);
        self.pending -= 1;
        self.order.push(index);
    }

    fn take(&mut self, index: usize) -> Result<Option<Received>, &'static str> {
        match std::mem::replace(&mut self.slots[index], Slot::Taken) {
            Slot::Here(received) => Ok(Some(received)),
            Slot::Pending => {
                self.slots[index] = Slot::Pending;
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
        core.mailbox.open_once_sink(move |answer| {
            if let Some(state) = state.upgrade() {
                let received = Received::from(answer);
                state.update(|state| state.settle(index, received));
            }
        })
    }

    /// The answer at `index`, taken.
    #[cfg(test)]
    pub(crate) fn received(&self, index: usize) -> Option<Received> {
        self.state.peek(|state| state.take(index)).expect("nobody took it before")
    }

    fn check(&self, index: usize) -> PyResult<()> {
        refuse_in_fork()?;
        if index < self.count {
            return Ok(());
        }
        Err(PyIndexError::new_err(format!("there are {} answers, and {index} is none of them", self.count)))
    }
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
    fn a_call_of_nobody_is_done_at_once() {
        let state = Monitor::new(ReplyState::expecting(0));
        assert!(state.is(ALL));
    }
}
