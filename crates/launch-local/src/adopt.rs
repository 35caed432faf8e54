//! Taking over what an earlier host of the same directory has launched.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use procession_launch::{LaunchResult, ProcLauncherError, StdioHandling};
use procession_model::{LaunchId, ProcExitKind, ProcExitResult};
use procession_sys::{Process, Snapshot};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::driver::{Leader, Started, kind_of};
use crate::exits::Ended;
use crate::launcher::{Keeper, NativeLauncher, handling};
use crate::survivors::{Asked, Survivor, look_after};

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
        let (home, handed) = {
            let mut known = self.known();
            (known.home(), known.take_handed(launch))
        };
        let Some(home) = home else {
            let text = "this launcher has no state directory, and so nothing to take over; start it with one";
            return Err(ProcLauncherError::Other(text.to_owned()));
        };
        if let Some(Started { pid, pipes, exit }) = handed {
            let started_at = Process::look(pid).ok().and_then(|process| process.started_at());
            let stdio = handling(pipes)?;
            return Ok(LaunchResult {
                pid: Some(pid),
                started_at: started_at.unwrap_or_else(SystemTime::now),
                stdio,
                exit_rx: exit,
            });
        }
        let look = move || (home.ended(launch), find(launch, pid));
        let (ended, process) =
            spawn_blocking(look).await.map_err(|error| ProcLauncherError::Other(error.to_string()))?;
        let ended = ended.map_err(|error| {
            ProcLauncherError::Other(format!(
                "how earlier procs ended cannot be read: {error}; see to the state directory"
            ))
        })?;
        Ok(match (ended, process) {
            (Some(ended), _) => over(Some(ended.pid), exit_of(&ended)),
            (None, Some(process)) => self.watch(launch, &process),
            (None, None) => {
                let reason = format!("{UNKEPT}, and it has ended since, or its pid means another process");
                over(pid.map(|(pid, _)| pid), ProcExitResult::new(ProcExitKind::Lost { reason }))
            }
        })
    }

    /// Nobody's child that we know of: it is watched as what has lost its keeper and guard.
    fn watch(&self, launch: LaunchId, process: &Process) -> LaunchResult {
        let (exit, exit_rx) = oneshot::channel();
        let (commands, mut asked) = mpsc::unbounded_channel();
        let keeper = Keeper { commands, retired: Arc::new(AtomicBool::new(true)), detached: true };
        let weak = Arc::downgrade(&self.known);
        let leader = Leader::new(process.pid, process.started);
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let number = known.enter(launch, keeper);
            let survivor = Survivor::new(number, launch, leader, exit, weak);
            tokio::spawn(async move {
                let before = Asked {
                    terminations: HashMap::new(),
                    kills: HashMap::new(),
                    ends: Vec::new(),
                    told_to_end: false,
                    detached: true,
                };
                let waiting = look_after(vec![survivor], &mut asked, before, UNKEPT).await;
                crate::driver::answer(waiting, ());
            });
        }
        let started_at = process.started_at().unwrap_or_else(SystemTime::now);
        LaunchResult { pid: Some(process.pid), started_at, stdio: StdioHandling::Inherited, exit_rx }
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
    LaunchResult { pid, started_at: SystemTime::now(), stdio: StdioHandling::Inherited, exit_rx }
}
