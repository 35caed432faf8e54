//! Procs on other machines: a server there, and the launcher that asks it.
//!
//! Both ends of a connection have the same session key. Over it each client has a launcher of its own on the server's
//! machine, and what it launched there ends with the connection.
//!
//! A zygote has such a desk too, which its host reaches over the connection that it has anyway.

mod address;
mod agent_connection;
mod agent_launcher;
mod connection;
mod counter;
mod desk;
mod error;
mod inflow;
mod inner;
mod launcher;
mod line;
mod message;
mod over_stdio;
mod pump;
mod relay;
mod remote;
mod server;

pub use agent_connection::{Guard, Stream as AgentStream, Way};
pub use agent_launcher::{AgentDial, AgentLauncher, FarLauncher};
pub(crate) use counter::Counter;
pub use error::WorkerError;
pub use inner::Engines;
pub use launcher::{WorkerDial, WorkerLauncher};
pub(crate) use line::Line;
pub(crate) use message::{DESK, How};
pub use over_stdio::{AGENT_SPEAKS, serve_stdio};
pub(crate) use remote::{ANSWER, Remote, Session};
pub use server::WorkerServer;
