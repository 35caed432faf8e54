use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use procession_model::ProcId;
use procession_supervise::{HOST, StopHow};
use tokio::task::JoinSet;

use crate::core::Core;
use crate::group::Group;
use crate::proc_ref::Stage;
use crate::slot::{Slot, slots_of};

/// Who a group of procs belongs to: when the proc ends, they do.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// The proc that asked for them.
    pub proc_id: ProcId,
    /// Who in it did, for people: an actor, or the proc itself.
    pub who: String,
}

/// What procs have launched through this host, by the proc that asked for it.
#[derive(Default)]
pub(crate) struct Holdings(Mutex<HashMap<ProcId, Vec<Held>>>);

struct Held {
    who: String,
    group: Weak<Group>,
}

impl Holdings {
    fn add(&self, owner: &Ownership, group: &Arc<Group>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(owner.proc_id.clone()).or_default();
        own.retain(|held| held.group.strong_count() > 0);
        own.push(Held { who: owner.who.clone(), group: Arc::downgrade(group) });
    }

    fn take(&self, owner: &ProcId) -> Vec<Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(owner).unwrap_or_default()
    }
}

/// Has a group end with the proc that it belongs to, at once where that has ended already.
pub(crate) fn hold(core: &Arc<Core>, owner: &Ownership, group: &Arc<Group>) {
    core.holdings.add(owner, group);
    // Whoever ends is no longer found before what it holds is taken: so either side sees the other.
    if core.find(&owner.proc_id).is_none() {
        owner_ended(core, &owner.proc_id);
    }
}

/// Ends what belonged to `owner`, which has ended: launched by others first, since launchers may be procs of it too.
pub(crate) fn owner_ended(core: &Arc<Core>, owner: &ProcId) {
    let mut slots: Vec<(String, Slot)> = Vec::new();
    for held in core.holdings.take(owner) {
        if let Some(group) = held.group.upgrade() {
            group.stop_requested((0..group.places.len()).collect());
            slots.extend(slots_of(&group).into_iter().map(|slot| (held.who.clone(), slot)));
        }
    }
    if slots.is_empty() {
        return;
    }
    core.runtime.spawn(async move {
        // Looked at once: one that gets into an earlier stage later is stopped all the same.
        let staged = |(who, slot): (String, Slot)| (slot.current().stage(), who, slot);
        let mut slots: Vec<_> = slots.into_iter().map(staged).collect();
        for stage in Stage::ALL {
            let mut ends = JoinSet::new();
            for (_, who, slot) in slots.extract_if(.., |(its, ..)| *its == stage) {
                let current = slot.current();
                let why = format!("its owner, {who}, ended");
                current.ask(StopHow::AgentFirst, current.0.stop_grace, HOST, &why, None);
                ends.spawn(async move { slot.ended().await });
            }
            while ends.join_next().await.is_some() {}
        }
    });
}
