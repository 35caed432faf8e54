//! What launchers of launchers do with what they are asked, by the clock of a runtime that is stopped.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod chaos;
mod choosing;
mod common;
mod recording;
mod throttle;
