//! Procs that reach back over TCP with TLS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use procession_host::{Child, ChildError};
use procession_launch::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError};
use procession_model::{DialBack, LaunchOptions, ProcExitKind, ProcId, ProcStatus};

use crate::common::{booting_script, host, program, shut_down, soon};

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

#[tokio::test]
async fn a_proc_reaches_back_over_tls_and_its_token_serves_once() {
    let host = host().await;
    let launcher = Remote::new(host.native_launcher(), "127.0.0.1:0", Some("localhost"));
    let proc_ = host.spawn(program("p", "proc"), launcher.clone()).unwrap();
    soon(proc_.ready()).await.unwrap();
    let payload = launcher.payload.lock().unwrap().clone();
    let refused = soon(Child::dial_back(&payload)).await.err().expect("the token was used");
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
    let mut spec = booting_script("p", "trap '' TERM; while :; do sleep 0.05; done");
    spec.policy.ready_timeout = Duration::from_millis(200);
    spec.policy.stop_grace = Duration::from_secs(20);
    let proc_ = host.spawn(spec, launcher.clone()).unwrap();
    soon(proc_.ready()).await.unwrap_err();
    assert!(proc_.exit().is_none(), "it is still being ended");
    let payload = launcher.payload.lock().unwrap().clone();
    let refused = soon(Child::dial_back(&payload)).await.err().expect("nobody expects it any more");
    assert!(refused.to_string().contains("the host refused"), "{refused}");
    soon(proc_.kill("test")).await.unwrap();
    soon(proc_.ended()).await;
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

#[tokio::test]
async fn a_payload_that_is_none_is_refused_without_a_call() {
    for text in ["", "not base64!", "bm90IGEgcGF5bG9hZA"] {
        let error = Child::dial_back(text).await.err().expect("it is no payload");
        assert!(matches!(error, ChildError::Payload(_)), "{error}");
    }
}
