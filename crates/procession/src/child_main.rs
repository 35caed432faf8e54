use procession_actor::Proc;
use procession_host::{Child, ChildError};
use procession_model::BOOTSTRAP_ENV;

/// Why a launched program could not work as a proc.
#[derive(Debug, thiserror::Error)]
pub enum ChildMainError<E> {
    /// The host could not be reached.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The runtime could not be started.
    #[error("the runtime could not be started: {0}")]
    Runtime(#[from] std::io::Error),
    /// The set-up failed.
    #[error("the set-up failed: {0}")]
    Setup(E),
}

/// In a launched program: reaches back, runs `setup` (which spawns the actors), and serves them until
/// the host asks for the end; then it gives true. In any other program: gives false at once.
///
/// Has to be called first in `main`, before there is any other thread: it takes the token out of the
/// environment.
///
/// # Errors
/// The host could not be reached, or `setup` failed.
pub fn child_main<E>(setup: impl FnOnce(&Proc) -> Result<(), E>) -> Result<bool, ChildMainError<E>> {
    let Some(payload) = procession_sys::take_variable(BOOTSTRAP_ENV) else { return Ok(false) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let child = Child::dial_back(&payload.to_string_lossy()).await?;
        setup(child.proc_()).map_err(ChildMainError::Setup)?;
        child.ready();
        child.stopped().await;
        child.proc_().actors_ended().await;
        child.goodbye().await;
        Ok(true)
    })
}
