//! Launches: what is sent, what is refused, and what is tracked.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use procession_launch::{Capabilities, ProcLauncher, ProcLauncherError};
use procession_model::{ActorId, BootstrapCommand, DialBack};
use procession_native::PythonMessage;

use crate::common::{Session, proc_id};
use crate::stage::{closed, exited, is_pending, launcher, options, stage, until};

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
