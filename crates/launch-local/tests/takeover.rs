//! When a keeper or its guard is killed, no proc is touched, and every end is told once and as it was.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    Failpoints, Running, exit_of, fresh, guard, helpers, keeper, lives, members, shell, soon, within, zombies,
};
use procession_launch::{ProcLauncher, ProcLauncherError};
use procession_launch_local::{LaunchFailure, NativeLauncher};
use procession_model::{ProcExitKind, ProcId};
use procession_sys::{Pidfd, Process};

const SECOND: Duration = Duration::from_secs(1);
const KILLED: ProcExitKind = ProcExitKind::Signaled { signal: libc::SIGKILL, core_dumped: false };

/// Leaves a daemon in a session of its own, and ends with 7 when told so by SIGUSR1, with 9 by SIGTERM.
const PROC: &str = "trap 'exit 7' USR1; trap 'exit 9' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000 &'; \
                    echo up; while :; do sleep 0.01; done";

async fn started(launcher: &NativeLauncher) -> Running {
    let mut proc = Running::start(launcher, shell(PROC)).await;
    assert_eq!(proc.line().await, "up");
    proc
}

fn signal(pid: u32, signal: i32) {
    Pidfd::open(pid).unwrap().signal(signal).unwrap();
}

async fn kill(process: &Process) {
    process.signal(libc::SIGKILL);
    soon("it is dead", || !lives(process)).await;
}

/// Three procs under whoever keeps them now: one ends by itself, one is terminated, one killed; each
/// of them was there before, and nothing stays of any.
async fn all_ends_are_known(launcher: &NativeLauncher, procs: [Running; 3]) {
    for proc in &procs {
        assert!(members(&proc.id).iter().any(|p| p.pid == proc.pid), "its leader was not touched");
        assert!(members(&proc.id).len() >= 2, "its daemon was not touched");
    }
    let [mut alone, mut asked, mut killed] = procs;
    signal(alone.pid, libc::SIGUSR1);
    assert_eq!(alone.exit().await, ProcExitKind::Exited { code: 7 });
    launcher.terminate(&asked.id, SECOND).await.unwrap();
    assert_eq!(asked.exit().await, ProcExitKind::Exited { code: 9 });
    launcher.kill(&killed.id).await.unwrap();
    assert!(members(&killed.id).is_empty(), "a kill returns when nothing is left");
    assert_eq!(killed.exit().await, KILLED);
    for proc in [&alone, &asked] {
        soon("what it has left is killed", || members(&proc.id).is_empty()).await;
        launcher.kill(&proc.id).await.unwrap();
        launcher.terminate(&proc.id, SECOND).await.unwrap();
    }
}

async fn three(launcher: &NativeLauncher) -> [Running; 3] {
    [started(launcher).await, started(launcher).await, started(launcher).await]
}

/// Of three procs one is asked to end and one killed while `helpers` are stopped, who then die of it.
async fn what_was_asked_is_done_although_they_die<const N: usize>(
    launcher: Arc<NativeLauncher>,
    helpers: [Process; N],
) {
    let [mut asked, mut killed, other] = three(&launcher).await;
    for helper in &helpers {
        helper.signal(libc::SIGSTOP);
        soon("it is stopped", || Process::look(helper.pid).unwrap().state == 'T').await;
    }
    let (terminate, terminated) = (launcher.clone(), asked.id.clone());
    let terminate = tokio::spawn(async move { terminate.terminate(&terminated, SECOND).await });
    let (kill_it, id) = (launcher.clone(), killed.id.clone());
    let kill_it = tokio::spawn(async move { kill_it.kill(&id).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    for helper in &helpers {
        kill(helper).await;
    }
    terminate.await.unwrap().unwrap();
    kill_it.await.unwrap().unwrap();
    assert!(members(&killed.id).is_empty());
    assert_eq!(killed.exit().await, KILLED);
    assert_eq!(asked.exit().await, ProcExitKind::Exited { code: 9 });
    assert!(members(&other.id).len() >= 2);
    launcher.shutdown().await;
    assert!(members(&other.id).is_empty());
}

fn failure(error: ProcLauncherError) -> LaunchFailure {
    let ProcLauncherError::Launch(error) = error else { panic!("{error}") };
    error.into_inner().unwrap().downcast_ref::<LaunchFailure>().unwrap().clone()
}

mod f29 {
    use super::*;

    #[tokio::test]
    async fn a_guard_keeps_on_what_its_keeper_kept_and_later_launches_get_another_pair() {
        let launcher = NativeLauncher::start().unwrap();
        let procs = three(&launcher).await;
        let (keeper, guard) = (keeper(), guard());
        kill(&keeper).await;
        soon("the procs are the guard's", || {
            procs.iter().all(|proc| Process::look(proc.pid).unwrap().parent == guard.pid)
        })
        .await;
        soon("a later launch is another keeper's", || helpers("procession-keeper").is_empty()).await;
        all_ends_are_known(&launcher, procs).await;
        assert_eq!(exit_of(&launcher, "exit 8").await, ProcExitKind::Exited { code: 8 });
        soon("a guard without anything to keep leaves", || !guard.is_same_now()).await;
        assert_eq!(exit_of(&launcher, "exit 8").await, ProcExitKind::Exited { code: 8 });
        launcher.shutdown().await;
        assert_eq!(zombies(), 0);
    }

    #[tokio::test]
    async fn a_keeper_that_aborts_is_replaced_as_one_that_is_killed() {
        let launcher = NativeLauncher::start().unwrap();
        let procs = three(&launcher).await;
        keeper().signal(libc::SIGABRT);
        soon("the keeper is dead", || helpers("procession-keeper").is_empty()).await;
        all_ends_are_known(&launcher, procs).await;
        launcher.shutdown().await;
    }

    #[tokio::test]
    async fn an_end_that_falls_between_keeper_and_guard_is_told_as_it_was() {
        let launcher = NativeLauncher::start().unwrap();
        let mut proc = started(&launcher).await;
        let keeper = keeper();
        keeper.signal(libc::SIGSTOP);
        soon("the keeper is stopped", || Process::look(keeper.pid).unwrap().state == 'T').await;
        signal(proc.pid, libc::SIGUSR1);
        soon("the proc has ended", || Process::look(proc.pid).unwrap().state == 'Z').await;
        kill(&keeper).await;
        assert_eq!(proc.exit().await, ProcExitKind::Exited { code: 7 });
        soon("its daemon is killed", || members(&proc.id).is_empty()).await;
        launcher.shutdown().await;
    }

    #[tokio::test]
    async fn an_end_is_told_once_wherever_its_keeper_dies_over_it() {
        for at in ["keeper-before-telling", "keeper-before-reaping", "keeper-after-reaping"] {
            let failpoints = Failpoints::new();
            let launcher = NativeLauncher::start().unwrap();
            let mut proc = started(&launcher).await;
            let other = started(&launcher).await;
            failpoints.arm(at);
            signal(proc.pid, libc::SIGUSR1);
            kill(&failpoints.reached(at).await).await;
            failpoints.disarm(at);
            assert_eq!(proc.exit().await, ProcExitKind::Exited { code: 7 }, "{at}");
            launcher.kill(&proc.id).await.unwrap();
            assert!(members(&proc.id).is_empty(), "{at}: a kill of what has ended sweeps what it left");
            assert!(members(&other.id).len() >= 2, "{at}: another proc is not touched");
            launcher.shutdown().await;
            assert_eq!(zombies(), 0);
        }
    }

    #[tokio::test]
    async fn what_was_asked_of_a_dead_keeper_is_done_by_the_guard() {
        let launcher = Arc::new(NativeLauncher::start().unwrap());
        what_was_asked_is_done_although_they_die(launcher, [keeper()]).await;
        assert_eq!(zombies(), 0);
    }

    #[tokio::test]
    async fn a_daemon_that_has_cleared_its_environment_stays_with_what_runs() {
        let launcher = NativeLauncher::start().unwrap();
        let script = "env -i setsid sh -c 'sleep 1000 <&- >&- 2>&- & echo $!'; sleep 1000";
        let mut proc = Running::start(&launcher, shell(script)).await;
        let daemon = Process::look(proc.line().await.parse().unwrap()).unwrap();
        let mut ended = Running::start(&launcher, shell("exit 0")).await;
        ended.exit().await;
        let (keeper, guard) = (keeper(), guard());
        kill(&keeper).await;
        soon("it is the guard's", || Process::look(daemon.pid).unwrap().parent == guard.pid).await;
        // To kill what has ended is done when the guard has looked for strays, and found none any more.
        launcher.kill(&ended.id).await.unwrap();
        assert!(lives(&daemon) && proc.exit.try_recv().is_err());
        launcher.terminate(&proc.id, SECOND).await.unwrap();
        assert_eq!(proc.exit().await, ProcExitKind::Signaled { signal: libc::SIGTERM, core_dumped: false });
        soon("it goes when nothing runs", || !lives(&daemon)).await;
        launcher.shutdown().await;
    }

    #[tokio::test]
    async fn a_guard_that_has_taken_over_ends_everything_when_the_launcher_goes() {
        let launcher = NativeLauncher::start().unwrap();
        let mut procs = three(&launcher).await;
        let guard = guard();
        kill(&keeper()).await;
        drop(launcher);
        for proc in &mut procs {
            assert_eq!(proc.exit().await, KILLED);
            soon("nothing of it is left", || members(&proc.id).is_empty()).await;
        }
        soon("the guard is gone", || !guard.is_same_now()).await;
        assert_eq!(zombies(), 0);
    }
}

mod f26 {
    use super::*;

    /// A launch that is on its way when the keeper dies at `at`.
    async fn launch_is_refused(at: &str) {
        let failpoints = Failpoints::new();
        let launcher = Arc::new(NativeLauncher::start().unwrap());
        let other = started(&launcher).await;
        let keeper = keeper();
        failpoints.arm(at);
        let id = fresh();
        let launch = {
            let (l, id): (_, ProcId) = (launcher.clone(), id.clone());
            tokio::spawn(async move { l.launch(&id, shell("sleep 1000")).await.map(drop) })
        };
        let reached = failpoints.reached(at).await;
        kill(&keeper).await;
        let refused = failure(launch.await.unwrap().unwrap_err());
        assert!(refused.is_retryable() && refused.to_string().contains("launch again"), "{refused}");
        failpoints.disarm(at);
        soon("who waited there is gone", || !lives(&reached)).await;
        soon("nothing was started", || members(&id).is_empty()).await;
        assert!(members(&other.id).len() >= 2, "another proc is not touched");
        assert_eq!(exit_of(&launcher, "exit 3").await, ProcExitKind::Exited { code: 3 });
        launcher.shutdown().await;
        assert_eq!(zombies(), 0);
    }

    #[tokio::test]
    async fn a_launch_that_its_keeper_had_only_read_is_refused() {
        launch_is_refused("keeper-before-launching").await;
    }

    #[tokio::test]
    async fn a_child_that_is_not_armed_yet_sees_that_its_parent_died() {
        launch_is_refused("child-before-arming").await;
    }

    #[tokio::test]
    async fn a_child_that_is_armed_and_has_not_executed_dies_with_its_parent() {
        launch_is_refused("child-before-exec").await;
    }
}

#[tokio::test]
async fn a_keeper_that_loses_its_guard_goes_on_and_later_launches_get_another_pair() {
    let launcher = NativeLauncher::start().unwrap();
    let procs = three(&launcher).await;
    let (keeper, guard) = (keeper(), guard());
    kill(&guard).await;
    soon("the guard is reaped", || !guard.is_same_now()).await;
    assert_eq!(exit_of(&launcher, "exit 8").await, ProcExitKind::Exited { code: 8 });
    assert!(lives(&keeper) && helpers("procession-guard").len() == 1, "another guard has the later launch");
    all_ends_are_known(&launcher, procs).await;
    soon("a keeper without anything to keep leaves", || !lives(&keeper)).await;
    launcher.shutdown().await;
    assert_eq!(zombies(), 0);
}

#[tokio::test]
async fn procs_that_lose_keeper_and_guard_are_looked_after_by_their_host() {
    both_die().await;
    // A host that adopts what loses its parent is the one that has to reap it.
    procession_sys::become_subreaper().unwrap();
    both_die().await;
    assert_eq!(zombies(), 0);
}

async fn both_die() {
    let launcher = NativeLauncher::start().unwrap();
    let procs = three(&launcher).await;
    let (keeper, guard) = (keeper(), guard());
    guard.signal(libc::SIGSTOP);
    soon("the guard is stopped", || Process::look(guard.pid).unwrap().state == 'T').await;
    kill(&keeper).await;
    kill(&guard).await;
    soon("another pair is there for what is launched now", || helpers("procession-keeper").len() == 1).await;
    all_ends_are_known(&launcher, procs).await;
    assert_eq!(exit_of(&launcher, "exit 8").await, ProcExitKind::Exited { code: 8 });
    let left = three(&launcher).await;
    launcher.shutdown().await;
    assert!(left.iter().all(|proc| members(&proc.id).is_empty()));
}

#[tokio::test]
async fn what_was_asked_of_a_pair_that_died_over_it_is_done_by_the_host() {
    let launcher = Arc::new(NativeLauncher::start().unwrap());
    what_was_asked_is_done_although_they_die(launcher, [keeper(), guard()]).await;
}

#[tokio::test]
async fn procs_without_keeper_and_guard_are_killed_with_their_launcher() {
    for ends in ["shut down", "dropped"] {
        let launcher = NativeLauncher::start().unwrap();
        let mut procs = three(&launcher).await;
        let (keeper, guard) = (keeper(), guard());
        keeper.signal(libc::SIGKILL);
        guard.signal(libc::SIGKILL);
        within(5 * SECOND, "both are dead", || !lives(&keeper) && !lives(&guard));
        match ends {
            "dropped" => drop(launcher),
            _ => launcher.shutdown().await,
        }
        for proc in &mut procs {
            assert_eq!(proc.exit().await, KILLED);
        }
        soon("nothing is left", || procs.iter().all(|proc| members(&proc.id).is_empty())).await;
        soon("no helper is left", || helpers("procession-").is_empty()).await;
    }
}
