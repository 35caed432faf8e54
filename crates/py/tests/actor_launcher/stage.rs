//! A host, and a launcher whose actor the test itself plays.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use procession_actor::{ActorHandle, Proc};
use procession_launch::ProcLauncher;
use procession_model::{ActorId, BootstrapCommand, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use procession_native::{ActorProcLauncher, Inbox, Incoming, PythonActor, PythonMessage, PythonMessageKind};

use crate::common::{Session, call};

pub(crate) const CLOSED: &str = "exit port closed (spawner crashed or forgot to send)";

/// A host, and a proc whose actor `docker` the test itself plays.
pub(crate) struct Stage {
    pub(crate) session: Session,
    pub(crate) host: Proc,
    /// Where the actor lives.
    pub(crate) away: Proc,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) launcher: ActorProcLauncher,
}

pub(crate) fn stage() -> Stage {
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("launchers"));
    set(session, host, away)
}

/// The same, with the actor in the process of the host.
pub(crate) fn stage_of_one() -> Stage {
    let session = Session::default();
    let host = session.join("host");
    set(session, host.clone(), host)
}

pub(crate) fn set(session: Session, host: Proc, away: Proc) -> Stage {
    let (_, inbox) = PythonActor::spawn(&away, "docker").unwrap();
    let launcher = launcher(&host, inbox.actor_id().clone());
    Stage { session, host, away, inbox, launcher }
}

pub(crate) fn launcher(host: &Proc, spawner: ActorId) -> ActorProcLauncher {
    ActorProcLauncher::new(ActorHandle::attach(host, spawner), host.mailbox(), host.instance())
}

impl Stage {
    pub(crate) async fn next(&self) -> Incoming {
        let inbox = Arc::clone(&self.inbox);
        tokio::task::spawn_blocking(move || inbox.next(None).unwrap()).await.unwrap()
    }

    pub(crate) fn acknowledge(&self, launch: &Incoming) {
        let (_, _, ack) = call(launch);
        ack.unwrap().send(&self.away, empty()).unwrap();
    }

    pub(crate) fn answer(&self, incoming: &Incoming, message: PythonMessage) {
        call(incoming).1.send(&self.away, message).unwrap();
    }

    /// Launches and acknowledges; gives the call, to answer it, and what the launch gave.
    pub(crate) async fn launched(
        &self,
        id: &ProcId,
    ) -> (Incoming, tokio::sync::oneshot::Receiver<ProcExitResult>) {
        let (launched, incoming) = tokio::join!(self.launcher.launch(id, options()), async {
            let incoming = self.next().await;
            self.acknowledge(&incoming);
            incoming
        });
        (incoming, launched.unwrap().exit_rx)
    }
}

pub(crate) fn empty() -> PythonMessage {
    PythonMessage::new(PythonMessageKind::Result { rank: None }, Vec::new())
}

pub(crate) fn options() -> LaunchOptions {
    LaunchOptions {
        bootstrap_payload: "payload".to_owned(),
        process_name: "p @ h".to_owned(),
        command: BootstrapCommand::new("/usr/bin/python3"),
        want_stdio: true,
        tail_lines: 3,
        log_channel: None,
        detach: false,
        lease: std::time::Duration::ZERO,
        output: None,
    }
}

pub(crate) fn exited(code: i32) -> ProcExitResult {
    ProcExitResult::new(ProcExitKind::Exited { code })
}

pub(crate) async fn is_pending<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Lets the other tasks run until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it should hold soon");
}

/// Why an exit port closed, as the exit tells.
pub(crate) fn closed(exit: ProcExitResult) -> String {
    let ProcExitKind::Failed { reason } = exit.kind else { panic!("{exit:?} is no failure") };
    reason.strip_prefix(CLOSED).unwrap_or_else(|| panic!("{reason}")).to_owned()
}

pub(crate) fn pickled_arguments(args: Vec<procession_native::Pickle>) -> Vec<u8> {
    use procession_native::Pickle::{Dict, Tuple};
    Tuple(vec![Tuple(args), Dict(Vec::new())]).to_vec()
}
