use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use procession_actor::{Obituaries, Proc};
use procession_model::{Head, Packet, ProcId};
use procession_net::LinkSender;

use super::Hub;
use crate::line::Line;

/// How many lost hosts a host remembers.
const LOST: usize = 256;

/// The way to another host, below this one.
struct Below {
    /// The proc that it is, or that leads to it.
    via: ProcId,
    link: LinkSender,
}

/// The ways to other hosts.
pub(super) struct Ways {
    below: RwLock<HashMap<String, Below>>,
    /// What became of those that are gone.
    lost: Obituaries<String>,
    /// To the host that has launched this one, and from there to all others.
    above: OnceLock<Arc<Line>>,
}

impl Default for Ways {
    fn default() -> Self {
        Self { below: RwLock::default(), lost: Obituaries::new(LOST), above: OnceLock::new() }
    }
}

impl Ways {
    fn below_mut(&self) -> RwLockWriteGuard<'_, HashMap<String, Below>> {
        self.below.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link that leads to `host`, where that is below, and the proc that it leads through.
    pub(super) fn down(&self, host: &str) -> Option<(ProcId, LinkSender)> {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        below.get(host).map(|below| (below.via.clone(), below.link.clone()))
    }

    /// Whether there is any other host.
    pub(super) fn are_some(&self) -> bool {
        self.above.get().is_some() || !self.below.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn up(&self) -> Option<&Line> {
        self.above.get().map(AsRef::as_ref)
    }

    pub(super) fn leads_through(&self, via: &ProcId) -> bool {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        below.values().any(|below| below.via == *via)
    }

    /// What became of `host`.
    pub(super) fn became(&self, host: &str) -> Option<String> {
        self.lost.read(&host.to_owned())
    }
}

impl Hub {
    /// This host was launched by another one, to which `line` leads. Has to be called before anything is launched here.
    pub(crate) fn belongs_to(&self, line: Arc<Line>) {
        let head = Head::Leads { host: self.host.as_str().to_owned() };
        let _host_gone = line.post(Packet::bare(head));
        let _first = self.ways.above.set(line);
    }

    /// `via`, a proc of this host with that `link`, leads to the host called `host`.
    pub(crate) fn leads_to(&self, via: &ProcId, link: LinkSender, host: String) {
        let mut below = self.ways.below_mut();
        if host == self.host.as_str() || below.contains_key(&host) {
            tracing::warn!(%via, host, "says that it leads to a host that is known; that counts for nothing");
            return;
        }
        below.insert(host.clone(), Below { via: via.clone(), link });
        drop(below);
        if let Some(above) = self.ways.up() {
            let _host_gone = above.post(Packet::bare(Head::Leads { host }));
        }
    }

    /// Towards the host that `about` is a proc of, which is another one: something about it, that `came_down` from the
    /// host above or did not.
    pub(crate) fn send_towards(&self, about: &ProcId, packet: Packet, came_down: bool) {
        if let Err((packet, why)) = self.pass_on(about, packet, came_down) {
            tracing::debug!(head = ?packet.head, why, "not delivered");
        }
    }

    /// `via` has ended, and with it every host that was reached through it.
    pub(super) fn hosts_gone(&self, proc_: &Proc, via: &ProcId, reason: &str) {
        let lost: Vec<String> = {
            let mut below = self.ways.below_mut();
            let lost = below.iter().filter(|(_, below)| below.via == *via).map(|(host, _)| host.clone());
            let lost: Vec<_> = lost.collect();
            lost.iter().for_each(|host| drop(below.remove(host)));
            lost
        };
        for host in lost {
            let text = format!("HostLost: its host {host} has ended: {reason}");
            self.ways.lost.write(host.clone(), text.clone());
            let dead: Vec<ProcId> =
                self.waiting().keys().filter(|holder| holder.host() == host).cloned().collect();
            for dead in dead {
                self.bury(proc_, &dead, &text);
            }
            self.waiting().values_mut().for_each(|owners| owners.retain(|owner| owner.host() != host));
            proc_.procs_gone(|holder| holder.host() == host, &text);
        }
    }
}
