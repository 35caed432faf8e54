//! Procs on other machines: a server there, and the launcher that asks it.
//!
//! Both ends of a connection have the same session key. Over it each client has a launcher of its own on the server's
//! machine, and what it launched there ends with the connection.
//!
//! A zygote has such a desk too, which its host reaches over the connection that it has anyway.

mod address;
mod connection;
mod counter;
mod desk;
mod error;
mod inflow;
mod launcher;
mod line;
mod message;
mod pump;
mod remote;
mod server;

pub(crate) use counter::Counter;
pub use error::WorkerError;
pub use launcher::{WorkerDial, WorkerLauncher};
pub(crate) use line::Line;
pub(crate) use message::{DESK, How};
pub(crate) use remote::{ANSWER, Remote, Session};
pub use server::WorkerServer;
