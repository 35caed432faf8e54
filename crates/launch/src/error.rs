use std::io;

/// Why a launcher could not do what it was asked. Every message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ProcLauncherError {
    /// The operating system refused to start the program.
    #[error("{0}")]
    Launch(#[source] io::Error),
    /// The proc could not be asked to end.
    #[error("terminate failed: {0}")]
    Terminate(String),
    /// The proc could not be killed.
    #[error("kill failed: {0}")]
    Kill(String),
    /// No proc of that id was launched here.
    #[error("no proc {0} was launched by this launcher; check the id, or list the procs of the mesh")]
    NotFound(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}
