//! A launcher of procs that are no processes, for tests.

mod launcher;
mod script;

pub use launcher::FakeLauncher;
pub use script::{FakeEnd, FakeStep, Script, Terminated};
