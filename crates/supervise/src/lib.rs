//! The brain of the proc manager: one pure state machine, events in, effects out.
//!
//! One [`State`] is one launch. It knows no clock, no runtime and no operating system: a driver
//! feeds [`State::step`] what happened, and does what comes back, in that order.

mod case_file;
mod effect;
mod ended;
mod ending;
mod event;
mod merge;
mod policy;
mod running;
mod starting;
mod state;
mod stopping;
mod unknown;
mod verdict;

pub use case_file::{Beside, CaseFile};
pub use effect::{Effect, Ended, Note};
pub use event::{Event, StopHow, Timer};
pub use policy::{Policy, Readiness};
pub use running::READY_DEADLINE;
pub use state::State;
pub use verdict::{BootFailure, judge, verdict};
