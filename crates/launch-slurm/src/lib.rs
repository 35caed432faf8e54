//! The launcher for Slurm: each proc is a job, or an element of a job array that was submitted for many at once.

mod cluster;
mod config;
mod error;
mod files;
mod gather;
mod outcome;
mod poller;
mod row;
mod script;
mod slurm;
mod submit;
mod tools;

pub use config::SlurmConfig;
pub use error::SlurmError;
pub use slurm::Slurm;
