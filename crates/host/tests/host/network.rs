//! Procs that reach back over TCP with TLS, and what becomes of them when that connection is lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Instance, MailboxError, OncePortRef, wire_message,
};
use procession_host::{Child, ChildError};
use procession_launch::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError};
use procession_model::{ActorId, DialBack, Head, LaunchOptions, Packet, ProcExitKind, ProcId, ProcStatus};
use procession_net::{Dial, dial};
use serde::{Deserialize, Serialize};

use crate::common::{booting_script, host, line, program, script, shut_down, soon, within};

/// The native launcher, with procs that live somewhere else as far as they know.
struct Remote {
    native: Arc<dyn ProcLauncher>,
    dial_back: DialBack,
    payload: Mutex<String>,
}

impl Remote {
    fn new(native: Arc<dyn ProcLauncher>, bind: &str, advertise: Option<&str>) -> Arc<Self> {
        let dial_back = DialBack::Network { bind: bind.into(), advertise: advertise.map(Into::into) };
        Arc::new(Self { native, dial_back, payload: Mutex::default() })
    }

    /// What the last proc was given to reach back with.
    fn payload(&self) -> String {
        self.payload.lock().unwrap().clone()
    }
}

#[async_trait]
impl ProcLauncher for Remote {
    fn name(&self) -> &str {
        "remote"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { dial_back: self.dial_back.clone(), ..self.native.capabilities() }
    }

    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        *self.payload.lock().unwrap() = opts.bootstrap_payload.clone();
        self.native.launch(proc_id, opts).await
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.native.terminate(proc_id, timeout).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.native.kill(proc_id).await
    }
}

/// What a proc needs of its payload to reach back by itself.
#[derive(Deserialize)]
struct Payload {
    dial: Dial,
}

struct Far;
impl Actor for Far {}
impl Handler<Keep> for Far {
    async fn handle(&mut self, _: &Instance<Self>, _: Keep) -> Result<(), ActorFailure> {
        unreachable!("it only takes messages from afar")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Keep(OncePortRef<u64>);
wire_message!(Keep, "test.keep");

#[tokio::test]
async fn a_proc_whose_connection_is_lost_can_answer_nobody_and_is_killed_if_it_lives_on() {
    let host = host().await;
    let launcher = Remote::new(host.native_launcher(), "127.0.0.1:0", None);
    let proc_ = host.spawn(booting_script("p", "exec sleep 300"), launcher.clone()).unwrap();
    within(Duration::from_secs(20), "the launch", || proc_.status().status == ProcStatus::Running).await;
    // The test calls back in its name, so that the end of the connection is not that of the process.
    let payload = STANDARD_NO_PAD.decode(launcher.payload()).unwrap();
    let mut link = soon(dial(&rmp_serde::from_slice::<Payload>(&payload).unwrap().dial)).await.unwrap();
    link.sender.post(Packet::bare(Head::Ready { pid: 1 })).unwrap();
    soon(proc_.ready()).await.unwrap();

    let cx = host.proc_().instance();
    let far = ActorHandle::<Far>::attach(host.proc_(), ActorId::new(proc_.id().clone(), "far"));
    let (port, answer) = cx.mailbox().open_once_port();
    far.send(&cx, Keep(port.bind())).unwrap();
    let is_delivery =
        |packet: &Packet| matches!(&packet.head, Head::Deliver { ports, .. } if ports.len() == 1);
    while !is_delivery(&soon(link.receiver.recv()).await.unwrap().unwrap()) {}
    drop(link);

    let lost = format!("the connection to proc {} was lost", proc_.id());
    assert_eq!(soon(answer.recv()).await, Err(MailboxError::Closed(lost.clone())));
    assert!(proc_.exit().is_none(), "a lost connection is no exit");
    let (port, _answer) = cx.mailbox().open_once_port();
    assert_eq!(far.send(&cx, Keep(port.bind())).unwrap_err().to_string(), lost);
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    assert!(exit.verdict.contains("it lost its connection to the host"), "{}", exit.verdict);
    shut_down(host).await;
}

#[tokio::test]
async fn a_payload_that_is_none_is_refused_without_a_call() {
    for text in ["", "not base64!", "bm90IGEgcGF5bG9hZA"] {
        let error = Child::dial_back(text).await.err().expect("it is no payload");
        assert!(matches!(error, ChildError::Payload(_)), "{error}");
    }
}

mod f93 {
    use super::*;

    #[tokio::test]
    async fn a_proc_reaches_back_over_tls_and_its_token_serves_once() {
        let host = host().await;
        let launcher = Remote::new(host.native_launcher(), "127.0.0.1:0", Some("localhost"));
        let proc_ = host.spawn(program("p", "proc"), launcher.clone()).unwrap();
        soon(proc_.ready()).await.unwrap();
        let refused = soon(Child::dial_back(&launcher.payload())).await.err().expect("the token was used");
        assert!(matches!(&refused, ChildError::Dial(_)), "{refused}");
        assert!(refused.to_string().contains("the host refused"), "{refused}");
        assert_eq!(proc_.status().status, ProcStatus::Ready);
        let exit = soon(proc_.stop("test", None)).await;
        assert_eq!((exit.kind.clone(), exit.launcher.as_str()), (ProcExitKind::Exited { code: 0 }, "remote"));
        shut_down(host).await;
    }

    #[tokio::test]
    async fn a_token_is_worthless_once_its_proc_is_given_up() {
        let host = host().await;
        let launcher = Remote::new(host.native_launcher(), "127.0.0.1:0", None);
        let mut spec = booting_script("p", "trap '' TERM; echo armed; echo; while :; do sleep 0.05; done");
        spec.policy.ready_timeout = Duration::from_secs(60);
        spec.policy.stop_grace = Duration::from_secs(20);
        let proc_ = host.spawn(spec, launcher.clone()).unwrap();
        assert_eq!(line(&proc_, 0).await, "armed");
        let stopped = proc_.clone();
        let stopping = tokio::spawn(async move { stopped.stop("test", None).await });
        soon(proc_.ready()).await.unwrap_err();
        assert!(proc_.exit().is_none(), "it is still being ended");
        let refused =
            soon(Child::dial_back(&launcher.payload())).await.err().expect("nobody expects it any more");
        assert!(refused.to_string().contains("the host refused"), "{refused}");
        soon(proc_.kill("test")).await.unwrap();
        soon(stopping).await.unwrap();
        shut_down(host).await;
    }

    #[tokio::test]
    async fn a_token_that_nobody_waits_for_lets_nobody_in() {
        let host = host().await;
        let launcher = Remote::new(host.native_launcher(), "127.0.0.1:0", None);
        let proc_ = host.spawn(script("p", "exec sleep 300"), launcher.clone()).unwrap();
        soon(proc_.ready()).await.unwrap();
        let refused = soon(Child::dial_back(&launcher.payload())).await.err().expect("it never calls back");
        assert!(refused.to_string().contains("the host refused"), "{refused}");
        assert_eq!(proc_.status().status, ProcStatus::Running);
        shut_down(host).await;
    }
}

mod f102 {
    use super::*;

    #[tokio::test]
    async fn an_address_that_nobody_can_dial_is_a_failed_launch_that_says_what_to_give() {
        let host = host().await;
        for (bind, advertise, needle) in [
            ("0.0.0.0:0", None, "give `advertise`"),
            ("[::]:0", None, "give `advertise`"),
            ("127.0.0.1:0", Some("0.0.0.0"), "none that can be dialled"),
            ("127.0.0.1:0", Some("localhost:0"), "nobody can dial port 0"),
            ("127.0.0.1:0", Some("two words"), "advertise = \"two words\""),
        ] {
            let launcher = Remote::new(host.native_launcher(), bind, advertise);
            let exit = soon(host.spawn(program("p", "proc"), launcher).unwrap().ended()).await;
            assert!(
                matches!(&exit.kind, ProcExitKind::Failed { reason } if reason.contains(needle)),
                "{}",
                exit.kind
            );
        }
        shut_down(host).await;
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_bound_is_a_failed_launch_that_names_it() {
        let host = host().await;
        for bind in ["127.0.0.1", "192.0.2.1:0"] {
            let launcher = Remote::new(host.native_launcher(), bind, None);
            let exit = soon(host.spawn(program("p", "proc"), launcher).unwrap().ended()).await;
            assert!(
                matches!(&exit.kind, ProcExitKind::Failed { reason } if reason.contains(bind)),
                "{}",
                exit.kind
            );
        }
        shut_down(host).await;
    }
}
