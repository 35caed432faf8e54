//! The launcher for any command line that leads to where an agent can run: `docker run -i --rm image {argv}`.

mod config;
mod connect;
mod process;
mod template;

pub use config::{CommandConfig, seconds};
pub use connect::{CommandError, connect};
pub use process::{Process, start};
pub use template::Template;
