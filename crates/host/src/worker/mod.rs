//! Procs on other machines: a server there, and the launcher that asks it.
//!
//! Both ends of a connection have the same session key. Over it each client has a launcher of its own on the server's
//! machine, and what it launched there ends with the connection.

mod address;
mod desk;
mod error;
mod inflow;
mod launcher;
mod line;
mod message;
mod pump;
mod server;
mod session;

pub use error::WorkerError;
pub use launcher::{WorkerDial, WorkerLauncher};
pub use server::WorkerServer;
