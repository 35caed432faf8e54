//! The Python module procession._native; and, for Rust programs with an interpreter in them, actors written in Python.
//!
//! [`embed`] makes a node of the program's the one of its interpreter, [`PythonActor::spawn_object`] starts an actor there.
//! Both languages send each other plain data, a [`Value`]: [`PythonActor::call`] calls an endpoint; a
//! [`PythonMessage::result`] goes to a port of Python's, and [`PythonMessage::into_value`] reads what comes from there to a
//! mailbox, or, with [`PythonPortRef::to_actor`], to an actor written in Rust.

mod actor_launcher;
mod alarm;
mod answer;
mod blocking;
mod buffers;
mod call;
mod certificate_dict;
mod claims;
mod combine;
mod completions;
mod confinement;
#[cfg(feature = "conformance")]
mod conformance;
mod core;
mod dead_hosts;
mod engine;
mod engine_kinds;
mod errors;
mod event_fd;
mod event_queue;
mod exit_dict;
mod fake;
mod fork;
mod inbox_py;
mod io_thread;
mod lead;
mod method;
mod module;
mod monitor;
mod parker;
mod plain;
mod port;
mod port_receiver;
mod procs;
mod replies;
mod respawn;
mod restart;
mod runtime;
mod serving;
mod signals;
mod subscription;
mod supervised;
mod time;
mod trace;
mod views;
mod virtual_time;
mod waiter;
mod worker;
mod zygote;

pub mod exit_decode;
mod inbox;
mod message;
mod object_actor;
pub mod opened;
mod pickle;
mod python_actor;
mod unpickle;
mod value;

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
pub use value::{Value, ValueError};
