//! Conformance checks for launchers: what a [`ProcLauncher`](procession_launch::ProcLauncher) promises, one check for
//! each sentence of it, run on real procs.

mod check;
mod deed;
mod fault;
mod groups;
mod heard;
mod html;
mod kit;
mod looking;
mod programs;
mod recorder;
mod run;
mod stage;
mod suite;
mod table;
mod theatre;

pub use check::{Check, Need, checks};
pub use deed::{Apart, Deed};
pub use kit::{Factory, Kit};
pub use programs::Programs;
#[doc(hidden)]
pub use suite::conforms;
pub use table::{Outcome, Row, Table};
