//! Where the parts meet: the host that launches and supervises procs, and the bootstrap of a child.

mod child;
mod door;
mod driver;
mod effects;
mod hub;
mod launching;
mod notify;
mod output;
mod owner;
mod payload;
mod proc_ref;
mod run_dir;
mod spec;
mod witness;

mod host;

pub use child::{Child, ChildError};
pub use host::{Host, HostError};
pub use output::Stream;
pub use proc_ref::{Observer, ProcEvent, ProcRef, ProcSnapshot};
pub use spec::SpawnSpec;
