//! The launcher for systemd: each proc is a transient unit of the system manager, or of a user's.

mod bus;
mod config;
mod controllers;
mod environment;
mod error;
mod outcome;
mod output;
mod patch;
mod systemd;
mod unit;

pub use config::SystemdConfig;
pub use error::SystemdError;
pub use systemd::Systemd;
