//! The one thread that children of this very process are spawned from. They are armed to die with
//! the thread that made them, so it has to be one that never ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::{io, process, thread};

use procession_launch::ProcLauncherError;

use crate::failure::LaunchFailure;

type Job = Box<dyn FnOnce() + Send>;

/// The process that it is a thread of, and what it is asked through.
type Spawner = (u32, mpsc::Sender<Job>);

fn spawner() -> io::Result<&'static Spawner> {
    static SPAWNER: OnceLock<Spawner> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner);
    }
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner);
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    let run = move || {
        while let Ok(job) = jobs.recv() {
            // Whoever waits for the answer learns of a panic; the thread must outlive it.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    };
    // Only what could be made is kept: the next call may have more luck.
    thread::Builder::new().name("procession-spawn".into()).spawn(run)?;
    Ok(SPAWNER.get_or_init(|| (process::id(), sender)))
}

/// Runs `job` on that thread, and blocks until it is done.
///
/// # Errors
/// This process is a fork, without the thread; or the thread could not be made.
pub(crate) fn on_immortal_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ProcLauncherError> {
    let (owner, sender) = spawner().map_err(|error| {
        LaunchFailure::of("the thread that spawns could not be made; try again, or raise ulimit -u", &error)
    })?;
    if *owner != process::id() {
        return Err(ProcLauncherError::Other(format!(
            "process {} is a fork of {owner}, and forks have no runtime; start it with the spawn method instead",
            process::id()
        )));
    }
    let (answer, result) = mpsc::channel();
    let send = move || drop(answer.send(job()));
    sender.send(Box::new(send)).ok().and_then(|()| result.recv().ok()).ok_or_else(|| {
        ProcLauncherError::Other("the thread that spawns panicked; see the log for where".to_owned())
    })
}

#[cfg(test)]
mod f27 {
    use procession_sys::{Orphaned, SpawnSpec, spawn};

    use super::*;

    #[test]
    fn a_job_that_panics_does_not_end_the_thread_nor_what_was_spawned_from_it() {
        let started = on_immortal_thread(|| {
            let argv = vec![c"sleep".to_owned(), c"1000".to_owned()];
            let spec = SpawnSpec::new(c"/bin/sleep".to_owned(), argv, Vec::new());
            (spawn(&SpawnSpec { orphaned: Orphaned::Dies, ..spec }).unwrap(), thread::current().id())
        });
        let (child, thread) = started.unwrap();
        let panicked = on_immortal_thread(|| panic!("a job that fails, as told by this line"));
        assert!(panicked.map(|(): ()| ()).unwrap_err().to_string().contains("panicked"));
        assert_eq!(on_immortal_thread(|| thread::current().id()).unwrap(), thread, "it is the same thread");
        assert!(!child.pidfd.has_ended().unwrap(), "its children are not touched");
        child.pidfd.signal(libc::SIGKILL).unwrap();
        child.pidfd.wait().unwrap();
    }
}
