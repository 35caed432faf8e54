//! Procs that are forked instead of executed: whatever becomes of the server or of a fork, every launch gets a process
//! and every end is told once. The program is the example `forker`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Failpoints, Running, fresh, guard, keeper, keeper_pid, lives, members, options, soon, zombies};
use procession_launch::ProcLauncher;
use procession_launch_local::NativeLauncher;
use procession_model::{BootstrapCommand, LaunchOptions, Preload, ProcExitKind, Rlimits};
use procession_sys::{Pidfd, Process, Snapshot};

const SECOND: Duration = Duration::from_secs(1);
const KILLED: ProcExitKind = ProcExitKind::Signaled { signal: libc::SIGKILL, core_dumped: false };

fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples/forker")
}

fn forker(role: &str) -> LaunchOptions {
    let mut command = BootstrapCommand::new(program());
    command.args = vec![role.to_owned()];
    command.preload = Some(Preload::default());
    options(command)
}

/// A proc that runs, and whether it was forked.
async fn started(launcher: &NativeLauncher, role: &str) -> (Running, bool) {
    let mut proc = Running::start(launcher, forker(role)).await;
    let line = proc.line().await;
    assert_eq!(line.split(' ').nth(1), Some(keeper_pid().to_string().as_str()), "{line}");
    (proc, line.starts_with("forked"))
}

fn servers() -> Vec<Process> {
    let all = Snapshot::take().unwrap();
    let forks = |p: &&Process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        p.is_alive() && line.windows(13).any(|window| window == b"--fork-server") && p.parent == keeper_pid()
    };
    let below = all.descendants([std::process::id()]);
    // A fork shows the line of its server here; only the server was executed.
    below.into_iter().filter(forks).filter(|p| p.has_executed()).cloned().collect()
}

#[tokio::test]
async fn forks_are_children_of_the_keeper_in_groups_of_their_own_and_their_ends_are_told() {
    let launcher = NativeLauncher::start().unwrap();
    for code in [0, 7] {
        let (mut proc, is_forked) = started(&launcher, &format!("exit {code}")).await;
        assert!(is_forked);
        assert_eq!(proc.exit().await, ProcExitKind::Exited { code });
    }
    let (mut killed, is_forked) = started(&launcher, "stay").await;
    assert!(is_forked);
    let found = Process::look(killed.pid).unwrap();
    assert_eq!((found.session, found.group), (killed.pid, killed.pid));
    if launcher.capabilities().group_kill {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", killed.pid)).unwrap();
        assert!(groups.contains(&killed.id.launch_id().to_string()), "{groups}");
    }
    assert_eq!(members(&killed.id).len(), 1, "its marker is its own");
    launcher.kill(&killed.id).await.unwrap();
    assert_eq!(killed.exit().await, KILLED);
    launcher.shutdown().await;
    assert_eq!(zombies(), 0);
}

#[tokio::test]
async fn what_a_server_does_not_want_or_cannot_do_is_executed_and_no_other_is_started() {
    let launcher = NativeLauncher::start().unwrap();
    for role in ["refuse", "end"] {
        for _ in 0..2 {
            let (proc, is_forked) = started(&launcher, role).await;
            assert!(!is_forked);
            launcher.kill(&proc.id).await.unwrap();
        }
    }
    assert!(servers().is_empty());
    launcher.shutdown().await;
}

#[tokio::test]
async fn what_a_server_does_not_answer_is_executed_and_what_is_to_be_signalled_meanwhile_at_once() {
    let launcher = Arc::new(NativeLauncher::start().unwrap());
    let begun = Instant::now();
    for kill in [false, true] {
        let (id, own) = (fresh(), launcher.clone());
        let launched = tokio::spawn({
            let id = id.clone();
            async move { own.launch(&id, forker("be mute")).await }
        });
        soon("a server is asked", || !servers().is_empty()).await;
        loop {
            let asked = if kill { launcher.kill(&id).await } else { launcher.terminate(&id, SECOND).await };
            if asked.is_ok() {
                break;
            }
            // It has not been handed to the keeper yet.
            tokio::task::yield_now().await;
        }
        let exit = launched.await.unwrap().unwrap().exit_rx.await.unwrap().kind;
        let signal = if kill { libc::SIGKILL } else { libc::SIGTERM };
        assert_eq!(exit, ProcExitKind::Signaled { signal, core_dumped: false });
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waited for the server");
    let (proc, is_forked) = started(&launcher, "be mute").await;
    assert!(!is_forked);
    launcher.kill(&proc.id).await.unwrap();
    soon("the server is ended", || servers().is_empty()).await;
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_server_that_is_killed_takes_nothing_with_it_and_is_started_again() {
    let launcher = NativeLauncher::start().unwrap();
    let (first, _) = started(&launcher, "stay").await;
    for server in servers() {
        server.signal(libc::SIGKILL);
        soon("it is gone", || !lives(&server)).await;
    }
    let (second, is_forked) = started(&launcher, "stay").await;
    assert!(is_forked);
    assert!([first.pid, second.pid].into_iter().all(|pid| Process::look(pid).unwrap().is_alive()));
    launcher.shutdown().await;
}

#[tokio::test]
async fn what_is_confined_is_executed() {
    let launcher = NativeLauncher::start().unwrap();
    let mut options = forker("stay");
    let none = Rlimits { soft: Some(0), hard: Some(0) };
    options.command.confinement.rlimits = [("core".to_owned(), none)].into();
    let mut proc = Running::start(&launcher, options).await;
    assert!(proc.line().await.starts_with("executed"));
    launcher.shutdown().await;
}

#[tokio::test]
async fn forks_are_the_guards_when_their_keeper_is_killed_and_the_server_is_gone() {
    let launcher = NativeLauncher::start().unwrap();
    let (mut first, _) = started(&launcher, "stay").await;
    let (mut second, _) = started(&launcher, "stay").await;
    let (server, guard) = (servers().remove(0), guard());
    keeper().signal(libc::SIGKILL);
    soon("they are the guard's", || Process::look(first.pid).unwrap().parent == guard.pid).await;
    soon("the server is gone", || !lives(&server)).await;
    Pidfd::open(first.pid).unwrap().signal(libc::SIGTERM).unwrap();
    assert_eq!(first.exit().await, ProcExitKind::Signaled { signal: libc::SIGTERM, core_dumped: false });
    launcher.kill(&second.id).await.unwrap();
    assert_eq!(second.exit().await, KILLED);
    launcher.shutdown().await;
}

#[tokio::test]
async fn nothing_of_a_fork_is_left_when_the_keeper_is_killed_before_it_lets_it_go_on() {
    let failpoints = Failpoints::new();
    let launcher = Arc::new(NativeLauncher::start().unwrap());
    // Until the keeper executes its program it goes by the guard's name.
    let (_, guard) = (keeper(), guard());
    failpoints.arm("keeper-forked");
    let (id, own) = (fresh(), launcher.clone());
    let launched = tokio::spawn({
        let id = id.clone();
        async move { own.launch(&id, forker("stay")).await.map(drop) }
    });
    let keeper = failpoints.reached("keeper-forked").await;
    let forks = members(&id);
    assert_eq!(forks.len(), 1, "it waits for the word");
    keeper.signal(libc::SIGKILL);
    assert!(launched.await.unwrap().is_err());
    failpoints.disarm("keeper-forked");
    soon("it is gone", || forks.iter().all(|fork| !lives(fork))).await;
    soon("so is all else", || Snapshot::take().unwrap().descendants([guard.pid]).is_empty()).await;
    let (again, is_forked) = started(&launcher, "stay").await;
    assert!(is_forked);
    launcher.kill(&again.id).await.unwrap();
    launcher.shutdown().await;
}
