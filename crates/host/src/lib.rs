//! Where the parts meet: the host that launches and supervises procs, and the bootstrap of a child.

mod alarms;
mod boot_clock;
mod child;
mod clock;
mod common_file;
mod core;
mod dead_hosts;
mod door;
mod drain;
mod driver;
mod dry_run;
mod effects;
mod flight;
mod flight_layout;
mod gate;
mod group;
mod head;
mod history;
mod holdings;
mod host;
mod hub;
mod incarnations;
mod input;
mod kept;
mod launching;
mod leads;
mod ledger;
mod lent;
mod line;
mod listening;
mod log_files;
mod notify;
mod observers;
mod outliving;
mod output;
mod owner;
mod payload;
mod payload_file;
mod peers;
mod place;
mod pool;
mod proc_ref;
mod reach;
mod recording;
mod records;
mod request;
mod run_dir;
mod run_record;
mod slot;
mod small_pipes;
mod spec;
mod transit;
#[cfg(feature = "virtual-time")]
mod virtual_time;
mod watchdog;
mod witness;
mod worker;
mod zygote;

pub use child::{Child, ChildError, take_bootstrap};
pub use dead_hosts::{DeadHost, LeftProcess, dead_hosts};
pub use flight::{FlightFile, Recorder};
pub use gate::Gate;
pub use group::Opening;
pub use history::History;
pub use holdings::Ownership;
pub use host::{BootstrapProcManager, Host, HostError, Inherited};
#[doc(hidden)]
pub use ledger::read_journal;
pub use observers::{Launch, Observer, Owner, ProcEvent, SlotObserver};
pub use output::Stream;
pub use pool::Pool;
pub use proc_ref::{ProcRef, ProcSnapshot};
pub use procession_supervise::{
    ActorsAfter, Backoff, Budgets, Policy, Readiness, RestartPolicy, RestartStrategy, RestartWhen,
};
pub use records::{Record, read_record, records_dir};
pub use slot::{Slot, SlotSnapshot};
pub use spec::{LogSpec, OwnerLoss, SpawnSpec};
#[cfg(feature = "virtual-time")]
pub use virtual_time::{Standstill, VirtualTime};
pub use worker::{
    AGENT_SPEAKS, AgentDial, AgentLauncher, AgentStream, Engines, FarLauncher, Guard, Way, WorkerDial,
    WorkerError, WorkerLauncher, WorkerServer, serve_stdio,
};
pub use zygote::Zygote;
