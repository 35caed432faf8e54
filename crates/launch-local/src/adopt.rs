//! Taking over what an earlier host of the same directory has launched.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use procession_launch::{LaunchResult, ProcLauncherError, StdioHandling};
use procession_model::{LaunchId, ProcExitKind, ProcExitResult};
use procession_sys::{Process, Snapshot};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::driver::{Leader, Started, answer, kind_of};
use crate::exits::Ended;
use crate::launcher::{Keeper, NativeLauncher, handling};
use crate::survivors::{Asked, Survivor, look_after};

/// What nobody knows of, and of which there is no process.
const NEVER: &str =
    "its host ended before it had started it: there is no process of it, and nobody has seen one";
/// Why nothing more is known of what no keeper has handed over.
const UNKEPT: &str = "its keeper and the guard above it ended while it had no host";

impl NativeLauncher {
    /// From its keeper; else from what that wrote down; else, as no child of anybody who knows it, by its pid or,
    /// where that is not known, by its marker.
    pub(crate) async fn take_over(
        &self,
        launch: LaunchId,
        pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let (has_home, handed, ended) = {
            let mut known = self.known();
            (known.has_home(), known.take_handed(launch), known.take_exit(launch))
        };
        if !has_home {
            let text = "this launcher has no state directory, and so nothing to take over; start it with one";
            return Err(ProcLauncherError::Other(text.to_owned()));
        }
        if let Some(Started { pid, pipes, exit }) = handed {
            let started_at = Process::look(pid).ok().and_then(|process| process.started_at());
            let started_at = started_at.unwrap_or_else(SystemTime::now);
            return Ok(LaunchResult {
                pid: Some(pid),
                started_at,
                stdio: handling(pipes)?,
                exit_rx: exit,
                reports: None,
            });
        }
        if let Some(ended) = ended {
            return Ok(over(Some(ended.pid), exit_of(&ended)));
        }
        // Looks through `/proc` away from the runtime's threads.
        let found = spawn_blocking(move || find(launch, pid)).await;
        let found =
            found.map_err(|error| ProcLauncherError::Other(format!("it was not looked for: {error}")))?;
        Ok(found.map(|process| self.watch(launch, &process)).unwrap_or_else(|| {
            let Some((pid, _)) = pid else {
                return over(None, ProcExitResult::failed(NEVER));
            };
            let reason = format!("{UNKEPT}, and it has ended since, or its pid means another process");
            over(Some(pid), ProcExitResult::new(ProcExitKind::Lost { reason }))
        }))
    }

    /// Nobody's child that we know of: it is watched as what has lost its keeper and guard.
    fn watch(&self, launch: LaunchId, process: &Process) -> LaunchResult {
        let (exit, exit_rx) = oneshot::channel();
        let (commands, mut asked) = mpsc::unbounded_channel();
        let keeper = Keeper { commands, retired: Arc::new(AtomicBool::new(true)), detached: true };
        let weak = Arc::downgrade(&self.known);
        let leader = Leader::new(process.pid, process.started);
        let number = self.known().inherit_survivor(launch, keeper);
        let survivor = Survivor::new(number, launch, leader, exit, weak);
        tokio::spawn(async move {
            let before = Asked { detached: true, ..Asked::default() };
            answer(look_after(vec![survivor], &mut asked, before, UNKEPT).await, ());
        });
        let started_at = process.started_at().unwrap_or_else(SystemTime::now);
        LaunchResult {
            pid: Some(process.pid),
            started_at,
            stdio: StdioHandling::Inherited,
            exit_rx,
            reports: None,
        }
    }
}

/// The leader, if it lives.
fn find(launch: LaunchId, pid: Option<(u32, u64)>) -> Option<Process> {
    if let Some((pid, started)) = pid {
        return Process::look(pid).ok().filter(|found| found.started == started && found.is_alive());
    }
    let (all, marker) = (Snapshot::take().ok()?, launch.to_string());
    let leads = |process: &&Process| {
        process.session == process.pid && process.is_alive() && process.belongs_to(&marker)
    };
    all.all().iter().filter(leads).min_by_key(|process| process.started).cloned()
}

fn exit_of(ended: &Ended) -> ProcExitResult {
    ProcExitResult {
        ended_at: Some(UNIX_EPOCH + ended.at),
        oom: ended.oom,
        ..ProcExitResult::new(kind_of(ended.status))
    }
}

fn over(pid: Option<u32>, exit: ProcExitResult) -> LaunchResult {
    let (sender, exit_rx) = oneshot::channel();
    // Its receiver is right here.
    let _ = sender.send(exit);
    LaunchResult {
        pid,
        started_at: SystemTime::now(),
        stdio: StdioHandling::Inherited,
        exit_rx,
        reports: None,
    }
}
