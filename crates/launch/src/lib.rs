//! The launcher contract: what starts, stops and watches a proc on one substrate.
//!
//! A launcher knows one substrate and nothing of lifecycles: readiness, clocks, escalation and the
//! one exit report belong to the proc manager.

mod combine;
mod error;
#[cfg(feature = "fake")]
mod fake;
mod follow;
mod found;
mod launcher;
mod lines;
mod managed;
mod pieces;
mod pipe;
mod report;
mod simple;
mod tail;

pub use combine::{Chaos, ChaosRates, Fallback, Recording, Replay, Retry, TapeError, Throttle};
pub use error::ProcLauncherError;
#[cfg(feature = "fake")]
pub use fake::{FakeEnd, FakeLauncher, FakeStep, Script, Terminated};
pub use follow::follow;
pub use found::{Found, Labels};
pub use launcher::{
    Admission, Capabilities, Confines, LaunchResult, ProcLauncher, Relayed, StdioHandling, Ticket,
};
pub use lines::Lines;
pub use managed::{Engine, Managed};
pub use report::{Report, Reports};
pub use simple::{Context, Launcher, Output, Signal, WaitError};
pub use tail::Tail;
