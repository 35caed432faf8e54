use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_model::{LaunchId, Secret};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::carrier::Connection;

/// What a lease is counted in: a moment in which this process did not run costs one of these at most.
const SLICE: Duration = Duration::from_millis(250);

/// The sessions of a listener whose peers may come back after a lost connection.
#[derive(Clone, Default)]
pub(crate) struct Resumable(Arc<Mutex<HashMap<LaunchId, Entry>>>);

struct Entry {
    secret: Secret,
    connections: mpsc::UnboundedSender<Connection>,
}

/// The connections with which the peer of one session comes back. While it lives, the peer can.
pub(crate) struct Resumed {
    all: Resumable,
    launch: LaunchId,
    connections: mpsc::UnboundedReceiver<Connection>,
}

impl Resumable {
    fn entries(&self) -> MutexGuard<'_, HashMap<LaunchId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `launch` can come back with `secret`.
    pub(crate) fn add(&self, launch: LaunchId, secret: Secret) -> Resumed {
        let (sender, connections) = mpsc::unbounded_channel();
        self.entries().insert(launch, Entry { secret, connections: sender });
        Resumed { all: self.clone(), launch, connections }
    }

    pub(crate) fn secret(&self, launch: LaunchId) -> Option<Secret> {
        self.entries().get(&launch).map(|entry| entry.secret.clone())
    }

    /// `launch` has come back; false when its session has ended.
    pub(crate) fn resume(&self, launch: LaunchId, connection: Connection) -> bool {
        self.entries().get(&launch).is_some_and(|entry| entry.connections.send(connection).is_ok())
    }
}

impl Resumed {
    /// The next connection; waits for ever when there is none. Cancel safe.
    pub(crate) async fn next(&mut self) -> Connection {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The entry goes with this.
            None => std::future::pending().await,
        }
    }

    /// The next connection, if it comes within `lease`.
    pub(crate) async fn within(&mut self, lease: Duration) -> Result<Connection, String> {
        let mut left = lease;
        while !left.is_zero() {
            let slice = left.min(SLICE);
            if let Ok(connection) = timeout(slice, self.next()).await {
                return Ok(connection);
            }
            left -= slice;
        }
        Err(format!("the peer did not come back within {lease:?}"))
    }
}

impl Drop for Resumed {
    fn drop(&mut self) {
        self.all.entries().remove(&self.launch);
    }
}
