//! Links between procs of one host, beside the star: who sends another one much does so over a link of the two alone.
//!
//! What goes over a link is in order with what went through the host before and after it. It begins with a word through the host,
//! behind everything that was sent that way, for which whatever comes over the link waits (`Switched`). It ends with a word over the link,
//! which the peer confirms through the host, and what is sent meanwhile waits here (`Pause`, `Paused`). Through the host goes what the host has to know of: once
//! ports that move on from others than their owner, and cancels, which must not overtake those.
//!
//! What different procs send has no order, also where one of them has been told by the other what it sends. Only that there is an actor has come
//! through the host by then: a message for one that is not known waits until all has come that the host had before (`Echo`).
//!
//! The host tells both of the other's end (`Hub::introduce`), and what had come over the link until then is taken first.

#![expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]

mod link;
mod meeting;
mod way;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use procession_actor::{Proc, Router, WeakProc};
use procession_model::{Head, Packet, PeerNews, PortId, ProcId};
use procession_net::PostError;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::line::{Line, reason};
use link::PeerLink;
use way::{Acquaintance, Course, Waiting, Way};

/// How many links one process has at most.
const MOST_LINKS: usize = 64;
/// How many procs are counted that messages go to, before counting begins anew.
const MOST_COUNTED: usize = 1024;

/// A proc's way to all others: its host, and for those of the same host that it sends much, links.
pub(crate) struct Peers {
    me: Weak<Self>,
    own: ProcId,
    host: ProcId,
    line: Arc<Line>,
    proc_: WeakProc,
    /// Where the links are read: whoever posts first may be on any thread.
    runtime: Handle,
    /// Where sockets are made that other procs of the host find; none where they could not.
    directory: Option<PathBuf>,
    /// This process is a host itself, and leads to others.
    is_host: AtomicBool,
    ways: RwLock<HashMap<ProcId, Way>>,
    echoes: AtomicU64,
    /// The last of them that has come back.
    echoed: watch::Sender<u64>,
}

impl Peers {
    /// Of the process whose node is `proc_`, launched by `host`. Has to be called inside a runtime.
    pub(crate) fn new(proc_: &Proc, host: ProcId, line: Arc<Line>, directory: Option<PathBuf>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            own: proc_.id().clone(),
            host,
            line,
            proc_: proc_.downgrade(),
            runtime: Handle::current(),
            directory,
            is_host: AtomicBool::new(false),
            ways: RwLock::default(),
            echoes: AtomicU64::new(0),
            echoed: watch::Sender::default(),
        })
    }

    fn ways(&self) -> RwLockReadGuard<'_, HashMap<ProcId, Way>> {
        self.ways.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, HashMap<ProcId, Way>> {
        self.ways.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this process leads to others, whose packets have to go through it in one order.
    pub(crate) fn is_host_now(&self) {
        self.is_host.store(true, Ordering::Release);
    }

    fn can_meet(&self, other: &ProcId) -> bool {
        self.directory.is_some()
            && !self.is_host.load(Ordering::Acquire)
            && *other != self.host
            && other.host() == self.own.host()
    }

    fn tell(&self, to: &ProcId, news: PeerNews) {
        let head = Head::Peer { to: to.clone(), from: self.own.clone(), news };
        let _host_gone = self.line.post(Packet::bare(head));
    }

    fn through_host(&self, packet: Packet) -> Result<(), (Packet, String)> {
        self.line.post(packet).map_err(|(packet, why)| (packet, reason(&why)))
    }

    /// From now on it is counted what goes to `dest`.
    fn begin_to_count(&self, dest: &ProcId) {
        let mut ways = self.change();
        if ways.len() >= MOST_COUNTED {
            ways.retain(|_, way| !way.is_only_counted());
        }
        ways.entry(dest.clone()).or_default();
    }

    /// Asks for a link, or goes over to the one that there is.
    fn approach(&self, dest: &ProcId) {
        let mut ways = self.change();
        let links = ways.values().filter(|way| !way.is_only_counted()).count();
        let Some(way) = ways.get_mut(dest) else { return };
        match &way.acquaintance {
            Acquaintance::Stranger if links < MOST_LINKS && self.can_meet(dest) => {
                let token = way.ask();
                self.tell(dest, PeerNews::Asks { token });
            }
            Acquaintance::Linked => self.switch(dest, way),
            _ => {}
        }
    }

    /// What goes to `dest` from now on goes over its link. Under the lock of the ways, as is all that is sent.
    fn switch(&self, dest: &ProcId, way: &mut Way) {
        if matches!(way.course, Course::Host(_)) {
            way.times += 1;
            self.tell(dest, PeerNews::Switched { time: way.times });
            way.course = Course::Direct;
        }
    }

    /// For what cannot go over the link, and what comes behind that.
    fn detour(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        let mut ways = self.change();
        let Some(way) = ways.get_mut(dest) else { return self.through_host(packet) };
        if matches!(way.course, Course::Direct) {
            match &way.link {
                Some(link) if link.pause(dest, &self.own) => way.course = Course::Pausing(Waiting::default()),
                _ => self.resume(way.leave_link()),
            }
        }
        match &mut way.course {
            Course::Pausing(waiting) => {
                waiting.put(packet).map_err(|packet| (packet, format!("proc {dest} is not reading")))
            }
            Course::Host(_) | Course::Direct => self.through_host(packet),
        }
    }

    /// Sends through the host what had to wait. What cannot go there is bounced by a task of its own: whoever calls this has the
    /// ways locked, which the bounce looks at.
    fn resume(&self, waiting: Vec<Packet>) {
        for packet in waiting {
            if let Err((packet, why)) = self.through_host(packet)
                && let Some(proc_) = self.proc_.upgrade()
            {
                drop(self.runtime.spawn(async move { proc_.bounce(packet, &why) }));
            }
        }
    }

    /// Waits until all has come that the host had for this proc when this was called.
    async fn hear_host(&self) {
        let number = self.echoes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut echoed = self.echoed.subscribe();
        self.tell(&self.own, PeerNews::Echo { number });
        let _never_closed = echoed.wait_for(|last| *last >= number).await;
    }

    /// Takes what the host passes on from another proc.
    pub(crate) fn hear(&self, from: &ProcId, news: PeerNews) {
        let Some(me) = self.me.upgrade() else { return };
        let mut ways = self.change();
        match news {
            PeerNews::Asks { token } => {
                let links = ways.values().filter(|way| !way.is_only_counted()).count();
                if !self.can_meet(from) || links >= MOST_LINKS {
                    return;
                }
                let way = ways.entry(from.clone()).or_default();
                if way.is_to_answer(self.own.launch_id() < from.launch_id()) {
                    way.acquaintance = Acquaintance::Expected;
                    drop(self.runtime.spawn(me.listen_for(from.clone(), token)));
                }
            }
            PeerNews::Listens { socket } => {
                if let Some(token) = ways.get_mut(from).and_then(Way::answered) {
                    drop(self.runtime.spawn(me.dial(from.clone(), socket, token)));
                }
            }
            PeerNews::Switched { time } => {
                if let Some(way) = ways.get(from) {
                    way.switched.send_replace(time);
                }
            }
            PeerNews::Paused => {
                if let Some(way) = ways.get_mut(from)
                    && matches!(way.course, Course::Pausing(_))
                {
                    self.resume(way.go_through_host());
                }
            }
            PeerNews::Echo { number } => self.echoed.send_modify(|last| *last = number.max(*last)),
            PeerNews::Pause => {
                tracing::warn!(%from, "a pause of a link came through the host; it was dropped")
            }
        }
    }

    /// The host says that a proc has ended. What that has sent over its link is taken first.
    pub(crate) fn gone(&self, packet: Packet) {
        let Head::ProcGone { proc_id, .. } = &packet.head else { return };
        let link = {
            let mut ways = self.change();
            let way = ways.remove(proc_id);
            way.and_then(|mut way| {
                self.resume(way.go_through_host());
                way.link
            })
        };
        match link {
            Some(link) => link.bury(packet, &self.proc_),
            None => drop(self.proc_.upgrade().map(|proc_| proc_.receive(packet))),
        }
    }

    /// Writes out what was posted on every link, and closes it.
    pub(crate) async fn goodbye(&self) {
        let all: Vec<Arc<PeerLink>> = self.ways().values().filter_map(|way| way.link.clone()).collect();
        all.iter().for_each(|link| link.sender.close());
        for link in all {
            let _peer_gone = link.sender.flushed().await;
        }
    }
}

impl Router for Peers {
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        let ways = self.ways();
        let packet = match ways.get(dest) {
            None => {
                let sent = self.through_host(packet);
                drop(ways);
                if self.can_meet(dest) {
                    self.begin_to_count(dest);
                }
                return sent;
            }
            Some(way @ Way { course: Course::Host(_), .. }) => {
                let (sent, often) = (self.through_host(packet), way.count());
                drop(ways);
                if often {
                    self.approach(dest);
                }
                return sent;
            }
            Some(Way { course: Course::Direct, link: Some(link), .. })
                if self.may_go_directly(&packet.head) =>
            {
                match link.sender.post(packet) {
                    Ok(()) => return Ok(()),
                    // The host knows what has become of it, and to whom this may go instead.
                    Err((packet, PostError::Closed)) => packet,
                    Err((packet, why @ PostError::Full { .. })) => {
                        return Err((packet, format!("proc {dest} is not reading: {why}")));
                    }
                    Err((packet, why)) => return Err((packet, why.to_string())),
                }
            }
            Some(_) => packet,
        };
        drop(ways);
        self.detour(dest, packet)
    }

    fn route_all(&self, packets: Vec<(ProcId, Packet)>) -> Vec<Result<(), (Packet, String)>> {
        let ways = self.ways();
        let through_host =
            |dest: &ProcId| ways.get(dest).is_none_or(|way| matches!(way.course, Course::Host(_)));
        if packets.iter().all(|(dest, _)| through_host(dest)) {
            return self.line.route_all(packets);
        }
        let mut results: Vec<Option<_>> = packets.iter().map(|_| None).collect();
        let (apart, together): (Vec<_>, Vec<_>) =
            packets.into_iter().enumerate().partition(|(_, (dest, _))| !through_host(dest));
        let (places, together): (Vec<_>, Vec<_>) = together.into_iter().unzip();
        for (place, sent) in places.into_iter().zip(self.line.route_all(together)) {
            results[place] = Some(sent);
        }
        drop(ways);
        for (place, (dest, packet)) in apart {
            results[place] = Some(self.route(&dest, packet));
        }
        results.into_iter().flatten().collect()
    }
}

impl Peers {
    /// Whether the host need not know of it.
    fn may_go_directly(&self, head: &Head) -> bool {
        let own = |ports: &[PortId]| ports.iter().all(|port| port.proc_id == self.own);
        match head {
            Head::Deliver { ports, .. } | Head::Send { ports, .. } => own(ports),
            Head::PortClosed { .. } | Head::Returned { .. } => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
