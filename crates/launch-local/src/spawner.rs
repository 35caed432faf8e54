//! The one thread that children of this very process are spawned from. They are armed to die with
//! the thread that made them, so it has to be one that never ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, mpsc};
use std::{io, process, thread};

use procession_launch::ProcLauncherError;

type Job = Box<dyn FnOnce() + Send>;

static SPAWNER: OnceLock<(u32, mpsc::Sender<Job>)> = OnceLock::new();

fn start() -> (u32, mpsc::Sender<Job>) {
    let (sender, jobs) = mpsc::channel::<Job>();
    let run = move || {
        while let Ok(job) = jobs.recv() {
            // Whoever waits for the answer learns of a panic; the thread must outlive it.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    };
    // A thread that cannot be made drops the receiver, and every job is refused.
    let _ = thread::Builder::new().name("procession-spawn".into()).spawn(run);
    (process::id(), sender)
}

/// Runs `job` on that thread, and blocks until it is done.
///
/// # Errors
/// This process is a fork, without the thread; or the thread could not be made.
pub(crate) fn on_immortal_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ProcLauncherError> {
    let (owner, sender) = SPAWNER.get_or_init(start);
    if *owner != process::id() {
        return Err(ProcLauncherError::Other(format!(
            "process {} is a fork of {owner}, and forks have no runtime; start it with the spawn method instead",
            process::id()
        )));
    }
    let (answer, result) = mpsc::channel();
    let send = move || drop(answer.send(job()));
    sender.send(Box::new(send)).ok().and_then(|()| result.recv().ok()).ok_or_else(|| {
        ProcLauncherError::Launch(io::Error::other("the thread that spawns is missing; raise ulimit -u"))
    })
}
