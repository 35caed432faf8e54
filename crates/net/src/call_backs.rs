use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_model::{LaunchId, Secret};
use tokio::sync::oneshot;

use crate::{Doorkeeper, Link};

/// The launches that are expected to call back, each with its single-use token.
#[derive(Debug, Default)]
pub struct CallBacks {
    expected: Mutex<HashMap<LaunchId, Expected>>,
}

#[derive(Debug)]
struct Expected {
    /// None once it was proved.
    token: Option<Secret>,
    link: oneshot::Sender<Link>,
}

/// One launch that is expected to call back. Dropping it makes its token worthless.
#[derive(Debug)]
pub struct CallBack {
    launch: LaunchId,
    token: Secret,
    link: oneshot::Receiver<Link>,
    all: Arc<CallBacks>,
}

impl CallBacks {
    /// Expects `launch`, whose earlier token, if it had one, is worthless from now on.
    pub fn expect(self: &Arc<Self>, launch: LaunchId) -> CallBack {
        let token = Secret::random();
        let (sender, link) = oneshot::channel();
        self.expected().insert(launch, Expected { token: Some(token.clone()), link: sender });
        CallBack { launch, token, link, all: self.clone() }
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<LaunchId, Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallBack {
    /// The token that the launch has to prove.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Waits for the launch to call back; none when it was expected anew, or was asked for its
    /// link before. Cancel safe. There is no deadline but the caller's.
    pub async fn link(&mut self) -> Option<Link> {
        (&mut self.link).await.ok()
    }
}

impl Drop for CallBack {
    fn drop(&mut self) {
        let mut expected = self.all.expected();
        // Another call may be expected under the same id by now; that one's channel is still open.
        if expected
            .get(&self.launch)
            .is_some_and(|entry| entry.token.as_ref().is_none_or(|token| *token == self.token))
        {
            expected.remove(&self.launch);
        }
    }
}

impl Doorkeeper for CallBacks {
    fn token(&self, launch: LaunchId) -> Option<Secret> {
        self.expected().get(&launch)?.token.clone()
    }

    fn claim(&self, launch: LaunchId) -> bool {
        self.expected().get_mut(&launch).is_some_and(|entry| entry.token.take().is_some())
    }

    fn admit(&self, launch: LaunchId, link: Link) {
        let entry = self.expected().remove(&launch);
        // When nobody waits any more the link is dropped, and so closed.
        if let Some(entry) = entry {
            let _ = entry.link.send(link);
        }
    }
}
