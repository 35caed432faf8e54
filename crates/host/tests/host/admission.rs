//! Launchers that take a few launches at a time, or none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use procession_host::ProcRef;
use procession_launch::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError};
use procession_model::{LaunchOptions, ProcExitKind, ProcId, ProcStatus};
use tokio::sync::Semaphore;

use crate::common::{host, script, shut_down, soon};
use crate::puppet::{accepted, exited, puppet};

/// A puppet behind a door.
struct Doored {
    inner: Arc<dyn ProcLauncher>,
    /// Closed: nobody is let in.
    room: Arc<Semaphore>,
}

#[async_trait]
impl ProcLauncher for Doored {
    fn name(&self) -> &str {
        "doored"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        let permit = Arc::clone(&self.room).acquire_owned().await;
        permit
            .map(Admission::from)
            .map_err(|_| ProcLauncherError::Other("it could not be started".to_owned()))
    }

    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        self.inner.launch(proc_id, opts).await
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.inner.terminate(proc_id, timeout).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.inner.kill(proc_id).await
    }
}

async fn until_running(proc_: &ProcRef) {
    while proc_.status().status != ProcStatus::Running {
        tokio::task::yield_now().await;
    }
}

mod f64 {
    use super::*;

    #[tokio::test]
    async fn launches_beyond_the_room_wait_for_an_acknowledgement_and_then_go_out_in_order() {
        let host = host().await;
        let (inner, strings) = puppet();
        let room = Arc::new(Semaphore::new(2));
        let launcher: Arc<dyn ProcLauncher> = Arc::new(Doored { inner, room: Arc::clone(&room) });
        let spawn = |n: usize| host.spawn(script(&format!("p{n}"), "exit 0"), Arc::clone(&launcher)).unwrap();
        let procs: Vec<_> = (0..4).map(spawn).collect();
        let mut ends = Vec::new();
        let mut asked = vec![strings.launch().await, strings.launch().await];
        for (round, proc_) in procs.iter().enumerate() {
            assert_eq!(room.available_permits(), 0, "as many as there is room for are out");
            assert!(strings.is_idle().await, "and no more");
            let (options, answer) = asked.remove(0);
            assert!(options.process_name.starts_with(&format!("p{round} @ ")), "{}", options.process_name);
            let (result, end) = accepted(None);
            answer.send(Ok(result)).unwrap();
            ends.push(end);
            match round {
                0 | 1 => asked.push(strings.launch().await),
                _ => soon(until_running(proc_)).await,
            }
            if round == 2 {
                // There is room for one more now, and nobody who wants it.
                room.forget_permits(1);
            }
        }
        for end in ends {
            end.send(exited(0)).unwrap();
        }
        for proc_ in procs {
            assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 0 });
        }
        shut_down(host).await;
    }

    #[tokio::test]
    async fn a_launch_that_is_stopped_while_it_waits_for_room_never_goes_out() {
        let host = host().await;
        let (inner, strings) = puppet();
        let launcher = Arc::new(Doored { inner, room: Arc::new(Semaphore::new(0)) });
        let proc_ = host.spawn(script("p", "exit 0"), launcher).unwrap();
        soon(proc_.kill("test")).await.unwrap();
        let exit = soon(proc_.ended()).await;
        let ProcExitKind::Failed { reason } = &exit.kind else { panic!("{}", exit.kind) };
        assert!(reason.starts_with("cancelled before start"), "{reason}");
        assert!(strings.is_idle().await);
        shut_down(host).await;
    }
}

#[tokio::test]
async fn a_launcher_that_takes_nobody_in_fails_the_launch_for_its_own_reason() {
    let host = host().await;
    let (inner, strings) = puppet();
    let room = Arc::new(Semaphore::new(0));
    room.close();
    let proc_ = host.spawn(script("p", "exit 0"), Arc::new(Doored { inner, room })).unwrap();
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Failed { reason: "it could not be started".to_owned() });
    assert!(strings.is_idle().await);
    shut_down(host).await;
}
