//! The middle of the star; and where hosts belong to another host, a star of stars.

mod introductions;
mod passing;
mod ways;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use procession_actor::{Obituaries, Proc, WeakProc};
use procession_model::{Head, HostId, Packet, ProcId, cut_reason};
use procession_net::LinkSender;

use crate::leads::Leads;
use crate::transit::Transit;
use ways::Ways;

/// How many ended procs a host remembers.
const OBITUARIES: usize = 4096;

/// The way to one proc.
enum Route {
    /// It has not called back yet: what is for its actors waits here. What is for its ports does not, once it is `linked`:
    /// they are its own, and it may wait for them before it is ready.
    Pending {
        packets: Vec<Packet>,
        linked: Option<LinkSender>,
    },
    Up(LinkSender),
}

/// The middle of the star: every proc's connection ends here, every packet between procs passes here.
///
/// That everything passes one place is what makes the order right: a port's owner is told of the
/// new holder before the holder gets the message, and of a holder's death after both. With several hosts it stays right:
/// they are a tree, on each of whose links packets keep their order, so what led to a packet is everywhere before it.
pub(crate) struct Hub {
    own: ProcId,
    /// The host that this is the middle of.
    host: HostId,
    proc_: OnceLock<WeakProc>,
    routes: RwLock<HashMap<ProcId, Route>>,
    /// Who waits for answers from whom: owners of once ports by holder.
    waiting: Mutex<HashMap<ProcId, HashSet<ProcId>>>,
    /// Which procs of this host have links of their own, or may get one: each is told when the other ends.
    introduced: Mutex<HashMap<ProcId, HashSet<ProcId>>>,
    /// What moves on at this moment.
    transit: Transit,
    /// Where messages to the actors of an ended proc go: to the latest incarnation of its slot.
    leads: RwLock<Leads>,
    /// How those ended that are gone.
    obituaries: Obituaries<ProcId>,
    /// The other hosts.
    ways: Ways,
}

impl Hub {
    /// Of `host`, whose own node is `own`.
    pub(crate) fn new(own: ProcId, host: HostId) -> Self {
        Self {
            own,
            host,
            proc_: OnceLock::new(),
            routes: RwLock::default(),
            waiting: Mutex::default(),
            introduced: Mutex::default(),
            transit: Transit::default(),
            leads: RwLock::default(),
            obituaries: Obituaries::new(OBITUARIES),
            ways: Ways::default(),
        }
    }

    /// Has to be called once, before any proc is added.
    pub(crate) fn set_proc(&self, proc_: &Proc) {
        let _first = self.proc_.set(proc_.downgrade());
    }

    fn proc_(&self) -> Option<Proc> {
        self.proc_.get().and_then(WeakProc::upgrade)
    }

    fn routes(&self) -> RwLockReadGuard<'_, HashMap<ProcId, Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes_mut(&self) -> RwLockWriteGuard<'_, HashMap<ProcId, Route>> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<ProcId, HashSet<ProcId>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on packets for `proc_id` wait for its call back.
    pub(crate) fn add(&self, proc_id: &ProcId) {
        self.routes_mut().entry(proc_id.clone()).or_insert_with(|| pending(Vec::new()));
    }

    /// From now on messages to the actors of `ended` are for those of `next`, which is sent `first` before anything else.
    pub(crate) fn follow(&self, ended: &ProcId, next: &ProcId, first: Vec<Packet>) {
        for packet in &first {
            self.announce_moves(next, &packet.head, None);
        }
        self.routes_mut().insert(next.clone(), pending(first));
        self.leads.write().unwrap_or_else(PoisonError::into_inner).follow(ended, next);
    }

    /// Nothing will be launched in the place of `last` any more.
    pub(crate) fn followed_by_none(&self, last: &ProcId) {
        self.leads.write().unwrap_or_else(PoisonError::into_inner).end(last);
    }

    /// The actors of `ended` are not found again in the incarnation that was launched in its place.
    pub(crate) fn succeeded(&self, ended: &ProcId, incarnation: u32) {
        if let Some(text) = self.obituaries.read(ended) {
            let text = format!(
                "{text}; incarnation {incarnation} was launched in its place: spawn the actors there"
            );
            self.obituaries.write(ended.clone(), cut_reason(text));
        }
    }

    /// `packet` for `dest`, or for who has taken its place.
    fn led(&self, dest: &ProcId, mut packet: Packet) -> (ProcId, Packet) {
        let leads = self.leads.read().unwrap_or_else(PoisonError::into_inner);
        match (&mut packet.head, leads.latest(dest)) {
            (Head::Deliver { to, .. }, Some(next)) => {
                to.proc_id = next.clone();
                (next.clone(), packet)
            }
            _ => (dest.clone(), packet),
        }
    }

    /// `proc_id` is there, and is not ready: what is for its ports goes there from now on.
    pub(crate) fn linked(&self, proc_id: &ProcId, sender: LinkSender) {
        if let Some(Route::Pending { packets, linked }) = self.routes_mut().get_mut(proc_id) {
            let (early, waiting) = std::mem::take(packets).into_iter().partition(is_for_a_port);
            *packets = waiting;
            for packet in early {
                // A link that is closed already ends in `gone`, which tells those who wait.
                let _closed = sender.post(packet);
            }
            *linked = Some(sender);
        }
    }

    /// `proc_id` can take packets: what has waited goes first.
    pub(crate) fn up(&self, proc_id: &ProcId, sender: LinkSender) {
        let mut routes = self.routes_mut();
        let Some(route) = routes.get_mut(proc_id) else { return };
        if let Route::Pending { packets, .. } = std::mem::replace(route, Route::Up(sender.clone())) {
            for packet in packets {
                // A link that is closed already ends in `gone`, which tells those who wait.
                let _closed = sender.post(packet);
            }
        }
    }

    /// `proc_id` is gone, and every host that was reached through it: nobody waits for it any longer, and `reason` tells
    /// them why.
    pub(crate) fn gone(&self, proc_id: &ProcId, reason: &str) {
        let Some(proc_) = self.proc_() else { return };
        let reason = cut_reason(reason);
        self.obituaries.write(proc_id.clone(), reason.clone());
        let route = self.routes_mut().remove(proc_id);
        if let Some(Route::Pending { packets, .. }) = route {
            for packet in packets {
                proc_.bounce(packet, &reason);
            }
        }
        self.bury(&proc_, proc_id, &reason);
        for owners in self.waiting().values_mut() {
            owners.remove(proc_id);
        }
        self.hosts_gone(&proc_, proc_id, &reason);
    }

    /// Tells those who wait for answers of `dead`.
    fn bury(&self, proc_: &Proc, dead: &ProcId, reason: &str) {
        let mut owners = self.waiting().remove(dead).unwrap_or_default();
        owners.extend(self.part(dead));
        for owner in owners {
            let head = Head::ProcGone { to: owner.clone(), proc_id: dead.clone(), reason: reason.to_owned() };
            let _also_gone = self.hand_over(&owner, Packet::bare(head));
        }
        proc_.proc_gone(dead, reason);
    }
}

fn pending(packets: Vec<Packet>) -> Route {
    Route::Pending { packets, linked: None }
}

/// Whether `packet` says something of a port of the process that it goes to, or of who holds one.
fn is_for_a_port(packet: &Packet) -> bool {
    !matches!(packet.head, Head::Deliver { .. } | Head::PortCancelled { .. })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree_tests;
