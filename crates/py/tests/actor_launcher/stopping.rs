//! Terminate and kill, which the spawner answers.

use std::time::Duration;

use procession_launch::{ProcLauncher, ProcLauncherError};
use procession_model::ProcExitResult;
use procession_native::{PythonMessage, PythonMessageKind};

use crate::common::{call, pickled, proc_id};
use crate::stage::{empty, exited, pickled_arguments, stage, stage_of_one, until};

#[tokio::test]
async fn terminate_and_kill_are_acknowledged_calls() {
    let stage = stage();
    let id = proc_id("w-0");
    let (asked, incoming) = tokio::join!(stage.launcher.terminate(&id, Duration::from_millis(2500)), async {
        let incoming = stage.next().await;
        stage.answer(&incoming, empty());
        incoming
    });
    asked.unwrap();
    assert_eq!(call(&incoming).0, "terminate");
    assert!(!call(&incoming).1.answers_exit() && call(&incoming).2.is_none());
    assert_eq!(
        incoming.message.message.to_bytes(),
        pickled_arguments(vec![
            procession_native::Pickle::Str(id.to_string()),
            procession_native::Pickle::Float(2.5)
        ])
    );
    let (asked, incoming) = tokio::join!(stage.launcher.kill(&id), async {
        let incoming = stage.next().await;
        stage.answer(&incoming, empty());
        incoming
    });
    asked.unwrap();
    assert_eq!(call(&incoming).0, "kill");
    assert_eq!(
        incoming.message.message.to_bytes(),
        pickled_arguments(vec![procession_native::Pickle::Str(id.to_string())])
    );
}

#[tokio::test]
async fn a_terminate_or_kill_that_raises_says_what_was_raised() {
    let stage = stage_of_one();
    let id = proc_id("w-0");
    for text in [Some("no such container"), None] {
        let mut raised = PythonMessage::new(
            PythonMessageKind::Exception { rank: None },
            pickled("KeyError('no such container')"),
        );
        raised.text = text.map(str::to_owned);
        let (asked, ()) = tokio::join!(stage.launcher.terminate(&id, Duration::ZERO), async {
            let incoming = stage.next().await;
            stage.answer(&incoming, raised);
        });
        let error = asked.unwrap_err();
        assert!(
            matches!(&error, ProcLauncherError::Terminate(why) if why.contains("raised") && why.contains("no such container")),
            "{error}"
        );
    }
    let (asked, ()) = tokio::join!(stage.launcher.kill(&id), async {
        let incoming = stage.next().await;
        stage.answer(&incoming, PythonMessage::exit(ProcExitResult::failed("spawner raised: gone")));
    });
    assert!(matches!(asked, Err(ProcLauncherError::Kill(why)) if why.contains("spawner raised: gone")));
    let (asked, ()) = tokio::join!(stage.launcher.kill(&id), async {
        drop(stage.next().await);
    });
    assert!(
        matches!(asked, Err(ProcLauncherError::Kill(why)) if why.contains("let go of the answer to kill"))
    );
    let (asked, ()) = tokio::join!(stage.launcher.kill(&id), async {
        let incoming = stage.next().await;
        stage.answer(&incoming, PythonMessage::exit(exited(0)));
    });
    assert!(matches!(asked, Err(ProcLauncherError::Kill(why)) if why.contains("protocol error")));
}

#[tokio::test(start_paused = true)]
async fn a_spawner_that_hangs_is_given_up_after_the_bound() {
    let stage = stage();
    let id = proc_id("w-0");
    let start = tokio::time::Instant::now();
    let error = stage.launcher.terminate(&id, Duration::from_secs(10)).await.unwrap_err();
    assert!(
        matches!(&error, ProcLauncherError::Terminate(why) if why.contains("did not answer terminate within 15s"))
    );
    assert_eq!(start.elapsed().as_secs(), 15);
    let error = stage.launcher.kill(&id).await.unwrap_err();
    assert!(
        matches!(&error, ProcLauncherError::Kill(why) if why.contains("did not answer kill within 5s")),
        "{error}"
    );
    assert_eq!(start.elapsed().as_secs(), 20);
    assert_eq!(stage.host.open_ports(), 0);
}

#[tokio::test]
async fn a_kill_that_fails_because_the_proc_has_ended_meanwhile_is_ok() {
    let stage = stage();
    let id = proc_id("w-0");
    let (launch, exit) = stage.launched(&id).await;
    let (killed, ()) = tokio::join!(stage.launcher.kill(&id), async {
        let kill = stage.next().await;
        stage.answer(&launch, PythonMessage::exit(exited(0)));
        until(|| stage.launcher.tracked().is_empty()).await;
        let mut raised = PythonMessage::new(PythonMessageKind::Exception { rank: None }, Vec::new());
        raised.text = Some("no such container".to_owned());
        stage.answer(&kill, raised);
    });
    killed.unwrap();
    assert_eq!(exit.await.unwrap(), exited(0));
}

#[tokio::test]
async fn a_request_that_the_end_of_its_spawner_leaves_unanswered_says_whose_end_it_was() {
    for (built, begins) in [
        (true, "LauncherLost: the spawner is gone: boom; "),
        (false, "LauncherUnavailable: the spawner is gone: actor "),
    ] {
        let (stage, id) = (stage(), proc_id("w-0"));
        let (asked, ()) = tokio::join!(stage.launcher.kill(&id), async {
            let _incoming = stage.next().await;
            if built { stage.inbox.end(Some("boom")) } else { stage.inbox.end_uncreated("boom") }
        });
        let Err(ProcLauncherError::Kill(why)) = asked else { panic!("{asked:?}") };
        assert!(why.starts_with(begins), "{why}");
    }
}
