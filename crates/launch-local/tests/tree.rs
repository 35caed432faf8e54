//! Ending a proc means ending everything that it started.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Running, fresh, members, shell, within, zombies};
use procession_launch::{ProcLauncher, ProcLauncherError};
use procession_launch_local::NativeLauncher;
use procession_model::ProcExitKind;
use procession_sys::Process;

const KILLED: ProcExitKind = ProcExitKind::Signaled { signal: libc::SIGKILL, core_dumped: false };
const SECOND: Duration = Duration::from_secs(1);

/// A leader with a child, a daemon (own session, parent gone, outputs closed), and a stopped child.
const FAMILY: &str = "sleep 1000 & \
    setsid sh -c 'sleep 1000 <&- >&- 2>&- & exec setsid sh -c \"sleep 1000 & exit\"' & \
    sh -c 'kill -STOP $$' & \
    echo up; wait; sleep 1000";

async fn family(launcher: &NativeLauncher) -> Running {
    let mut proc = Running::start(launcher, shell(FAMILY)).await;
    assert_eq!(proc.line().await, "up");
    let asleep = |process: &Process| {
        std::fs::read(format!("/proc/{}/cmdline", process.pid)).is_ok_and(|line| line == b"sleep\x001000\0")
    };
    within(5 * SECOND, "the family is complete", || {
        let all = members(&proc.id);
        all.iter().filter(|p| asleep(p)).count() == 3 && all.iter().any(|p| p.state == 'T')
    });
    proc
}

mod f9 {
    use super::*;

    #[tokio::test]
    async fn kill_reaches_daemons_and_stopped_children_and_leaves_nothing() {
        let launcher = NativeLauncher::start().unwrap();
        let mut proc = family(&launcher).await;
        launcher.kill(&proc.id).await.unwrap();
        assert!(members(&proc.id).is_empty(), "kill returns when nothing is left");
        assert_eq!(proc.exit().await, KILLED);
        launcher.shutdown().await;
        assert_eq!(zombies(), 0);
    }
}

mod f8 {
    use super::*;

    #[tokio::test]
    async fn what_a_leader_leaves_behind_is_killed_within_a_second_of_its_exit() {
        let launcher = NativeLauncher::start().unwrap();
        let mut proc = family(&launcher).await;
        procession_sys::Pidfd::open(proc.pid).unwrap().signal(libc::SIGUSR1).unwrap();
        assert_eq!(proc.exit().await, ProcExitKind::Signaled { signal: libc::SIGUSR1, core_dumped: false });
        within(SECOND, "nothing is left", || members(&proc.id).is_empty());
        launcher.shutdown().await;
    }

    #[tokio::test]
    async fn an_exit_does_not_wait_for_whoever_holds_the_output() {
        let launcher = NativeLauncher::start().unwrap();
        let mut proc =
            Running::start(&launcher, shell("setsid sleep 1000 & echo $!; read never < /dev/full; exit 6"))
                .await;
        let holder: u32 = proc.line().await.parse().unwrap();
        let holder = Process::look(holder).unwrap();
        procession_sys::Pidfd::open(proc.pid).unwrap().signal(libc::SIGKILL).unwrap();
        let start = Instant::now();
        assert_eq!(proc.exit().await, KILLED);
        assert!(start.elapsed() < 3 * SECOND, "the exit came with the end of its output");
        within(10 * SECOND, "the holder is gone", || !holder.is_same_now());
        assert_eq!(proc.rest().await, "", "its end of the output closes with it");
        launcher.shutdown().await;
    }
}

#[tokio::test]
async fn a_kill_leaves_the_neighbours_alone() {
    let launcher = NativeLauncher::start().unwrap();
    let (mut one, other) = (family(&launcher).await, family(&launcher).await);
    let before = members(&other.id).len();
    launcher.kill(&one.id).await.unwrap();
    assert_eq!(one.exit().await, KILLED);
    assert_eq!(members(&other.id).len(), before);
    launcher.shutdown().await;
    assert!(members(&other.id).is_empty());
}

#[tokio::test]
async fn terminate_asks_the_whole_tree_and_kills_nobody() {
    let launcher = NativeLauncher::start().unwrap();
    let script = "trap 'exit 9' TERM; setsid sh -c 'trap \"echo daemon; exit\" TERM; echo up; while :; do sleep 0.01; done' & \
                  while :; do sleep 0.01; done";
    let mut proc = Running::start(&launcher, shell(script)).await;
    assert_eq!(proc.line().await, "up");
    // A shell runs its trap when its child has ended, and the child may have ended by itself.
    launcher.terminate(&proc.id, SECOND).await.unwrap();
    launcher.terminate(&proc.id, SECOND).await.unwrap();
    assert_eq!(proc.exit().await, ProcExitKind::Exited { code: 9 });
    launcher.shutdown().await;
}

mod f14 {
    use super::*;

    #[tokio::test]
    async fn a_proc_that_ignores_sigterm_or_is_stopped_still_dies_by_kill() {
        let launcher = NativeLauncher::start().unwrap();
        for (script, state) in
            [("trap '' TERM; echo up; sleep 1000; exec sleep 1000", 'S'), ("echo up; kill -STOP $$", 'T')]
        {
            let mut proc = Running::start(&launcher, shell(script)).await;
            assert_eq!(proc.line().await, "up");
            within(5 * SECOND, "it waits", || Process::look(proc.pid).unwrap().state == state);
            launcher.terminate(&proc.id, SECOND).await.unwrap();
            assert!(proc.exit.try_recv().is_err(), "it lives on");
            launcher.kill(&proc.id).await.unwrap();
            assert_eq!(proc.exit().await, KILLED);
        }
        launcher.shutdown().await;
    }
}

#[tokio::test]
async fn a_tree_of_a_hundred_is_killed_whole() {
    let launcher = NativeLauncher::start().unwrap();
    let script = "for i in $(seq 10); do setsid sh -c 'for j in $(seq 10); do sleep 1000 & done; echo up; wait' & done; wait";
    let mut proc = Running::start(&launcher, shell(script)).await;
    for _ in 0..10 {
        assert_eq!(proc.line().await, "up");
    }
    let start = Instant::now();
    launcher.kill(&proc.id).await.unwrap();
    println!("a tree of 111 is gone after {:?}", start.elapsed());
    assert!(members(&proc.id).is_empty());
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_tree_that_forks_without_end_is_killed_whole() {
    let launcher = NativeLauncher::start().unwrap();
    // At most some 60 at a time, each of which makes new ones in sessions of their own all the time.
    let script = "f() { setsid sh -c 'sleep 0.05 & sleep 0.05 & setsid sleep 0.05; exec true' & }; echo up; \
                  while :; do f; f; f; f; sleep 0.01; done";
    let mut proc = Running::start(&launcher, shell(script)).await;
    assert_eq!(proc.line().await, "up");
    within(20 * SECOND, "it forks", || members(&proc.id).len() > 4);
    launcher.kill(&proc.id).await.expect("it dies within the bound of a kill");
    assert!(members(&proc.id).is_empty());
    launcher.shutdown().await;
}

mod f33 {
    use super::*;

    #[tokio::test]
    async fn many_kills_and_terminations_at_once_have_one_exit() {
        let launcher = std::sync::Arc::new(NativeLauncher::start().unwrap());
        let mut proc = family(&launcher).await;
        let asked: Vec<_> = (0..100)
            .map(|_| {
                let (launcher, id) = (launcher.clone(), proc.id.clone());
                tokio::spawn(async move {
                    launcher.terminate(&id, SECOND).await.unwrap();
                    launcher.kill(&id).await.unwrap();
                })
            })
            .collect();
        for task in asked {
            task.await.unwrap();
        }
        assert!(matches!(proc.exit().await, ProcExitKind::Signaled { .. }));
        assert!(members(&proc.id).is_empty());
        launcher.shutdown().await;
    }
}

#[tokio::test]
async fn to_stop_what_has_ended_is_fine_and_what_never_was_is_not() {
    let launcher = NativeLauncher::start().unwrap();
    let mut proc = Running::start(&launcher, shell("exit 0")).await;
    proc.exit().await;
    launcher.terminate(&proc.id, SECOND).await.unwrap();
    launcher.kill(&proc.id).await.unwrap();
    let stranger = fresh();
    assert!(matches!(launcher.kill(&stranger).await, Err(ProcLauncherError::NotFound(_))));
    assert!(matches!(launcher.terminate(&stranger, SECOND).await, Err(ProcLauncherError::NotFound(_))));
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_launch_that_nobody_waits_for_any_more_leaves_nothing() {
    let launcher = NativeLauncher::start().unwrap();
    let (mut given_up, mut done) = (Vec::new(), 0);
    // Given up at every moment of a launch: looked up, on its way, started.
    for patience in (0..100).map(|step| Duration::from_micros(2 * step * step)) {
        let id = fresh();
        tokio::select! {
            biased;
            launched = launcher.launch(&id, shell("sleep 1000 & wait")) => {
                drop(launched.unwrap());
                launcher.kill(&id).await.unwrap();
                done += 1;
            }
            () = async {
                let start = Instant::now();
                while start.elapsed() < patience {
                    tokio::task::yield_now().await;
                }
            } => given_up.push(id.launch_id().to_string()),
        }
    }
    println!("{} launches given up, {done} done first", given_up.len());
    // A later launch is handled after all of them.
    let mut last = Running::start(&launcher, shell("exit 0")).await;
    last.exit().await;
    let start = Instant::now();
    let left = || {
        let all = procession_sys::Snapshot::take().unwrap();
        all.all().iter().any(|p| p.is_alive() && given_up.iter().any(|launch| p.belongs_to(launch)))
    };
    while left() {
        assert!(start.elapsed() < 2 * SECOND, "the launches that were given up are gone");
        tokio::task::yield_now().await;
    }
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_launch_that_was_made_and_is_never_taken_is_killed() {
    let launcher = NativeLauncher::start().unwrap();
    let id = fresh();
    let mut launch = Box::pin(launcher.launch(&id, shell("exec sleep 1000")));
    let mut unheard = std::task::Context::from_waker(std::task::Waker::noop());
    while members(&id).is_empty() {
        assert!(launch.as_mut().poll(&mut unheard).is_pending(), "it is asked before it can be done");
        tokio::task::yield_now().await;
    }
    // What is told of a later launch comes after what is told of this one.
    Running::start(&launcher, shell("exit 0")).await.exit().await;
    drop(launch);
    let start = Instant::now();
    while !members(&id).is_empty() {
        assert!(start.elapsed() < 10 * SECOND, "it is killed");
        tokio::task::yield_now().await;
    }
    launcher.shutdown().await;
}
