use crate::port_table::PortTable;
use crate::sync::{Mutex, PoisonError};

#[derive(Default)]
enum State {
    #[default]
    Unbound,
    Bound(u64),
    ReceiverGone,
}

/// What the two ends of a port agree on: its entry in the port table, which exists from the first
/// `bind` until the receiver goes, in whatever order these come.
#[derive(Default)]
pub(crate) struct Binding(Mutex<State>);

impl Binding {
    /// The port's index, under which `open` opens it the first time; with the receiver gone, an
    /// index that nothing is open under.
    pub(crate) fn bind(&self, table: &PortTable, open: impl FnOnce() -> u64) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Bound(index) => index,
            State::ReceiverGone => table.unused(),
            State::Unbound => {
                let index = open();
                *state = State::Bound(index);
                index
            }
        }
    }

    /// The port's index, once it has one.
    pub(crate) fn index(&self) -> Option<u64> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Bound(index) => Some(index),
            State::Unbound | State::ReceiverGone => None,
        }
    }

    /// The receiver goes, and the entry looks after itself.
    pub(crate) fn leave(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::ReceiverGone;
    }

    /// The receiver goes, and the entry with it.
    pub(crate) fn close(&self, table: &PortTable) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::ReceiverGone);
        drop(state);
        if let State::Bound(index) = before {
            table.close(index);
        }
    }
}
