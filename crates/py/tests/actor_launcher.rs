//! A launcher whose work an actor does, seen from the host.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::future::{Future, poll_fn};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use common::{Session, call, pickled, proc_id};
use procession_actor::{ActorHandle, Proc};
use procession_launch::{Capabilities, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_model::{
    ActorId, BootstrapCommand, DialBack, LaunchOptions, ProcExitKind, ProcExitResult, ProcId,
};
use procession_native::{
    ActorProcLauncher, Inbox, Incoming, MethodSpecifier, PythonActor, PythonMessage, PythonMessageKind,
};

const CLOSED: &str = "exit port closed (spawner crashed or forgot to send)";

/// A host, and a proc whose actor `docker` the test itself plays.
struct Stage {
    session: Session,
    host: Proc,
    /// Where the actor lives.
    away: Proc,
    inbox: Arc<Inbox>,
    launcher: ActorProcLauncher,
}

fn stage() -> Stage {
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("launchers"));
    set(session, host, away)
}

/// The same, with the actor in the process of the host.
fn stage_of_one() -> Stage {
    let session = Session::default();
    let host = session.join("host");
    set(session, host.clone(), host)
}

fn set(session: Session, host: Proc, away: Proc) -> Stage {
    let (_, inbox) = PythonActor::spawn(&away, "docker").unwrap();
    let launcher = launcher(&host, inbox.actor_id().clone());
    Stage { session, host, away, inbox, launcher }
}

fn launcher(host: &Proc, spawner: ActorId) -> ActorProcLauncher {
    ActorProcLauncher::new(ActorHandle::attach(host, spawner), host.mailbox(), host.instance())
}

impl Stage {
    async fn next(&self) -> Incoming {
        let inbox = Arc::clone(&self.inbox);
        tokio::task::spawn_blocking(move || inbox.next(None).unwrap()).await.unwrap()
    }

    fn acknowledge(&self, launch: &Incoming) {
        let (_, _, ack) = call(launch);
        ack.unwrap().send(&self.away, empty()).unwrap();
    }

    fn answer(&self, incoming: &Incoming, message: PythonMessage) {
        call(incoming).1.send(&self.away, message).unwrap();
    }

    /// Launches and acknowledges; gives the call, to answer it, and what the launch gave.
    async fn launched(&self, id: &ProcId) -> (Incoming, tokio::sync::oneshot::Receiver<ProcExitResult>) {
        let (launched, incoming) = tokio::join!(self.launcher.launch(id, options()), async {
            let incoming = self.next().await;
            self.acknowledge(&incoming);
            incoming
        });
        (incoming, launched.unwrap().exit_rx)
    }
}

fn empty() -> PythonMessage {
    PythonMessage::new(PythonMessageKind::Result { rank: None }, Vec::new())
}

fn options() -> LaunchOptions {
    LaunchOptions {
        bootstrap_payload: "payload".to_owned(),
        process_name: "p @ h".to_owned(),
        command: BootstrapCommand::new("/usr/bin/python3"),
        want_stdio: true,
        tail_lines: 3,
        log_channel: None,
        detach: false,
        output: None,
    }
}

fn exited(code: i32) -> ProcExitResult {
    ProcExitResult::new(ProcExitKind::Exited { code })
}

async fn is_pending<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Lets the other tasks run until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it should hold soon");
}

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

/// Why an exit port closed, as the exit tells.
fn closed(exit: ProcExitResult) -> String {
    let ProcExitKind::Failed { reason } = exit.kind else { panic!("{exit:?} is no failure") };
    reason.strip_prefix(CLOSED).unwrap_or_else(|| panic!("{reason}")).to_owned()
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
async fn when_the_send_is_cut_nothing_is_tracked_and_the_error_says_so() {
    let host = Session::default().join("host");
    let spawner = ActorId::new(proc_id("never-launched"), "docker");
    let launcher = launcher(&host, spawner);
    let id = proc_id("w-0");
    let error = launcher.launch(&id, options()).await.unwrap_err();
    let ProcLauncherError::Other(text) = &error else { panic!("{error:?}") };
    assert!(text.starts_with("send to spawner failed: ") && text.contains("cannot be reached"), "{text}");
    assert!(launcher.tracked().is_empty());
    let error = launcher.terminate(&id, Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(&error, ProcLauncherError::Terminate(why) if why.starts_with("LauncherLost: send to spawner failed: ")),
        "{error}"
    );
    let error = launcher.kill(&id).await.unwrap_err();
    assert!(
        matches!(&error, ProcLauncherError::Kill(why) if why.starts_with("LauncherLost: send to spawner failed: ")),
        "{error}"
    );
    assert_eq!(host.open_ports(), 0);
}

#[tokio::test]
async fn a_program_that_is_not_utf8_is_refused_before_anything_is_sent() {
    let stage = stage();
    let mut opts = options();
    opts.command.program = PathBuf::from(std::ffi::OsString::from_vec(b"/bin/\xff".to_vec()));
    let error = stage.launcher.launch(&proc_id("w-0"), opts).await.unwrap_err().to_string();
    assert!(
        error.contains("program \"/bin/\\xFF\" is not valid UTF-8") && error.contains("native launcher"),
        "{error}"
    );
    assert!(stage.launcher.tracked().is_empty() && stage.inbox.drain().is_empty());
    assert_eq!(stage.host.open_ports(), 0);
}

#[tokio::test]
async fn attributes_that_the_spawner_cannot_honour_are_refused_and_not_ignored() {
    let stage = stage();
    for set in [(|command| command.clear_env = true) as fn(&mut BootstrapCommand), |command| {
        command.env_remove.push("HOME".to_owned())
    }] {
        let mut opts = options();
        set(&mut opts.command);
        let error = stage.launcher.launch(&proc_id("w-0"), opts).await.unwrap_err().to_string();
        assert!(error.contains("command_attributes"), "{error}");
    }
    assert!(stage.inbox.drain().is_empty());
}

#[tokio::test]
async fn a_launch_that_is_given_up_stays_tracked_until_its_exit() {
    let stage = stage();
    let id = proc_id("w-0");
    let mut launch = Box::pin(stage.launcher.launch(&id, options()));
    assert!(is_pending(launch.as_mut()).await);
    drop(launch);
    let incoming = stage.next().await;
    assert_eq!(stage.launcher.tracked(), [id]);
    stage.answer(&incoming, PythonMessage::exit(exited(0)));
    until(|| stage.launcher.tracked().is_empty()).await;
    assert_eq!(stage.host.open_ports(), 0);
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

fn pickled_arguments(args: Vec<procession_native::Pickle>) -> Vec<u8> {
    use procession_native::Pickle::{Dict, Tuple};
    Tuple(vec![Tuple(args), Dict(Vec::new())]).to_vec()
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
async fn a_thousand_launches_at_once_all_get_their_own_exit() {
    let stage = Arc::new(stage());
    let launches: Vec<_> = (0..1000)
        .map(|number| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move {
                let launched =
                    stage.launcher.launch(&proc_id(&format!("w-{number}")), options()).await.unwrap();
                launched.exit_rx.await.unwrap()
            })
        })
        .collect();
    // Incoming messages keep the order of the launches.
    for number in 0..1000 {
        let incoming = stage.next().await;
        stage.acknowledge(&incoming);
        stage.answer(&incoming, PythonMessage::exit(exited(number % 256)));
    }
    for (number, launch) in (0..).zip(launches) {
        assert_eq!(launch.await.unwrap(), exited(number % 256));
    }
    assert!(stage.launcher.tracked().is_empty());
    assert_eq!(stage.host.open_ports(), 0);
}

#[tokio::test]
async fn a_launcher_is_called_what_its_actor_is_called_and_can_what_it_is_told() {
    let stage = stage();
    assert_eq!(stage.launcher.name(), "docker");
    assert_eq!(stage.launcher.capabilities().dial_back, DialBack::Local);
    let capabilities = Capabilities {
        pid: true,
        stdio: true,
        tail: true,
        tree_kill: true,
        raw_paths: false,
        command_attributes: true,
        dial_back: DialBack::Network { bind: "127.0.0.1:0".to_owned(), advertise: None },
        ..Capabilities::default()
    };
    let launcher = stage.launcher.with_name("podman").with_capabilities(capabilities.clone());
    assert_eq!((launcher.name(), launcher.capabilities()), ("podman", capabilities));
    assert!(!launcher.knows_status_by_parenthood());
}

mod f63 {
    use super::*;

    #[tokio::test]
    async fn a_launcher_that_never_came_to_be_is_unavailable_for_that_reason() {
        let stage = stage();
        stage.inbox.end_uncreated("OSError: no\nTraceback");
        let exit = stage.launcher.launch(&proc_id("w-0"), options()).await.unwrap().exit_rx;
        let why = closed(exit.await.unwrap());
        assert!(
            why.starts_with(": LauncherUnavailable: ") && why.ends_with("OSError: no\nTraceback"),
            "{why}"
        );
    }
}

mod f53 {
    use super::*;

    #[tokio::test]
    async fn a_launcher_that_is_refused_is_sent_nothing() {
        let stage = stage();
        let launcher = launcher(&stage.host, stage.inbox.actor_id().clone()).refusing("RestartLimit".into());
        let text = launcher.admit().await.unwrap_err().to_string();
        assert_eq!(text, "LauncherUnavailable: launcher \"docker\": RestartLimit");
        stage.inbox.end(None);
    }
}

mod f64 {
    use super::*;

    #[tokio::test]
    async fn as_many_launches_are_out_as_may_wait_for_an_acknowledgement_and_no_more() {
        let stage = stage();
        let mut rooms = Vec::new();
        for _ in 0..128 {
            rooms.push(stage.launcher.admit().await.unwrap());
        }
        let mut next = pin!(stage.launcher.admit());
        assert!(is_pending(next.as_mut()).await);
        rooms.pop();
        next.await.unwrap();
    }
}
