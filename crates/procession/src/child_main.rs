use procession_actor::Proc;
use procession_host::{Child, ChildError, take_bootstrap};
use tokio::runtime::Builder;

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
/// Actors run on the calling thread. The connection has a thread of its own, so that whatever an
/// actor does the program ends when its host is gone.
///
/// Has to be called first in `main`, before there is any other thread: it takes the token out of the
/// environment, and refuses where other threads may be using that.
///
/// # Errors
/// There are other threads, the host could not be reached, or `setup` failed.
pub fn child_main<E>(setup: impl FnOnce(&Proc) -> Result<(), E>) -> Result<bool, ChildMainError<E>> {
    let Some(payload) = take_bootstrap()? else { return Ok(false) };
    child_main_with(&payload, setup).map(|()| true)
}

/// What [`child_main`] does in a launched program, for one that cannot be called first in its `main`:
/// it takes the payload out of the environment itself, where [`BOOTSTRAP_ENV`](crate::BOOTSTRAP_ENV)
/// names it, and before anything that must not see the token can.
///
/// # Errors
/// The host could not be reached, or `setup` failed.
pub fn child_main_with<E>(
    payload: &str,
    setup: impl FnOnce(&Proc) -> Result<(), E>,
) -> Result<(), ChildMainError<E>> {
    let io =
        Builder::new_multi_thread().worker_threads(1).thread_name("procession-io").enable_all().build()?;
    let actors = Builder::new_current_thread().enable_all().build()?;
    let child = io.block_on(Child::dial_back_for(payload, actors.handle().clone()))?;
    actors.block_on(async {
        setup(child.proc_()).map_err(ChildMainError::Setup)?;
        child.ready();
        child.stopped().await;
        child.proc_().actors_ended().await;
        Ok::<(), ChildMainError<E>>(())
    })?;
    io.block_on(child.goodbye());
    Ok(())
}
