//! Exits: what the spawner answers, and what holds when it does not.

use std::pin::pin;
use std::time::SystemTime;

use procession_launch::{ProcLauncher, StdioHandling};
use procession_model::{ProcExitKind, ProcExitResult};
use procession_native::{MethodSpecifier, PythonMessage, PythonMessageKind};

use crate::common::{call, pickled, proc_id};
use crate::stage::{closed, exited, is_pending, options, stage, stage_of_one};

#[tokio::test]
async fn a_launch_answers_when_its_endpoint_runs_and_its_exit_comes_decoded() {
    let stage = stage();
    let id = proc_id("w-0");
    let before = SystemTime::now();
    let mut launch = pin!(stage.launcher.launch(&id, options()));
    assert!(is_pending(launch.as_mut()).await);
    let incoming = stage.next().await;
    assert!(is_pending(launch.as_mut()).await, "nobody has acknowledged it");
    assert_eq!(stage.launcher.tracked(), std::slice::from_ref(&id));

    let PythonMessageKind::CallMethod { name, response_port: Some(port) } = &incoming.message.kind else {
        panic!("{incoming:?}")
    };
    assert_eq!(*name, MethodSpecifier::ExplicitPort { name: "launch".to_owned() });
    assert!(port.answers_exit());
    stage.acknowledge(&incoming);
    let launched = launch.await.unwrap();
    assert_eq!(launched.pid, None);
    assert!(launched.started_at >= before && launched.started_at <= SystemTime::now());
    assert!(matches!(launched.stdio, StdioHandling::ManagedByLauncher));

    let lines = ["1", "2", "3", "4"].map(str::to_owned).to_vec();
    let exit = ProcExitResult { stderr_tail: Some(lines), ..exited(3) };
    stage.answer(&incoming, PythonMessage::exit(exit));
    let exit = launched.exit_rx.await.unwrap();
    let last_three = ["2", "3", "4"].map(str::to_owned).to_vec();
    assert_eq!((exit.kind, exit.stderr_tail), (exited(3).kind, Some(last_three)));
    assert!(stage.launcher.tracked().is_empty());
    assert_eq!(stage.host.open_ports(), 0);
}

#[tokio::test]
async fn an_exit_that_overtakes_the_acknowledgement_ends_the_launch() {
    let stage = stage();
    let id = proc_id("w-0");
    let (launched, _ack) = tokio::join!(stage.launcher.launch(&id, options()), async {
        let incoming = stage.next().await;
        stage.answer(&incoming, PythonMessage::exit(ProcExitResult::failed("no such image")));
        call(&incoming).2
    });
    assert_eq!(launched.unwrap().exit_rx.await.unwrap(), ProcExitResult::failed("no such image"));
    assert!(stage.launcher.tracked().is_empty());
}

#[tokio::test]
async fn a_second_answer_is_refused_at_its_sender_and_changes_nothing() {
    let stage = stage();
    let (incoming, exit) = stage.launched(&proc_id("w-0")).await;
    stage.answer(&incoming, PythonMessage::exit(exited(0)));
    let again = call(&incoming).1.send(&stage.away, PythonMessage::exit(exited(1))).unwrap_err();
    assert!(again.to_string().contains("AlreadyReported"), "{again}");
    assert_eq!(exit.await.unwrap(), exited(0));
}

#[tokio::test]
async fn a_spawner_that_ends_closes_the_exits_it_owes() {
    for acknowledged in [true, false] {
        let stage = stage();
        let id = proc_id("w-0");
        let (launched, ()) = tokio::join!(stage.launcher.launch(&id, options()), async {
            let incoming = stage.next().await;
            if acknowledged {
                stage.acknowledge(&incoming);
            }
            stage.inbox.end(Some("boom"));
        });
        assert_eq!(closed(launched.unwrap().exit_rx.await.unwrap()), ": LauncherLost: boom");
        assert!(stage.launcher.tracked().is_empty());
    }
}

#[tokio::test]
async fn a_spawner_that_forgets_to_answer_is_noticed_when_the_port_is_dropped() {
    let stage = stage();
    let (incoming, exit) = stage.launched(&proc_id("w-0")).await;
    drop(incoming);
    assert_eq!(closed(exit.await.unwrap()), ": PortDropped: the port was dropped without an answer");
}

#[tokio::test]
async fn a_spawner_whose_proc_dies_closes_the_exits_it_owes() {
    let stage = stage();
    let (incoming, exit) = stage.launched(&proc_id("w-0")).await;
    stage.session.lose(stage.away.id());
    assert_eq!(closed(exit.await.unwrap()), ": LauncherLost: killed by signal 9");
    drop(incoming);
}

#[tokio::test]
async fn a_spawner_that_has_ended_before_fails_the_launch_through_its_exit() {
    let stage = stage();
    stage.inbox.end(None);
    let exit = stage.launcher.launch(&proc_id("w-0"), options()).await.unwrap().exit_rx;
    let why = closed(exit.await.unwrap());
    assert!(why.contains("has ended"), "{why}");
    assert!(stage.launcher.tracked().is_empty());
}

#[tokio::test]
async fn a_pickle_from_another_process_is_no_exit_and_is_not_opened() {
    for kind in [PythonMessageKind::Result { rank: None }, PythonMessageKind::Exception { rank: None }] {
        let stage = stage();
        let (incoming, exit) = stage.launched(&proc_id("w-0")).await;
        let opened = tempfile::tempdir().unwrap();
        let mark = opened.path().join("opened");
        let trap = format!("type('Trap', (), {{'__reduce__': lambda _: (open, ({mark:?}, 'w'))}})()");
        stage.answer(&incoming, PythonMessage::new(kind, pickled(&trap)));
        let ProcExitKind::Failed { reason } = exit.await.unwrap().kind else { panic!("no failure") };
        assert!(
            reason.starts_with("failed to decode exit result: protocol error: a pickle came"),
            "{reason}"
        );
        assert!(!mark.exists());
    }
}

#[tokio::test]
async fn an_exit_that_was_pickled_in_this_very_process_is_decoded_by_the_same_rules() {
    for (kind, payload, expected) in [
        (
            PythonMessageKind::Result { rank: None },
            pickled("Exit(exit_code=None, signal=9)"),
            ProcExitKind::Signaled { signal: 9, core_dumped: false },
        ),
        (
            PythonMessageKind::Exception { rank: None },
            pickled("RuntimeError('no GPU')"),
            ProcExitResult::failed("spawner raised: no GPU").kind,
        ),
        (
            PythonMessageKind::Result { rank: None },
            pickled("Exit(core_dumped=1)"),
            ProcExitResult::failed("failed to decode exit result: core_dumped must be a bool, not int").kind,
        ),
        (
            PythonMessageKind::CallMethod { name: MethodSpecifier::Init {}, response_port: None },
            Vec::new(),
            ProcExitResult::failed(
                "failed to decode exit result: protocol error: a call of \"__init__\" came where an exit was expected",
            )
            .kind,
        ),
    ] {
        let stage = stage_of_one();
        let (incoming, exit) = stage.launched(&proc_id("w-0")).await;
        stage.answer(&incoming, PythonMessage::new(kind, payload));
        assert_eq!(exit.await.unwrap().kind, expected);
    }
}
