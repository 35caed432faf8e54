use procession_model::InvalidArgument;

/// Why there is no launcher for a cluster.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// No controller answers.
    #[error(
        "no Slurm answers: {0}; give conf= or SLURM_CONF where its configuration is not in the usual place"
    )]
    Unreachable(String),
    /// Its nodes could not reach this machine.
    #[error("it is not known how nodes reach this machine: {0}; give bind=\"ADDRESS:0\"")]
    NoWayBack(String),
    /// There is no place for the files of jobs.
    #[error(
        "there is no directory for the files of jobs: {0}; give output_dir=, on a file system that the nodes share"
    )]
    NoDirectory(String),
}
