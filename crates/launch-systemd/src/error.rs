use procession_model::InvalidArgument;

/// Why there is no launcher for a manager of units.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// No manager answers.
    #[error(
        "no systemd answers on bus {bus:?}: {why}; start it (loginctl enable-linger for one of a user who is not logged in), or give bus="
    )]
    Unreachable {
        /// Which bus it was looked for on.
        bus: String,
        /// What went wrong.
        why: String,
    },
}
