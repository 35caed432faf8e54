use procession_model::InvalidArgument;

/// Why there is no launcher for an engine.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// No engine answers.
    #[error("no engine answers at {host}: {why}; start it, or give host= or DOCKER_HOST")]
    Unreachable {
        /// Where it was looked for.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// Its containers could not reach this machine.
    #[error("it is not known how containers of network {network:?} reach this machine: {why}; give bind=")]
    NoWayBack {
        /// The network.
        network: String,
        /// What is missing.
        why: String,
    },
}
