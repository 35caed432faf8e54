use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procession_model::{LaunchId, PortId};

use crate::held::Held;

/// What tells ports apart as well as their ids, and is shorter: a launch has one process.
type Key = (LaunchId, u64);

struct Entry {
    held: Weak<Held>,
    /// Who got the message that it came in.
    actor: Option<Arc<str>>,
}

/// The once ports that came to this process in messages and are here still, so that their owners can say something
/// about them.
#[derive(Default)]
pub(crate) struct HeldTable(Mutex<HashMap<Key, Entry>>);

fn key(port: &PortId) -> Key {
    (port.proc_id.launch_id(), port.index)
}

impl HeldTable {
    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // No code of others runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was here before and has come back is found under its new right.
    pub(crate) fn insert(&self, held: &Arc<Held>, actor: Option<&Arc<str>>) {
        let entry = Entry { held: Arc::downgrade(held), actor: actor.cloned() };
        self.entries().insert(key(held.port()), entry);
    }

    /// Takes out what `held` stood for, unless another right has its place.
    pub(crate) fn remove(&self, port: &PortId, held: &Held) {
        let mut entries = self.entries();
        let key = key(port);
        if entries.get(&key).is_some_and(|entry| std::ptr::eq(entry.held.as_ptr(), held)) {
            entries.remove(&key);
        }
    }

    /// The right to answer `port`, and the actor that it came to.
    pub(crate) fn find(&self, port: &PortId) -> Option<(Arc<Held>, Option<Arc<str>>)> {
        let entries = self.entries();
        let entry = entries.get(&key(port))?;
        Some((entry.held.upgrade()?, entry.actor.clone()))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }
}
