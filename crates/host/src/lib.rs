//! Where the parts meet: the host that launches and supervises procs, and the bootstrap of a child.

mod alarms;
mod child;
mod core;
mod dead_hosts;
mod door;
mod drain;
mod driver;
mod effects;
mod gate;
mod host;
mod hub;
mod launching;
mod notify;
mod observers;
mod output;
mod owner;
mod payload;
mod proc_ref;
mod record;
mod request;
mod run_dir;
mod spec;
mod witness;

pub use child::{Child, ChildError, take_bootstrap};
pub use dead_hosts::{DeadHost, LeftProcess, dead_hosts};
pub use gate::Gate;
pub use host::{BootstrapProcManager, Host, HostError};
pub use observers::{Observer, ProcEvent};
pub use output::Stream;
pub use proc_ref::{ProcRef, ProcSnapshot};
pub use procession_supervise::{Policy, Readiness};
pub use spec::SpawnSpec;
