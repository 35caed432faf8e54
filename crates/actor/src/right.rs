use crate::sync::{Mutex, MutexGuard, PoisonError};

enum State {
    Live,
    Spent,
    /// In a message that was sent, or is about to be; if it was given up meanwhile, with the reason.
    Moved(Option<String>),
    Closed,
}

/// A right that exists once: of all who would use it, give it up or take it elsewhere, one wins.
pub(crate) struct Right(Mutex<State>);

impl Right {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Live))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave_live(&self, next: State) -> Result<(), &'static str> {
        let mut state = self.state();
        match *state {
            State::Live => {
                *state = next;
                Ok(())
            }
            State::Spent => Err("AlreadyReported"),
            State::Moved(_) => Err("AlreadyMoved"),
            State::Closed => Err("PortClosed"),
        }
    }

    /// Uses it; or the word for what was done with it before, as all here that can fail.
    pub(crate) fn spend(&self) -> Result<(), &'static str> {
        self.leave_live(State::Spent)
    }

    /// Takes it into a message.
    pub(crate) fn take_away(&self) -> Result<(), &'static str> {
        self.leave_live(State::Moved(None))
    }

    /// Whether it is still here.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.leave_live(State::Live)
    }

    /// Whether it is here, or in a message that may come back.
    pub(crate) fn can_be_used(&self) -> bool {
        matches!(*self.state(), State::Live | State::Moved(_))
    }

    pub(crate) fn is_spent(&self) -> bool {
        matches!(*self.state(), State::Spent)
    }

    /// Gives it up; true when its owner has to be told. One that is inside a message is given up when it is
    /// back, if it comes back.
    pub(crate) fn give_up(&self, reason: &str) -> bool {
        let mut state = self.state();
        match &mut *state {
            State::Live => {
                *state = State::Closed;
                true
            }
            State::Moved(given_up) => {
                given_up.get_or_insert_with(|| reason.to_owned());
                false
            }
            State::Spent | State::Closed => false,
        }
    }

    /// Undoes a use that nobody has heard of; the reason for which it was given up meanwhile, if it was.
    pub(crate) fn restore(&self) -> Option<String> {
        match std::mem::replace(&mut *self.state(), State::Live) {
            State::Moved(given_up) => given_up,
            _ => None,
        }
    }
}
