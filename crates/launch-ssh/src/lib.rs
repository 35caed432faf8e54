//! The launcher for other machines, through the user's own `ssh`: an agent there launches, and all goes through one connection.

mod config;
mod connect;
mod script;

pub use config::SshConfig;
pub use connect::{SshError, connect};
