//! Launchers that do not do what they should: one clear exit each, and never a hang.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_host::{Host, ProcRef};
use procession_launch::{ProcLauncherError, StdioHandling};
use procession_model::{ProcExitKind, ProcStatus};

use crate::common::{Record, booting_script, host, script, short, shut_down, soon, within};
use crate::puppet::{Strings, accepted, exited, puppet};

fn launch(host: &Host) -> (ProcRef, Strings, Record) {
    let (launcher, strings) = puppet();
    let record = Record::default();
    let mut spec = script("p", "exit 0");
    short(&mut spec.policy);
    let proc_ = host.spawn_watched(spec, launcher, Some(record.observer())).unwrap();
    (proc_, strings, record)
}

fn reason(kind: &ProcExitKind) -> &str {
    match kind {
        ProcExitKind::Failed { reason } | ProcExitKind::Lost { reason } => reason,
        kind => panic!("{kind}"),
    }
}

#[tokio::test]
async fn one_that_never_answers_a_launch_is_given_up_and_told_to_kill() {
    let host = host().await;
    let (proc_, strings, record) = launch(&host);
    let (_, unanswered) = strings.launch().await;
    let exit = soon(proc_.ended()).await;
    assert!(matches!(exit.kind, ProcExitKind::Failed { .. }));
    assert!(reason(&exit.kind).contains("did not acknowledge the launch within 300ms"), "{}", exit.kind);
    assert!(soon(proc_.ready()).await.unwrap_err().contains("while starting"));
    strings.kill().await.send(Ok(())).unwrap();

    // It starts something all the same: that is killed, and the exit stays what it was.
    let (result, end) = accepted(None);
    unanswered.send(Ok(result)).unwrap();
    strings.kill().await.send(Ok(())).unwrap();
    end.send(exited(0)).unwrap();
    assert_eq!(soon(proc_.ended()).await, exit);
    assert_eq!(record.exits(), 1);
    shut_down(host).await;
}

#[tokio::test]
async fn one_that_errs_is_quoted() {
    let host = host().await;
    let (proc_, strings, record) = launch(&host);
    let (_, answer) = strings.launch().await;
    answer.send(Err(ProcLauncherError::Other("the moon is in the way".into()))).unwrap();
    assert_eq!(reason(&soon(proc_.ended()).await.kind), "the moon is in the way");
    assert!(soon(proc_.ready()).await.unwrap_err().contains("the moon is in the way"));
    assert_eq!(record.exits(), 1);
    shut_down(host).await;
}

#[tokio::test]
async fn one_that_panics_fails_its_launch_and_no_other() {
    let host = host().await;
    let (proc_, strings, _) = launch(&host);
    let (_, answer) = strings.launch().await;
    drop(answer);
    let exit = soon(proc_.ended()).await;
    assert_eq!(reason(&exit.kind), "launcher \"puppet\" panicked; see the log for where");

    let (proc_, strings, record) = launch(&host);
    let exit = strings.accept(None).await;
    soon(proc_.ready()).await.unwrap();
    let asking = proc_.clone();
    let asked = tokio::spawn(async move { asking.kill("test").await });
    drop(strings.kill().await);
    assert!(soon(asked).await.unwrap().unwrap_err().contains("panicked"));
    exit.send(exited(9)).unwrap();
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 9 });
    assert_eq!(record.exits(), 1);
    shut_down(host).await;
}

#[tokio::test]
async fn one_that_forgets_to_report_fails_the_launch_and_is_told_to_kill() {
    let host = host().await;
    let (proc_, strings, record) = launch(&host);
    drop(strings.accept(None).await);
    let exit = soon(proc_.ended()).await;
    assert_eq!(reason(&exit.kind), "exit port closed (spawner crashed or forgot to send)");
    strings.kill().await.send(Ok(())).unwrap();
    assert_eq!(record.exits(), 1);
    shut_down(host).await;
}

#[tokio::test]
async fn one_that_neither_terminates_nor_kills_costs_bounded_time() {
    let host = host().await;
    let (proc_, strings, record) = launch(&host);
    let _never_reported = strings.accept(None).await;
    soon(proc_.ready()).await.unwrap();
    let asking = proc_.clone();
    let asked = tokio::spawn(async move { asking.terminate(Duration::from_millis(100), "test").await });
    let _unanswered = strings.terminate().await;
    let _unanswered_either = strings.kill().await;
    let why = soon(asked).await.unwrap().unwrap_err();
    assert!(why.contains("did not answer"), "{why}");
    let exit = soon(proc_.ended()).await;
    assert!(
        matches!(exit.kind, ProcExitKind::Lost { .. }) && reason(&exit.kind).contains("it may still run")
    );
    assert_eq!(record.notes().iter().filter(|note| note.contains("KillUnavailable")).count(), 1);
    assert_eq!(record.exits(), 1);
    shut_down(host).await;
}

#[tokio::test]
async fn one_that_cannot_be_asked_makes_its_procs_unknown_and_then_lost() {
    let host = host().await;
    let (launcher, strings) = puppet();
    let mut spec = script("p", "exit 0");
    spec.policy.unknown_budget = Duration::from_millis(300);
    let proc_ = host.spawn(spec, launcher).unwrap();
    let _never_reported = strings.accept(None).await;
    soon(proc_.ready()).await.unwrap();
    let status = |wanted| {
        let proc_ = proc_.clone();
        within(Duration::from_secs(5), "the status changes", move || proc_.status().status == wanted)
    };
    host.unreachable(proc_.id(), Some("the control plane is mute".into()));
    status(ProcStatus::Unknown).await;
    host.unreachable(proc_.id(), None);
    status(ProcStatus::Running).await;
    host.unreachable(proc_.id(), Some("the control plane is mute".into()));
    let exit = soon(proc_.ended()).await;
    assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{}", exit.kind);
    assert!(reason(&exit.kind).contains("the control plane is mute"));
    shut_down(host).await;
}

#[tokio::test]
async fn slots_are_launched_together_and_not_one_after_the_other() {
    let host = host().await;
    let (launcher, strings) = puppet();
    let procs: Vec<_> = (0..3)
        .map(|n| host.spawn(script(&format!("p{n}"), "exit 0"), Arc::clone(&launcher)).unwrap())
        .collect();
    let mut asked = Vec::new();
    for _ in &procs {
        asked.push(strings.launch().await.1);
    }
    // All were asked for before one is answered.
    let ends: Vec<_> = asked
        .into_iter()
        .map(|answer| {
            let (result, end) = accepted(None);
            answer.send(Ok(result)).unwrap();
            end
        })
        .collect();
    for (end, proc_) in ends.into_iter().zip(&procs) {
        soon(proc_.ready()).await.unwrap();
        end.send(exited(0)).unwrap();
    }
    for proc_ in procs {
        assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 0 });
    }
    shut_down(host).await;
}

#[tokio::test]
async fn what_a_launcher_reports_is_seen_and_its_progress_holds_the_deadline_off() {
    let host = host().await;
    let (launcher, strings) = puppet();
    let mut spec = booting_script("p", "exit 0");
    spec.policy.ready_timeout = Duration::from_secs(30);
    let proc_ = host.spawn(spec, launcher).unwrap();
    let exit = strings.accept(None).await;
    soon(async {
        while proc_.status().status != ProcStatus::Running {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // From here on no time passes but what the test lets pass: and nothing waits but for its turn.
    tokio::time::pause();
    for minute in ["first", "second", "third", "pulling the image"] {
        host.report(proc_.id(), None, Some("container-7".into()), Some(minute.into()));
        while proc_.status().progress.as_deref() != Some(minute) {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(20)).await;
    }
    tokio::time::resume();
    let status = proc_.status();
    assert_eq!(status.status, ProcStatus::Running);
    assert_eq!(status.handle.as_deref(), Some("container-7"));
    assert_eq!(status.progress.as_deref(), Some("pulling the image"));
    exit.send(exited(0)).unwrap();
    soon(proc_.ended()).await;
    host.report(proc_.id(), None, None, Some("too late".into()));
    assert_eq!(proc_.status().progress.as_deref(), Some("pulling the image"));
    shut_down(host).await;
}

#[tokio::test]
async fn output_that_a_launcher_captures_is_read_like_any_other() {
    let host = host().await;
    let (proc_, strings, record) = launch(&host);
    let (_, answer) = strings.launch().await;
    let (mut result, exit) = accepted(None);
    result.started_at = SystemTime::now();
    result.stdio = StdioHandling::Captured {
        stdout: Box::new(&b"out\n"[..]),
        stderr: Box::new(&b"one\ntwo\nthree, without an end"[..]),
    };
    answer.send(Ok(result)).unwrap();
    exit.send(exited(0)).unwrap();
    let exit = soon(proc_.ended()).await;
    assert_eq!((exit.stdout_tail.len(), exit.stderr_tail.len()), (1, 3));
    assert_eq!(
        record.events().iter().filter(|e| matches!(e, procession_host::ProcEvent::Output { .. })).count(),
        4
    );
    shut_down(host).await;
}

mod f40 {
    use super::*;

    #[tokio::test]
    async fn reports_after_the_first_are_counted_before_and_after_the_end() {
        let host = host().await;
        let (proc_, strings, record) = launch(&host);
        let exit = strings.accept(None).await;
        soon(proc_.ready()).await.unwrap();
        host.reported_again(proc_.id());
        assert_eq!(proc_.status().late_reports, 1);
        exit.send(exited(0)).unwrap();
        soon(proc_.ended()).await;
        host.reported_again(proc_.id());
        assert_eq!(proc_.status().late_reports, 2);
        assert_eq!(record.notes().iter().filter(|note| note.starts_with("late: ")).count(), 1);
        assert_eq!(record.exits(), 1);
        shut_down(host).await;
    }
}

mod f57 {
    use super::*;

    #[tokio::test]
    async fn a_proc_that_cannot_be_killed_holds_up_the_end_of_the_host_for_a_bounded_time() {
        let host = host().await;
        let (launcher, strings) = puppet();
        let record = Record::default();
        let proc_ = host.spawn_watched(script("p", "exit 0"), launcher, Some(record.observer())).unwrap();
        let _never_reported = strings.accept(None).await;
        soon(proc_.ready()).await.unwrap();
        let refuse = async {
            strings.terminate().await.1.send(Err(ProcLauncherError::Terminate("no".into()))).unwrap();
            strings.kill().await.send(Err(ProcLauncherError::Kill("not implemented".into()))).unwrap();
        };
        let begun = std::time::Instant::now();
        tokio::join!(host.shutdown(Duration::from_millis(200)), refuse);
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        assert!(
            record.notes().contains(&"KillUnavailable: not implemented".to_owned()),
            "{:?}",
            record.notes()
        );
    }
}

#[tokio::test]
async fn a_promised_pid_that_never_comes_is_noted() {
    let host = host().await;
    for (pid, notes) in [(None, 1), (Some(std::process::id()), 0)] {
        let (proc_, strings, record) = launch(&host);
        let exit = strings.accept(None).await;
        soon(proc_.ready()).await.unwrap();
        if pid.is_some() {
            host.report(proc_.id(), pid, None, None);
        }
        exit.send(exited(0)).unwrap();
        soon(proc_.ended()).await;
        assert_eq!(record.notes().iter().filter(|note| note.contains("capability pid")).count(), notes);
    }
    shut_down(host).await;
}
