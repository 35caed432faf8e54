//! The launcher for Kubernetes: each proc is a pod, and one watch sees what becomes of all of them.

mod client;
mod cluster;
mod config;
mod entries;
mod error;
mod kubernetes;
mod mounts;
mod outcome;
mod output;
mod pod;
mod reach;
mod request;
mod signals;
mod stage;
mod watch;

pub use config::{KubernetesConfig, PullPolicy};
pub use error::KubernetesError;
pub use kubernetes::Kubernetes;
