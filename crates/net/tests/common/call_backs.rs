//! A doorkeeper for tests: hands each launch's link to whoever expects it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procession_model::{LaunchId, Secret};
use procession_net::{Doorkeeper, Link};
use tokio::sync::oneshot;

/// How long both ends of a TCP link wait for each other.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// The launches that are expected; a token goes when it is claimed, the rest when the link comes.
pub(crate) struct CallBacks(Mutex<HashMap<LaunchId, Expected>>, Duration);

impl Default for CallBacks {
    fn default() -> Self {
        Self::with_lease(LEASE)
    }
}

type Expected = (Option<Secret>, oneshot::Sender<Link>);

/// One launch that is expected to call back. Dropping it makes its token worthless.
pub(crate) struct CallBack {
    launch: LaunchId,
    token: Secret,
    link: oneshot::Receiver<Link>,
    all: Arc<CallBacks>,
}

impl CallBacks {
    pub(crate) fn with_lease(lease: Duration) -> Self {
        Self(Mutex::default(), lease)
    }

    pub(crate) fn expect(self: &Arc<Self>, launch: LaunchId) -> CallBack {
        let token = Secret::random();
        let (sender, link) = oneshot::channel();
        self.0.lock().unwrap().insert(launch, (Some(token.clone()), sender));
        CallBack { launch, token, link, all: self.clone() }
    }
}

impl CallBack {
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    pub(crate) async fn link(&mut self) -> Option<Link> {
        (&mut self.link).await.ok()
    }
}

impl Drop for CallBack {
    fn drop(&mut self) {
        self.all.0.lock().unwrap().remove(&self.launch);
    }
}

impl Doorkeeper for CallBacks {
    fn token(&self, launch: LaunchId) -> Option<Secret> {
        self.0.lock().unwrap().get(&launch)?.0.clone()
    }

    fn claim(&self, launch: LaunchId) -> bool {
        self.0.lock().unwrap().get_mut(&launch).is_some_and(|expected| expected.0.take().is_some())
    }

    fn lease(&self, _: LaunchId) -> Duration {
        self.1
    }

    fn admit(&self, launch: LaunchId, link: Link) {
        if let Some((_, waiting)) = self.0.lock().unwrap().remove(&launch) {
            // A test that waits no longer drops the link.
            let _ = waiting.send(link);
        }
    }
}
