use procession_net::{InvalidAddress, KeyError, ListenError, TlsError};

/// Why a machine is not served, or not reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// There is no session key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// Nothing can be listened to.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No certificates can be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No agent answers.
    #[error("no agent answers at {place}: {why}")]
    Agent {
        /// Where it should be.
        place: String,
        /// What happened, and what to do next.
        why: String,
    },
    /// The agent has not got the launcher that it was to launch through.
    #[error("the launcher {kind} cannot be used at {place}: {why}")]
    Launcher {
        /// Where it should be.
        place: String,
        /// Which one.
        kind: String,
        /// What happened there.
        why: String,
    },
    /// Nobody there takes this end in.
    #[error("worker {address} cannot be reached: {why}")]
    Reach {
        /// Where it should be.
        address: String,
        /// What happened, and what to do next.
        why: String,
    },
}
