//! Ends that trust each other because both have the same session key.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{CallBacks, soon};
use procession_model::LaunchId;
use procession_net::{
    Address, ClientTls, Crowd, Dial, DialCause, Listener, Serving, SessionCa, SessionKey, dial,
};

const NAME: &str = "worker";

fn key(byte: u8) -> SessionKey {
    SessionKey::from_bytes([byte; 32])
}

struct Served {
    serving: Serving,
    call_backs: Arc<CallBacks>,
}

impl Served {
    async fn with(key: &SessionKey) -> Self {
        let ca = SessionCa::from_key(key, NAME).unwrap();
        let call_backs = Arc::new(CallBacks::default());
        let serving = Listener::tcp("127.0.0.1:0", &ca).await.unwrap();
        let serving = serving.serve(call_backs.clone(), &Crowd::default());
        Self { serving, call_backs }
    }

    fn address(&self) -> Address {
        self.serving.local_address().clone()
    }

    /// What becomes of a launch that dials with `tls`, and with the right token.
    async fn admits(&self, tls: impl FnOnce(LaunchId) -> ClientTls) -> Result<(), DialCause> {
        let launch = LaunchId::fresh();
        let mut call_back = self.call_backs.expect(launch);
        let how = Dial {
            addresses: vec![self.address()],
            launch,
            token: call_back.token().clone(),
            tls: Some(tls(launch)),
            lease: Duration::ZERO,
        };
        match soon(dial(&how)).await {
            Ok(_link) => {
                soon(call_back.link()).await.unwrap();
                Ok(())
            }
            Err(mut error) => Err(error.attempts.remove(0).cause),
        }
    }
}

fn issue(byte: u8, launch: LaunchId) -> ClientTls {
    SessionCa::from_key(&key(byte), NAME).unwrap().issue(launch).unwrap()
}

#[tokio::test]
async fn whoever_has_the_key_makes_certificates_that_the_other_end_trusts() {
    let served = Served::with(&key(1)).await;
    served.admits(|launch| issue(1, launch)).await.unwrap();
}

#[tokio::test]
async fn an_end_with_another_key_is_trusted_by_neither_end() {
    let served = Served::with(&key(1)).await;
    let cause = served.admits(|launch| issue(2, launch)).await.unwrap_err();
    assert!(matches!(cause, DialCause::Tls(_)), "the dialler refuses who listens: {cause}");
    // One that would take anybody has nothing to show.
    let cause = served.admits(|launch| ClientTls { ca: issue(1, launch).ca, ..issue(2, launch) }).await;
    let cause = cause.unwrap_err();
    assert!(matches!(cause, DialCause::Tls(_) | DialCause::Refused), "{cause}");
}

#[tokio::test]
async fn a_dialler_cannot_come_as_another_launch_than_its_certificate_names() {
    let served = Served::with(&key(1)).await;
    let cause = served.admits(|_| issue(1, LaunchId::fresh())).await.unwrap_err();
    assert!(matches!(cause, DialCause::Refused), "{cause}");
}

#[test]
fn nothing_of_a_key_shows() {
    let ca = SessionCa::from_key(&key(65), NAME).unwrap();
    let text = format!("{ca:?} {:?}", ca.issue(LaunchId::fresh()).unwrap());
    assert!(!text.contains("65") && !text.contains("AAAA"), "{text}");
    assert!(SessionCa::from_key(&key(1), "no host!").is_err());
}
