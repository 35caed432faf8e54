use std::io;
use std::time::Duration;

use procession_launch_local::watched;
use procession_model::LaunchId;
use procession_sys::{Pidfd, Process, Snapshot, Tree};
use tokio::sync::mpsc::UnboundedSender;

use crate::driver::Input;
use procession_supervise::Event;

/// How long a sweep may take.
const SWEEP: Duration = Duration::from_secs(1);

/// Watches a process that is not our child: the kernel says when it ends, though not how.
pub(crate) fn spawn(pid: u32, driver: UnboundedSender<Input>) -> io::Result<()> {
    let pidfd = watched(Pidfd::open(pid)?)?;
    tokio::spawn(async move {
        if pidfd.readable().await.is_ok() {
            let _driver_gone = driver.send(Input::Event(Event::OsGone));
        }
    });
    Ok(())
}

/// Kills the tree of `pid`, as far as it can be seen from here.
pub(crate) fn sweep(pid: u32, launch: LaunchId) {
    let Ok(process) = Process::look(pid) else { return };
    let tree = Tree::new(pid, process.started, launch.to_string(), None);
    match Tree::kill(&mut [tree], SWEEP) {
        Ok(left) if left.is_empty() => {}
        Ok(left) => tracing::warn!(pid, left = left.len(), "processes of the tree are still there"),
        Err(error) => tracing::warn!(pid, %error, "the process tree could not be swept"),
    }
}

/// Kills every descendant of this process until none is left, or `SWEEP` is over.
pub(crate) fn kill_descendants() {
    let deadline = std::time::Instant::now() + SWEEP;
    let own = std::process::id();
    while std::time::Instant::now() < deadline {
        let Ok(all) = Snapshot::take() else { return };
        let alive: Vec<&Process> = all.descendants([own]).into_iter().filter(|p| p.is_alive()).collect();
        if alive.is_empty() {
            return;
        }
        for process in alive {
            process.signal(9);
        }
    }
}
