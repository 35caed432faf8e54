//! Stops that are asked for: what is answered, and by when it is over.

use std::time::{Duration, Instant};

use procession_host::Policy;
use procession_launch_local::{NativeLauncher, supervised::Supervised};
use procession_model::{ProcExitKind, ProcStatus};

use crate::common::{
    Record, booting_script, host, line, members, program, script, short, shut_down, soon, spawn, within,
};
use crate::puppet::{accepted, exited, puppet};

const SIGKILLED: ProcExitKind = ProcExitKind::Signaled { signal: 9, core_dumped: false };

mod f12 {
    use super::*;

    #[tokio::test]
    async fn a_terminate_that_is_ignored_becomes_a_kill_at_its_timeout() {
        let host = host().await;
        let proc_ = spawn(&host, script("p", "trap '' TERM; echo armed; echo; while :; do sleep 0.05; done"));
        line(&proc_, 0).await;
        soon(proc_.terminate(Duration::from_secs(3600), "test")).await.unwrap();
        assert_eq!(
            proc_.status().status,
            ProcStatus::Stopping,
            "the answer comes with the request, not with the end"
        );
        let timeout = Duration::from_millis(500);
        let start = Instant::now();
        soon(proc_.terminate(timeout, "the shorter of two counts")).await.unwrap();
        let exit = soon(proc_.ended()).await;
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        assert_eq!(exit.kind, SIGKILLED);
        assert_eq!(exit.verdict, "stopped by us (terminate: test): signal 9 (SIGKILL)");
        shut_down(host).await;
    }
}

#[tokio::test]
async fn a_stop_climbs_from_the_agent_to_the_kill() {
    let host = host().await;
    let mut spec = program("p", "deaf");
    spec.policy.stop_grace = Duration::from_millis(200);
    let proc_ = spawn(&host, spec);
    soon(proc_.ready()).await.unwrap();
    let start = Instant::now();
    let exit = soon(proc_.stop("test", None)).await;
    // Its agent takes the request and does nothing; SIGTERM then ends it.
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });

    let mut spec = program("q", "deaf and immune");
    spec.policy.stop_grace = Duration::from_millis(200);
    let proc_ = spawn(&host, spec);
    soon(proc_.ready()).await.unwrap();
    let start = Instant::now();
    let exit = soon(proc_.stop("test", None)).await;
    // This one ignores SIGTERM as well.
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(exit.kind, SIGKILLED);
    assert_eq!(exit.verdict, "stopped by us (stop: test): signal 9 (SIGKILL)");
    shut_down(host).await;
}

#[test]
fn who_waits_for_a_kill_waits_longer_than_those_below_who_say_why_it_takes_so_long() {
    let policy = Policy::default();
    let slack = Duration::from_millis(300);
    for inner in [NativeLauncher::ANSWER, Supervised::KILL_BOUND] {
        assert!(inner + slack < policy.kill_ack, "{inner:?}");
        assert!(inner + slack < policy.terminate_ack_slack, "{inner:?}");
    }
}

#[tokio::test]
async fn a_stop_without_grace_kills_and_one_without_end_waits() {
    let host = host().await;
    let proc_ = spawn(&host, script("p", "trap '' TERM; echo armed; echo; while :; do sleep 0.05; done"));
    line(&proc_, 0).await;
    let patient = proc_.clone();
    let waiting = tokio::spawn(async move { patient.stop("for ever", Some(Duration::MAX)).await });
    within(Duration::from_secs(5), "the first stop is under way", || {
        proc_.status().status == ProcStatus::Stopping
    })
    .await;
    let exit = soon(proc_.stop("now", Some(Duration::ZERO))).await;
    assert_eq!(exit.kind, SIGKILLED);
    assert_eq!(exit.requested.as_ref().unwrap().why, "for ever");
    assert_eq!(soon(waiting).await.unwrap(), exit);
    shut_down(host).await;
}

mod f9 {
    use super::*;

    #[tokio::test]
    async fn a_kill_takes_what_left_the_session_and_the_family() {
        let host = host().await;
        let proc_ = spawn(
            &host,
            script(
                "p",
                "setsid sh -c 'sleep 300 & sleep 300' & (sh -c 'sleep 300 & echo up; echo' &) ; sleep 300",
            ),
        );
        line(&proc_, 0).await;
        within(Duration::from_secs(10), "the tree is complete", || {
            members(proc_.id()).iter().filter(|p| p.session != proc_.status().pid.unwrap()).count() >= 3
        })
        .await;
        soon(proc_.kill("test")).await.unwrap();
        assert_eq!(soon(proc_.ended()).await.kind, SIGKILLED);
        // The leader's end is an answer too, and may come a moment before the last of the others is gone.
        within(Duration::from_secs(1), "nothing is left", || members(proc_.id()).is_empty()).await;
        shut_down(host).await;
    }
}

mod f33 {
    use super::*;

    #[tokio::test]
    async fn a_hundred_stops_at_once_give_one_exit_and_no_error() {
        let host = host().await;
        let record = Record::default();
        let proc_ = host
            .spawn_watched(script("p", "sleep 300"), host.native_launcher(), Some(record.observer()))
            .unwrap();
        soon(proc_.ready()).await.unwrap();
        let all: Vec<_> = (0..100)
            .map(|n| {
                let proc_ = proc_.clone();
                tokio::spawn(async move {
                    if n % 2 == 0 {
                        proc_.terminate(Duration::from_secs(1), "test").await
                    } else {
                        proc_.kill("test").await
                    }
                })
            })
            .collect();
        for one in all {
            soon(one).await.unwrap().unwrap();
        }
        soon(proc_.ended()).await;
        assert_eq!(record.exits(), 1);
        shut_down(host).await;
    }
}

#[tokio::test]
async fn to_stop_what_has_ended_is_no_mistake() {
    let host = host().await;
    let proc_ = spawn(&host, script("p", "exit 4"));
    let exit = soon(proc_.ended()).await;
    soon(proc_.kill("late")).await.unwrap();
    soon(proc_.terminate(Duration::ZERO, "late")).await.unwrap();
    let same = soon(proc_.stop("late", None)).await;
    assert_eq!((same.kind.clone(), same.requested.clone()), (ProcExitKind::Exited { code: 4 }, None));
    assert_eq!(same, exit);
    shut_down(host).await;
}

mod f32 {
    use super::*;

    #[tokio::test]
    async fn a_terminate_before_anything_was_started_gives_exactly_one_exit() {
        let host = host().await;
        let (launcher, strings) = puppet();
        let record = Record::default();
        let mut spec = booting_script("p", "exit 0");
        short(&mut spec.policy);
        spec.policy.launch_ack = Duration::from_secs(20);
        let proc_ = host.spawn_watched(spec, launcher, Some(record.observer())).unwrap();
        let (_, launch) = strings.launch().await;
        let asking = proc_.clone();
        let asked = tokio::spawn(async move { asking.terminate(Duration::from_secs(10), "too soon").await });
        let no = "there is no such proc yet".to_owned();
        strings.terminate().await.1.send(Err(procession_launch::ProcLauncherError::Terminate(no))).unwrap();
        assert!(soon(proc_.ready()).await.unwrap_err().contains("too soon"));

        // What could not be ended before it was started is ended then.
        let (result, exit) = accepted(None);
        launch.send(Ok(result)).unwrap();
        strings.terminate().await.1.send(Ok(())).unwrap();
        assert_eq!(soon(asked).await.unwrap(), Ok(()), "that it was too soon is no error");
        exit.send(exited(143)).unwrap();
        let exit = soon(proc_.ended()).await;
        assert_eq!(exit.verdict, "stopped by us (terminate: too soon): exit code 143");
        assert!(strings.is_idle().await);
        assert_eq!(record.exits(), 1);
        shut_down(host).await;
    }

    #[tokio::test]
    async fn a_launch_that_is_refused_after_a_stop_was_cancelled() {
        let host = host().await;
        let (launcher, strings) = puppet();
        let proc_ = host.spawn(booting_script("p", "exit 0"), launcher).unwrap();
        let (_, launch) = strings.launch().await;
        let asking = proc_.clone();
        let asked = tokio::spawn(async move { asking.kill("changed my mind").await });
        let _unanswered = strings.kill().await;
        launch.send(Err(procession_launch::ProcLauncherError::Other("no room".to_owned()))).unwrap();
        assert_eq!(soon(asked).await.unwrap(), Ok(()), "nothing is left to kill");
        let exit = soon(proc_.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Failed { reason: "cancelled before start: no room".to_owned() });
        shut_down(host).await;
    }
}
