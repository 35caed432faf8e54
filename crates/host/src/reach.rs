use std::sync::Arc;
use std::time::Duration;

use procession_launch::{Report, Reports};
use procession_supervise::Event;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::input::Input;
use crate::proc_ref::Shared;

/// A proc whose connection comes back sooner was never gone.
const GAP: Duration = Duration::from_millis(250);

/// Tells the driver when its proc cannot be reached, and when it can again, for as long as its link lives.
pub(crate) fn watch(shared: &Arc<Shared>, mut reachable: watch::Receiver<bool>) {
    let driver = shared.driver.clone();
    tokio::spawn(async move {
        while reachable.wait_for(|reachable| !reachable).await.is_ok() {
            if timeout(GAP, reachable.wait_for(|reachable| *reachable)).await.is_ok() {
                continue;
            }
            let why = "its connection was lost".to_owned();
            let _driver_gone = driver.send(Input::Event(Event::Unreachable { why }));
            if reachable.wait_for(|reachable| *reachable).await.is_err() {
                return;
            }
            let _driver_gone = driver.send(Input::Event(Event::HeardAgain));
        }
    });
}

/// Tells the driver what the launcher of its proc says, for as long as that says anything.
pub(crate) fn pass_on(shared: &Arc<Shared>, mut reports: Reports) {
    let driver = shared.driver.clone();
    tokio::spawn(async move {
        while let Some(report) = reports.next().await {
            let said = |handle, progress| Input::ReportedBy { pid: None, handle, progress };
            let _driver_gone = driver.send(match report {
                Report::Progress(text) => said(None, Some(text)),
                Report::Handle(handle) => said(Some(handle), None),
                Report::Pid(pid) => Input::ReportedBy { pid: Some(pid), handle: None, progress: None },
                Report::Unreachable(why) => Input::Unreachable(why),
                #[cfg(feature = "virtual-time")]
                Report::Ready => Input::Event(Event::CalledBack { pid: None }),
                Report::Reachable => said(None, None),
                #[cfg(not(feature = "virtual-time"))]
                #[allow(unreachable_patterns, reason = "the launchers alone may have been built with fakes")]
                _ => continue,
            });
        }
    });
}
