//! The state machine, driven by a world in which time is virtual and every armed timer really fires.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod certificates;
mod ending;
mod groups;
mod launcher_rows;
mod random;
mod readiness;
mod restarts;
mod starting;
mod stopping;
mod transitions;
mod unknown;
mod verdicts;
mod world;
