//! The launcher for container engines that speak Docker's API: Docker and Podman. Each proc is a container.

mod config;
mod docker;
mod error;
mod failure;
mod init;
mod outcome;
mod request;

pub use config::{DockerConfig, Pull};
pub use docker::Docker;
pub use error::DockerError;
