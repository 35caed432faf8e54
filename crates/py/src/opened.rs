//! Inboxes that a message opens before the actor behind them exists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_actor::WeakProc;

use crate::inbox::Inbox;
use crate::python_actor::PythonActor;

struct Opened {
    proc_: WeakProc,
    unclaimed: HashMap<String, Arc<Inbox>>,
}

/// One process has one runtime. Decoding a message is where the order of a connection still holds, and there is no way
/// to pass the node along to it.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

fn opened() -> MutexGuard<'static, Option<Opened>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, messages that open an inbox open it in `proc_`. Forgets what the node before left unclaimed.
pub fn enable(proc_: WeakProc) {
    let before = opened().replace(Opened { proc_, unclaimed: HashMap::new() });
    close(before);
}

/// Opens no more inboxes; those that nobody claimed end.
pub fn disable() {
    let before = opened().take();
    close(before);
}

fn close(before: Option<Opened>) {
    for inbox in before.into_iter().flat_map(|opened| opened.unclaimed.into_values()) {
        inbox.end(Some("the runtime was shut down before the actor was made"));
    }
}

/// The inbox that a message opened under `name`, for the one who makes the actor.
pub fn take(name: &str) -> Option<Arc<Inbox>> {
    opened().as_mut()?.unclaimed.remove(name)
}

pub(crate) fn open(name: &str) {
    let mut opened = opened();
    let Some(Opened { proc_, unclaimed }) = &mut *opened else { return };
    let Some(proc_) = proc_.upgrade() else { return };
    match PythonActor::spawn(&proc_, name) {
        Ok((_, inbox)) => {
            unclaimed.insert(name.to_owned(), inbox);
        }
        // Whoever makes the actor is told the same, and tells the caller.
        Err(error) => tracing::debug!(%error, "no inbox was opened for an actor that shall be made"),
    }
}
