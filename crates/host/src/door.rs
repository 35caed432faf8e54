use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procession_model::{LaunchId, Secret};
use procession_net::{Doorkeeper, Link};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::input::Input;
use crate::payload_file::PayloadFile;

struct Expected {
    /// Gone once it was used.
    token: Option<Secret>,
    /// Goes with the token.
    file: Option<PayloadFile>,
    lease: Duration,
    driver: UnboundedSender<Input>,
    /// How many have proved themselves, and are not in yet.
    arriving: watch::Sender<usize>,
}

/// Somebody is coming in.
struct Arriving(watch::Sender<usize>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
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
        let arriving = watch::Sender::new(0);
        let expected = Expected { token: Some(token), file: None, lease, driver, arriving };
        self.expected().insert(launch, expected);
    }

    /// Keeps the file with the token of `launch` for as long as that is expected.
    pub(crate) fn keep(&self, launch: LaunchId, file: PayloadFile) {
        match self.expected().get_mut(&launch) {
            Some(expected) if expected.token.is_some() => expected.file = Some(file),
            _ => file.remove(),
        }
    }

    /// Waits until those who have proved that they are `launch` are in, or have left.
    pub(crate) async fn settled(&self, launch: LaunchId) {
        let arriving = self.expected().get(&launch).map(|expected| expected.arriving.subscribe());
        if let Some(mut arriving) = arriving {
            let _forgotten = arriving.wait_for(|count| *count == 0).await;
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

    fn arriving(&self, launch: LaunchId) -> Box<dyn Send> {
        match self.expected().get(&launch) {
            Some(expected) => {
                expected.arriving.send_modify(|count| *count += 1);
                Box::new(Arriving(expected.arriving.clone()))
            }
            None => Box::new(()),
        }
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
