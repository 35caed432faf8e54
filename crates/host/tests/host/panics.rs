//! A panic in the tasks of the host.

use std::path::Path;
use std::time::Duration;

use procession_host::{Host, ProcRef};
use procession_model::ProcExitKind;
use procession_sys::{Process, set_failpoints};

use crate::common::{booting_script, host, lives, members, program, script, shut_down, soon, spawn, within};

/// How a launch is led to where it panics.
#[derive(Clone, Copy, Debug)]
enum By {
    Launching,
    CallingBack,
    MissingItsDeadline,
    Ending,
    Stopping,
    Killing,
}

use By::*;

const PLACES: [(&str, By); 12] = [
    ("host-before-asking", Launching),
    ("host-task-done", Launching),
    ("host-launched", Launching),
    ("host-before-welcome", CallingBack),
    ("host-input", CallingBack),
    ("host-alarm", MissingItsDeadline),
    ("host-task-done", Ending),
    ("host-before-publishing", Ending),
    ("host-input", Stopping),
    ("host-asking-to-terminate", Stopping),
    ("host-input", Killing),
    ("host-asking-to-kill", Killing),
];

/// A launch that has panicked, with nobody waiting for its end yet.
async fn panicked(host: &Host, place: &Path, by: By) -> ProcRef {
    let arm = || std::fs::write(place, "panic").unwrap();
    let mut running = match by {
        CallingBack => program("it", "proc"),
        MissingItsDeadline => booting_script("it", "exec sleep 1000"),
        _ => script("it", "exec sleep 1000"),
    };
    if matches!(by, MissingItsDeadline) {
        running.policy.ready_timeout = Duration::from_millis(300);
    }
    if matches!(by, Launching | CallingBack | MissingItsDeadline) {
        arm();
        return spawn(host, running);
    }
    let it = spawn(host, running);
    soon(it.ready()).await.unwrap();
    arm();
    match by {
        Stopping => drop(soon(it.terminate(Duration::from_secs(1), "test")).await),
        Killing => {
            // Who asked is told that it was not done, and may ask again.
            if let Err(why) = soon(it.kill("test")).await
                && it.exit().is_none()
                && !place.exists()
            {
                assert!(why.contains("panicked"), "{why}");
                soon(it.kill("test")).await.unwrap();
            }
        }
        _ => {
            Process::look(it.status().pid.unwrap()).unwrap().signal(9);
        }
    }
    it
}

mod f81 {
    use super::*;

    #[tokio::test]
    async fn a_panic_anywhere_in_the_supervision_of_a_launch_ends_that_launch_and_no_other() {
        let places = tempfile::tempdir().unwrap();
        set_failpoints(places.path());
        let host = host().await;
        let bystander = spawn(&host, script("bystander", "exec sleep 1000"));
        soon(bystander.ready()).await.unwrap();
        for (name, by) in PLACES {
            let place = places.path().join(name);
            let it = panicked(&host, &place, by).await;
            let exit = soon(it.ended()).await;
            assert!(!place.exists(), "{name} {by:?}: nothing has panicked, {:?}", exit.kind);
            let killed = ProcExitKind::Signaled { signal: 9, core_dumped: false };
            match &exit.kind {
                ProcExitKind::Failed { .. } | ProcExitKind::Lost { .. } => {}
                kind => {
                    assert!(name.starts_with("host-asking-to") && *kind == killed, "{name} {by:?}: {kind:?}")
                }
            }
            within(Duration::from_secs(10), "nothing of it stays", || members(it.id()).is_empty()).await;
            assert!(bystander.exit().is_none() && lives(bystander.status().pid.unwrap()), "{name} {by:?}");
        }
        soon(bystander.kill("test")).await.unwrap();
        let exit = soon(bystander.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
        let later = spawn(&host, script("it", "exit 4"));
        assert_eq!(soon(later.ended()).await.kind, ProcExitKind::Exited { code: 4 });
        shut_down(host).await;
    }
}
