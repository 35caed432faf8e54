//! The Python module procession._native.

mod actor_launcher;
mod event_fd;
pub mod exit_decode;
mod inbox;
mod message;
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
pub use pickle::Pickle;
pub use python_actor::PythonActor;
