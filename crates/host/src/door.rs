use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procession_model::{LaunchId, Secret};
use procession_net::{Doorkeeper, Link};
use tokio::sync::mpsc::UnboundedSender;

use crate::input::Input;
use crate::payload_file::PayloadFile;

struct Expected {
    /// Gone once it was used.
    token: Option<Secret>,
    /// Goes with the token.
    file: Option<PayloadFile>,
    lease: Duration,
    driver: UnboundedSender<Input>,
}

/// Who may come in: one connection for each launch that has not called back yet.
#[derive(Default)]
pub(crate) struct Door(Mutex<HashMap<LaunchId, Expected>>);

impl Door {
    fn expected(&self) -> std::sync::MutexGuard<'_, HashMap<LaunchId, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn expect(
        &self,
        launch: LaunchId,
        token: Secret,
        lease: Duration,
        driver: UnboundedSender<Input>,
    ) {
        self.expected().insert(launch, Expected { token: Some(token), file: None, lease, driver });
    }

    /// Keeps the file with the token of `launch` for as long as that is expected.
    pub(crate) fn keep(&self, launch: LaunchId, file: PayloadFile) {
        match self.expected().get_mut(&launch) {
            Some(expected) if expected.token.is_some() => expected.file = Some(file),
            _ => file.remove(),
        }
    }

    pub(crate) fn forget(&self, launch: LaunchId) {
        if let Some(file) = self.expected().remove(&launch).and_then(|expected| expected.file) {
            file.remove();
        }
    }
}

impl Doorkeeper for Door {
    fn token(&self, launch: LaunchId) -> Option<Secret> {
        self.expected().get(&launch).and_then(|expected| expected.token.clone())
    }

    fn claim(&self, launch: LaunchId) -> bool {
        let mut all = self.expected();
        let Some(expected) = all.get_mut(&launch) else { return false };
        if let Some(file) = expected.file.take() {
            file.remove();
        }
        expected.token.take().is_some()
    }

    fn lease(&self, launch: LaunchId) -> Duration {
        self.expected().get(&launch).map(|expected| expected.lease).unwrap_or_default()
    }

    fn admit(&self, launch: LaunchId, link: Link) {
        // A launch that was given up meanwhile drops the link, which ends the proc.
        if let Some(expected) = self.expected().get(&launch) {
            let _given_up = expected.driver.send(Input::Link(link));
        }
    }
}
