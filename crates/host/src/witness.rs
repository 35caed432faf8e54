use std::io;
use std::time::{Duration, Instant};

use procession_launch_local::watched;
use procession_model::LaunchId;
use procession_sys::{Pidfd, Process, Snapshot, Tree};

/// How long a sweep may take.
const SWEEP: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// A process that is not our child, and that is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) pid: u32,
    /// What tells it from later ones with its pid; 0 when it had ended before it could be looked at.
    started: u64,
}

/// Watches it: the kernel says when it ends, though not how. The future resolves at that moment.
///
/// # Errors
/// It has ended and was reaped, or no file descriptor is left.
pub(crate) fn watch(pid: u32) -> io::Result<(Watched, impl Future<Output = ()> + Send + use<>)> {
    let pidfd = watched(Pidfd::open(pid)?)?;
    let started = Process::look(pid).map_or(0, |process| process.started);
    let ended = async move {
        if let Err(error) = pidfd.readable().await {
            tracing::warn!(pid, %error, "a process cannot be watched any more");
            std::future::pending::<()>().await;
        }
    };
    Ok((Watched { pid, started }, ended))
}

/// Kills the tree of `leader`, as far as it can be seen from here; what it left behind when it has
/// ended. Blocks for a second at most.
///
/// It reaps nothing: a child of this process belongs to whoever started it, with its status.
pub(crate) fn sweep(leader: Watched, launch: LaunchId) {
    let Watched { pid, started } = leader;
    let mut tree = Tree::new(pid, started, launch.to_string(), None);
    let deadline = Instant::now() + SWEEP;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = match Snapshot::take() {
            Ok(all) => tree.signal(SIGKILL, &all),
            Err(error) => return tracing::warn!(pid, %error, "the process tree could not be swept"),
        };
        if left == 0 {
            return;
        }
        if Instant::now() >= deadline {
            return tracing::warn!(pid, left, "processes of the tree are still there");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills whatever descends from this process, the proc `launch`, until nothing is left or `SWEEP` is
/// over: by parenthood, and by the marker that what has lost its parents still carries.
pub(crate) fn kill_descendants(launch: LaunchId) {
    let deadline = Instant::now() + SWEEP;
    let own = std::process::id();
    // The proc's own mark and no other that it was started with: that may be its launcher's.
    let mut marked = Tree::marked(launch.to_string());
    while Instant::now() < deadline {
        let Ok(all) = Snapshot::take() else { return };
        let found = all.descendants([own]).into_iter().chain(marked.members(&all));
        let alive: Vec<&Process> = found.filter(|process| process.is_alive() && process.pid != own).collect();
        if alive.is_empty() {
            return;
        }
        for process in alive {
            process.signal(SIGKILL);
        }
    }
}
