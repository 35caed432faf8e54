use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_launch_local::{kind_of, watched};
use procession_model::{LaunchId, ProcExitKind};
use procession_sys::{ENOUGH_EMPTY_LOOKS, LOOK_AGAIN, Pidfd, Process, Snapshot, Tree};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// How long a sweep may take.
const SWEEP: Duration = Duration::from_secs(1);

/// How long the status of an ended process is looked for: less than a launcher's report is waited for.
const STATUS: Duration = Duration::from_millis(180);

const SIGKILL: i32 = 9;

/// A process that is not our child, and that is watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) pid: u32,
    pidfd: Arc<AsyncFd<Pidfd>>,
    /// What tells it from later ones with its pid; 0 when it had ended before it could be looked at.
    started: u64,
}

impl Watched {
    /// How it ended, where the kernel tells that of a process which is not our child: its zombie shows it until
    /// its parent has reaped it, and from Linux 6.15 on the pidfd after that. Given up shortly before nobody waits
    /// for it any more. Cancel safe.
    pub(crate) fn status(&self) -> impl Future<Output = Option<ProcExitKind>> + Send + use<> {
        let Self { pid, started, .. } = *self;
        let pidfd = Arc::clone(&self.pidfd);
        async move {
            let (deadline, mut pause) = (Instant::now() + STATUS, Duration::from_micros(500));
            let shown = || Process::look(pid).ok().filter(|found| found.started == started)?.exit_status();
            while Instant::now() < deadline {
                match pidfd.get_ref().told_status().or_else(shown) {
                    Some(status) => return Some(kind_of(status)),
                    None => sleep(pause).await,
                }
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            None
        }
    }
}

/// Watches it: the kernel says when it ends. The future resolves at that moment.
///
/// # Errors
/// It has ended and was reaped, or no file descriptor is left.
pub(crate) fn watch(pid: u32) -> io::Result<(Watched, impl Future<Output = ()> + Send + use<>)> {
    let pidfd = Arc::new(watched(Pidfd::open(pid)?)?);
    let started = Process::look(pid).map_or(0, |process| process.started);
    let seen = Arc::clone(&pidfd);
    let ended = async move {
        if let Err(error) = seen.readable().await {
            tracing::warn!(pid, %error, "a process cannot be watched any more");
            std::future::pending::<()>().await;
        }
    };
    Ok((Watched { pid, pidfd, started }, ended))
}

/// Kills the tree of `leader`, as far as it can be seen from here; what it left behind when it has
/// ended. Blocks for a second at most.
///
/// It reaps nothing: a child of this process belongs to whoever started it, with its status.
pub(crate) fn sweep(leader: &Watched, launch: LaunchId) {
    let &Watched { pid, ref pidfd, started } = leader;
    // This needs no look at anything, which can fail for want of a descriptor.
    let _has_ended = pidfd.get_ref().signal(SIGKILL);
    let mut tree = Tree::new(pid, started, launch.to_string(), None);
    match until_empty(SWEEP, |all| tree.signal(SIGKILL, all)) {
        Ok(0) => {}
        Ok(left) => tracing::warn!(pid, left, "processes of the tree are still there"),
        Err(error) => tracing::warn!(pid, %error, "the process tree could not be swept"),
    }
}

/// Kills whatever descends from this process, the proc `launch`, until nothing is left or `SWEEP` is
/// over: by parenthood, and by the marker that what has lost its parents still carries.
pub(crate) fn kill_descendants(launch: LaunchId) {
    let own = std::process::id();
    // The proc's own mark and no other that it was started with: that may be its launcher's.
    let mut marked = Tree::marked(launch.to_string());
    let kill = |all: &Snapshot| {
        let found = all.descendants([own]).into_iter().chain(marked.members(all));
        let alive: Vec<&Process> = found.filter(|process| process.is_alive() && process.pid != own).collect();
        alive.iter().for_each(|process| process.signal(SIGKILL));
        alive.len()
    };
    if let Err(error) = until_empty(SWEEP, kill) {
        tracing::warn!(%error, "what this proc started could not be looked for");
    }
}

/// Looks again and again until `kill` has found nothing twice in a row, for `bound` at most; how many it
/// found last.
pub(crate) fn until_empty(bound: Duration, mut kill: impl FnMut(&Snapshot) -> usize) -> io::Result<usize> {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_millis(1);
    let mut empty = 0;
    loop {
        let found = Snapshot::take().map(|all| kill(&all));
        empty = if matches!(found, Ok(0)) { empty + 1 } else { 0 };
        if empty == ENOUGH_EMPTY_LOOKS || Instant::now() >= deadline {
            return found;
        }
        // What failed for want of a descriptor may go better in a moment.
        pause = if found.is_err() { LOOK_AGAIN } else { pause };
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(launch: LaunchId) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("300").env(procession_sys::MARKER, launch.to_string()).process_group(0);
        command.spawn().unwrap()
    }

    #[test]
    #[ignore = "a role that another test plays in a process of its own"]
    fn role_of_a_crowded_proc() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _watches_are_made_in_it = runtime.enter();
        let sweeps: [fn(&Watched, LaunchId); 2] = [|_, launch| kill_descendants(launch), sweep];
        for sweep in sweeps {
            let launch = LaunchId::fresh();
            let mut children = [sleeper(launch), sleeper(launch)];
            let (leader, _ended) = watch(children[0].id()).unwrap();
            let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            let sweeping = std::thread::spawn(move || sweep(&leader, launch));
            std::thread::sleep(SWEEP / 5);
            drop(taken);
            sweeping.join().unwrap();
            let ended = children.each_mut().map(|child| child.try_wait().unwrap().is_some());
            children.iter_mut().for_each(|child| child.kill().unwrap());
            assert_eq!(ended, [true; 2], "they are killed once there is a descriptor again");
        }
    }

    #[test]
    fn a_zombie_that_has_the_pid_by_now_does_not_say_how_a_watched_process_ended() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut ended = Command::new("/bin/false").spawn().unwrap();
        let mut other = sleeper(LaunchId::fresh());
        let zombie = || Process::look(ended.id()).unwrap().exit_status();
        let shown = runtime.block_on(async {
            let (own, gone) = watch(ended.id()).unwrap();
            gone.await;
            assert!(zombie().is_some(), "nobody has reaped it");
            // As if the kernel had given the number of a process that it knows nothing of to another one.
            let (unknown, _lives) = watch(other.id()).unwrap();
            let stranger = Watched { pid: own.pid, started: own.started - 1, ..unknown };
            (own.status().await, stranger.status().await)
        });
        other.kill().unwrap();
        other.wait().unwrap();
        ended.wait().unwrap();
        assert_eq!(shown, (Some(ProcExitKind::Exited { code: 1 }), None));
    }

    #[test]
    fn a_sweep_that_lacks_descriptors_for_a_moment_goes_on_after_it() {
        let script =
            "ulimit -n 32; exec \"$0\" --exact witness::tests::role_of_a_crowded_proc --ignored --nocapture";
        let role =
            Command::new("/bin/sh").args(["-c", script]).arg(std::env::current_exe().unwrap()).output();
        let role = role.unwrap();
        assert!(role.status.success(), "{}", String::from_utf8_lossy(&role.stderr));
    }
}
