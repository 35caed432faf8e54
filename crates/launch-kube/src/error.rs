use procession_model::InvalidArgument;

/// Why there is no launcher for a cluster.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// Nothing says where a cluster is.
    #[error("it is not known where the cluster is: {0}; give kubeconfig= or KUBECONFIG, and context=")]
    NoCluster(String),
    /// No API server answers, or not to this user.
    #[error("no Kubernetes answers at {server}: {why}")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// Its pods could not reach this machine.
    #[error("it is not known how pods reach this machine: {0}; give bind=\"ADDRESS:0\"")]
    NoWayBack(String),
}
