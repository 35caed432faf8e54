//! Keeper and guard of detached procs die too.

use procession_launch::ProcLauncher;
use procession_model::ProcExitKind;
use procession_sys::Process;

use crate::common::{Failpoints, fresh, members, tries, within};
use crate::world::{BOUND, DAEMON, Host, KILLED, State, WAITS, end, kill_both, numbers};

#[tokio::test]
async fn a_guard_goes_on_for_a_keeper_that_dies_while_no_host_lives() {
    let state = State::new();
    let options = state.simple(&format!("{DAEMON} seq 0 1000; {WAITS} seq 1001 2000; touch written; while [ ! -e end ]; do sleep 0.01; done; exit 6"));
    let mut host = Host::start(&state, &options);
    state.has("up");
    let (keeper, guard) = (state.keeper(), state.guard());
    host.kill();
    keeper.signal(libc::SIGKILL);
    host.is_the_guards(&guard);
    state.put("go");
    state.has("written");
    within(BOUND, "it is all in the file", || state.stdout(0).len() == numbers(2000).len());
    assert!(state.stdout(0) == numbers(2000));
    let launcher = state.launcher();
    let adopted = host.adopted_by(&launcher, &options).await;
    state.put("end");
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 6 });
    within(BOUND, "nothing of it is left", || members(&host.id).is_empty());
    state.launches(&launcher).await;
    state.shut_down(launcher).await;
}

#[tokio::test]
async fn a_keeper_that_dies_under_the_host_that_took_over_is_replaced_and_the_next_host_finds_its_guard() {
    let state = State::new();
    let options = state.simple(&format!("{DAEMON}{WAITS} exit 6"));
    let host = Host::killed(&state, &options);
    let launcher = state.launcher();
    let adopted = host.adopted_by(&launcher, &options).await;
    let guard = state.guard();
    state.keeper().signal(libc::SIGKILL);
    host.is_the_guards(&guard);
    let launched = launcher.launch(&fresh(), state.simple("exit 4")).await;
    if let Ok(launched) = launched {
        assert_eq!(end(launched).await.kind, ProcExitKind::Exited { code: 4 });
    }
    drop((launcher, adopted));
    assert!(members(&host.id).len() >= 2, "neither it nor its daemon was touched");
    // The one that is dropped has let go when the guard has seen it.
    let launcher = state.next_launcher().await;
    let adopted = host.adopted_by(&launcher, &options).await;
    state.put("go");
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 6 });
    state.shut_down(launcher).await;
}

#[tokio::test]
async fn a_proc_that_lost_its_host_its_keeper_and_its_guard_is_still_found_and_ended() {
    for known in [true, false] {
        let state = State::new();
        let options = state.simple(&format!("{DAEMON}{WAITS}"));
        let mut host = Host::start(&state, &options);
        state.has("up");
        let (keeper, guard) = (state.keeper(), state.guard());
        guard.signal(libc::SIGSTOP);
        within(BOUND, "it is stopped", || Process::look(guard.pid).unwrap().state == 'T');
        host.kill();
        kill_both(&keeper, &guard);
        let launcher = state.launcher();
        let pid = host.leader().filter(|_| known);
        let adopted = launcher.adopt(&host.id, &options, pid).await.unwrap();
        assert_eq!(adopted.pid, Some(host.leader.pid));
        launcher.kill(&host.id).await.unwrap();
        assert!(members(&host.id).is_empty());
        let kind = end(adopted).await.kind;
        assert!(kind == KILLED || matches!(kind, ProcExitKind::Lost { .. }), "{kind:?}");
        state.shut_down(launcher).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proc_that_loses_its_keeper_and_its_guard_while_its_host_lives_outlives_that_too() {
    let state = State::new();
    let launcher = state.launcher();
    let (options, id) = (state.simple(&format!("{DAEMON}{WAITS}")), fresh());
    let launched = launcher.launch(&id, options.clone()).await.unwrap();
    state.has("up");
    let leader = Process::look(launched.pid.unwrap()).unwrap();
    let (keeper, guard) = (state.keeper(), state.guard());
    kill_both(&keeper, &guard);
    // Until the host has seen that they are gone it is told to try again.
    let other = tries(async || launcher.launch(&fresh(), state.simple("exit 4")).await).await;
    assert_eq!(end(other).await.kind, ProcExitKind::Exited { code: 4 });
    drop((launcher, launched));
    state.has_no_helpers();
    assert!(members(&id).len() >= 2, "neither it nor its daemon was touched");
    let launcher = state.launcher();
    let adopted = launcher.adopt(&id, &options, Some((leader.pid, leader.started))).await.unwrap();
    launcher.shutdown().await;
    assert!(members(&id).is_empty(), "a shutdown ends it as any other");
    assert!(!matches!(end(adopted).await.kind, ProcExitKind::Exited { .. }));
    state.has_no_helpers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_end_is_known_wherever_its_keeper_dies_over_it_while_no_host_lives() {
    for at in ["keeper-before-telling", "keeper-before-reaping", "keeper-after-reaping"] {
        let failpoints = Failpoints::new();
        let state = State::new();
        let launcher = state.launcher();
        let (options, id) = (state.simple(&format!("{DAEMON}{WAITS} exit 7")), fresh());
        let launched = launcher.launch(&id, options.clone()).await.unwrap();
        let pid = launched.pid;
        state.has("up");
        failpoints.arm(at);
        drop((launcher, launched));
        state.put("go");
        failpoints.reached(at).await.signal(libc::SIGKILL);
        failpoints.disarm(at);
        state.has_no_helpers();
        assert!(members(&id).is_empty(), "{at}: what it left is ended");
        let launcher = state.launcher();
        let adopted = launcher.adopt(&id, &options, None).await.unwrap();
        assert_eq!(adopted.pid, pid);
        assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 7 }, "{at}");
        launcher.shutdown().await;
    }
}
