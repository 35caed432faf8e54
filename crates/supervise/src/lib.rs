//! The brain of the proc manager: one pure state machine, events in, effects out.
//!
//! One [`State`] is one launch. It knows no clock, no runtime and no operating system: a driver
//! feeds [`State::step`] what happened, and does what comes back, in that order. One [`GroupState`] is
//! a group of slots that are launched again by a policy, in the same manner.

mod case_file;
mod effect;
mod ended;
mod ending;
mod event;
mod merge;
mod policy;
mod restart_class;
mod restart_count;
mod restart_group;
mod restart_policy;
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
pub use restart_class::{HOST, RESTART, counts_as, is_final_stop};
pub use restart_count::RestartLimit;
pub use restart_group::{Fate, GroupEffect, GroupEvent, GroupState, GroupTimer};
pub use restart_policy::{ActorsAfter, Backoff, Budgets, RestartPolicy, RestartStrategy, RestartWhen};
pub use running::READY_DEADLINE;
pub use state::State;
pub use verdict::{BootFailure, judge, verdict};
