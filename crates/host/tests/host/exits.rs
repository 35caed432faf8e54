//! From the launch to the exit: readiness, and how what was not asked for ends.

use std::time::Duration;

use procession_host::{ProcEvent, SpawnSpec, Stream};
use procession_model::{BootstrapCommand, ProcExitKind, ProcStatus};

use crate::common::{Record, booting_script, host, lives, program, script, shut_down, soon, spawn, within};

#[tokio::test]
async fn a_proc_that_calls_back_is_ready_and_ends_when_it_is_asked_to() {
    let host = host().await;
    assert!(host.native_launcher().knows_status_by_parenthood());
    let record = Record::default();
    let mut spec = program("p", "proc");
    spec.rank = 7;
    let proc_ = host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap();
    assert_eq!(proc_.status().status, ProcStatus::Starting);
    soon(proc_.ready()).await.unwrap();
    let pid = proc_.status().pid.unwrap();
    assert!(lives(pid) && proc_.exit().is_none());

    let exit = soon(proc_.stop("enough", None)).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
    assert_eq!(exit.verdict, "stopped by us (stop: enough): exit code 0");
    assert_eq!((exit.rank, exit.incarnation, exit.pid, exit.launcher.as_str()), (7, 1, Some(pid), "native"));
    assert!(exit.started_at <= exit.ready_at.unwrap() && exit.ready_at.unwrap() <= exit.ended_at);
    assert_eq!(proc_.status().status, ProcStatus::Exited);
    assert!(!lives(pid));

    let status = |event| if let ProcEvent::Status(status) = event { Some(status) } else { None };
    let seen: Vec<_> = record.events().into_iter().filter_map(status).collect();
    use ProcStatus as S;
    // A quick proc calls back before its launch is acknowledged.
    let seen: Vec<_> = seen.into_iter().filter(|status| *status != S::Running).collect();
    assert_eq!(seen, [S::Starting, S::Ready, S::Stopping, S::Exited]);
    assert!(matches!(record.events().last(), Some(ProcEvent::Exit(last)) if *last == exit));
    shut_down(host).await;
}

mod f2 {
    use super::*;

    #[tokio::test]
    async fn a_program_that_ends_before_it_is_ready_fails_the_wait_at_once_with_phase_and_stderr() {
        let host = host().await;
        for code in [0, 1, 42, 255] {
            let proc_ = spawn(&host, booting_script("p", &format!("echo a last word >&2; exit {code}")));
            let text = soon(proc_.ready()).await.unwrap_err();
            assert!(text.contains("while running") && text.contains("a last word"), "{text}");
            let exit = soon(proc_.ended()).await;
            assert_eq!(exit.kind, ProcExitKind::Exited { code });
            assert!(exit.verdict.starts_with("boot failed (running: "), "{}", exit.verdict);
            assert_eq!(exit.stderr_tail, ["a last word"]);
            assert_eq!((exit.requested.clone(), exit.ready_at), (None, None));
        }
        shut_down(host).await;
    }
}

#[tokio::test]
async fn a_signal_is_told_as_a_signal_and_a_fault_as_a_crash() {
    let host = host().await;
    for (signal, class) in [(9, "killed: "), (15, "killed: "), (11, "crash: "), (6, "crash: ")] {
        let proc_ = spawn(&host, script("p", &format!("ulimit -c 0; kill -{signal} $$")));
        let exit = soon(proc_.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Signaled { signal, core_dumped: false });
        assert!(exit.verdict.starts_with(class), "{}", exit.verdict);
    }
    let clean = soon(spawn(&host, script("p", "exit 0")).ended()).await;
    assert_eq!(clean.verdict, "clean exit");
    shut_down(host).await;
}

#[tokio::test]
async fn a_missing_program_is_a_failed_launch_that_names_it() {
    let host = host().await;
    let proc_ = spawn(&host, SpawnSpec::new("p", BootstrapCommand::new("/no/such/program")));
    let text = soon(proc_.ready()).await.unwrap_err();
    assert!(text.contains("\"/no/such/program\" does not exist; check the path (No such"), "{text}");
    assert!(text.contains("while starting") && !text.contains("ended"), "{text}");
    let exit = soon(proc_.ended()).await;
    assert!(matches!(&exit.kind, ProcExitKind::Failed { reason } if reason.contains("/no/such/program")));
    assert!(exit.verdict.starts_with("launcher failed: \"/no/such/program\" does not"), "{}", exit.verdict);
    assert_eq!(exit.pid, None);
    shut_down(host).await;
}

#[tokio::test]
async fn a_missed_ready_deadline_ends_the_proc_and_its_verdict_says_so() {
    let host = host().await;
    let mut spec = booting_script("p", "trap '' TERM; echo booting >&2; while :; do sleep 0.05; done");
    spec.policy.ready_timeout = Duration::from_millis(400);
    spec.policy.stop_grace = Duration::from_millis(100);
    let proc_ = spawn(&host, spec);
    let text = soon(proc_.ready()).await.unwrap_err();
    assert!(text.contains("not ready within 400ms") && text.contains("booting"), "{text}");
    assert!(text.contains("(while running)"), "{text}");
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    assert!(exit.verdict.starts_with("boot failed (running: not ready within 400ms)"), "{}", exit.verdict);
    assert_eq!(exit.requested.as_ref().unwrap().by, "ready deadline");
    shut_down(host).await;
}

#[tokio::test]
async fn what_a_proc_said_before_its_end_is_heard_before_its_end() {
    let host = host().await;
    let rounds: Vec<_> = (0..20)
        .map(|n| {
            let record = Record::default();
            let spec = program(&format!("p{n}"), "short");
            (host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap(), record)
        })
        .collect();
    for (proc_, record) in rounds {
        let exit = soon(proc_.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code: 3 });
        assert!(exit.ready_at.is_some(), "{}", exit.verdict);
        assert_eq!(exit.verdict, "app error: exit code 3");
        let events = record.events();
        let place = |wanted: fn(&ProcEvent) -> bool| events.iter().position(wanted);
        let ended = place(|event| matches!(event, ProcEvent::ActorEnded { failure: None, .. })).unwrap();
        assert!(place(|event| matches!(event, ProcEvent::Ready)).unwrap() < ended);
        assert_eq!(place(|event| matches!(event, ProcEvent::Exit(_))), Some(events.len() - 1));
    }
    shut_down(host).await;
}

#[tokio::test]
async fn a_thousand_waiters_get_one_exit_and_one_that_gives_up_changes_nothing() {
    let host = host().await;
    let proc_ = spawn(&host, script("p", "exec sleep 300"));
    soon(proc_.ready()).await.unwrap();
    let waiters: Vec<_> = (0..1000)
        .map(|_| {
            let proc_ = proc_.clone();
            tokio::spawn(async move { proc_.ended().await })
        })
        .collect();
    waiters[500].abort();
    soon(proc_.kill("test")).await.unwrap();
    let exit = soon(proc_.ended()).await;
    for (index, waiter) in waiters.into_iter().enumerate() {
        match soon(waiter).await {
            Ok(same) => assert!(std::sync::Arc::ptr_eq(&exit, &same)),
            Err(error) => assert!(index == 500 && error.is_cancelled()),
        }
    }
    soon(proc_.ready()).await.expect("that it was ready stays true");
    shut_down(host).await;
}

#[tokio::test]
async fn a_slot_that_is_launched_again_is_its_next_incarnation() {
    let host = host().await;
    for incarnation in [1, 2] {
        let proc_ = spawn(&host, script("slot", "exit 0"));
        assert_eq!(soon(proc_.ended()).await.incarnation, incarnation);
    }
    let mut third = script("slot", "exit 0");
    third.incarnation = 9;
    assert_eq!(soon(spawn(&host, third).ended()).await.incarnation, 9);
    assert_eq!(soon(spawn(&host, script("slot", "exit 0")).ended()).await.incarnation, 10);
    shut_down(host).await;
}

#[tokio::test]
async fn a_name_serves_for_one_live_proc_at_a_time() {
    let host = host().await;
    let first = spawn(&host, script("slot", "exec sleep 300"));
    let refused = host.spawn(script("slot", "exit 0"), host.native_launcher()).unwrap_err();
    assert_eq!(refused.field, "name");
    assert!(refused.rule.starts_with("AlreadyExists: incarnation 1 "), "{refused}");
    soon(first.kill("test")).await.unwrap();
    soon(first.ended()).await;
    let second = spawn(&host, script("slot", "exit 0"));
    assert_eq!(soon(second.ended()).await.incarnation, 2, "what was refused counts for nothing");
    shut_down(host).await;
}

#[tokio::test]
async fn sixteen_slots_come_up_together() {
    let host = host().await;
    let meeting = tempfile::tempdir().unwrap();
    // Each waits until all have come: one that had to wait for another to end would never come.
    let text = format!(
        "cd {}; : > here-$$; until [ $(ls | wc -l) -ge 16 ]; do sleep 0.02; done; echo met",
        meeting.path().display()
    );
    let all: Vec<_> = (0..16).map(|n| spawn(&host, script(&format!("p{n}"), &text))).collect();
    for proc_ in &all {
        let exit = soon(proc_.ended()).await;
        assert_eq!((exit.verdict.as_str(), exit.stdout_tail.len()), ("clean exit", 1));
    }
    shut_down(host).await;
}

#[tokio::test]
async fn an_observer_may_ask_the_proc_anything_and_a_late_one_hears_the_exit() {
    let host = host().await;
    let proc_ = spawn(&host, script("p", "exec sleep 300"));
    let (asked, record) = (proc_.clone(), Record::default());
    proc_.watch(std::sync::Arc::new(move |event| {
        let _all_of_these = (asked.status(), asked.exit(), asked.output_tail(Stream::Stdout));
        if matches!(event, ProcEvent::Exit(_)) {
            assert!(asked.exit().is_some());
        }
    }));
    proc_.watch(record.observer());
    soon(proc_.kill("test")).await.unwrap();
    soon(proc_.ended()).await;
    within(Duration::from_secs(5), "the exit is told", || record.exits() == 1).await;
    let late = Record::default();
    proc_.watch(late.observer());
    assert_eq!((late.exits(), late.events().len()), (1, 1));
    shut_down(host).await;
}
