//! The Python module procession._native.

mod actor_launcher;
mod answer;
mod blocking;
mod buffers;
mod call;
mod certificate_dict;
mod claims;
mod completions;
mod confinement;
mod core;
mod dead_hosts;
mod errors;
mod event_fd;
mod event_queue;
mod exit_dict;
mod fork;
mod inbox_py;
mod io_thread;
mod module;
mod monitor;
mod port;
mod port_receiver;
mod procs;
mod replies;
mod respawn;
mod restart;
mod runtime;
mod subscription;
mod supervised;
mod time;
mod trace;
mod waiter;
mod worker;

pub mod exit_decode;
mod inbox;
mod message;
mod object_actor;
pub mod opened;
mod pickle;
mod python_actor;

pub use actor_launcher::ActorProcLauncher;
pub use exit_decode::convert_py_exit_result;
pub use inbox::{Inbox, Incoming};
pub use message::{
    EitherPortRef, MethodSpecifier, PYTHON_TAG, Payload, PythonMessage, PythonMessageKind, PythonOncePortRef,
    PythonPortRef,
};
pub use object_actor::embed;
pub use pickle::Pickle;
pub use python_actor::PythonActor;
