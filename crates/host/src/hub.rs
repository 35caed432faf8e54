#![expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use procession_actor::{CANCELLED, Obituaries, Proc, Router, WeakProc};
use procession_model::{Head, Packet, PortId, ProcId, cut_reason};
use procession_net::{LinkSender, PostError};
use procession_wire::Limits;

use crate::leads::Leads;
use crate::transit::Transit;

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
/// new holder before the holder gets the message, and of a holder's death after both.
pub(crate) struct Hub {
    own: ProcId,
    proc_: OnceLock<WeakProc>,
    routes: RwLock<HashMap<ProcId, Route>>,
    /// Who waits for answers from whom: owners of once ports by holder.
    waiting: Mutex<HashMap<ProcId, HashSet<ProcId>>>,
    /// What moves on at this moment.
    transit: Transit,
    /// Where messages to the actors of an ended proc go: to the latest incarnation of its slot.
    leads: RwLock<Leads>,
    /// How those ended that are gone.
    obituaries: Obituaries<ProcId>,
}

impl Hub {
    pub(crate) fn new(own: ProcId) -> Self {
        Self {
            own,
            proc_: OnceLock::new(),
            routes: RwLock::default(),
            waiting: Mutex::default(),
            transit: Transit::default(),
            leads: RwLock::default(),
            obituaries: Obituaries::new(OBITUARIES),
        }
    }

    /// Has to be called once, before any proc is added.
    pub(crate) fn set_proc(&self, proc_: &Proc) {
        let _first = self.proc_.set(proc_.downgrade());
    }

    fn proc_(&self) -> Option<Proc> {
        self.proc_.get().and_then(WeakProc::upgrade)
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
            self.announce_moves(next, &packet.head);
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

    /// `proc_id` is gone: nobody waits for it any longer, and `reason` tells them why.
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
        let owners = self.waiting().remove(proc_id);
        for owner in owners.into_iter().flatten() {
            let head = Head::ProcGone { proc_id: proc_id.clone(), reason: reason.clone() };
            let _also_gone = self.hand_over(&owner, Packet::bare(head));
        }
        proc_.proc_gone(proc_id, &reason);
    }

    /// Takes a packet that came from a proc.
    pub(crate) fn forward(&self, packet: Packet) {
        let Some(proc_) = self.proc_() else { return };
        let dest = match &packet.head {
            Head::Deliver { to, .. } => to.proc_id.clone(),
            Head::Send { port, .. } | Head::PortClosed { port, .. } => port.proc_id.clone(),
            Head::PortCancelled { holder, .. } => holder.clone(),
            Head::Returned { from, .. } => from.proc_id.clone(),
            head => {
                tracing::warn!(?head, "a proc sent what only a host sends; it was dropped");
                return;
            }
        };
        if dest == self.own {
            if self.is_left_to_who_moves_it(&packet.head) {
                return;
            }
            let passing = self.transit.begin(&dest, &packet.head);
            self.announce_moves(&dest, &packet.head);
            proc_.receive(packet);
            for cancelled in passing.end(&dest) {
                proc_.receive(cancelled);
            }
        } else if let Err((packet, why)) = self.route(&dest, packet) {
            if let Head::Send { port, .. } = &packet.head {
                // Who waits for this value learns that it will not come.
                let head = Head::PortClosed { port: port.clone(), reason: cut_reason(&why) };
                let _gone = self.hand_over(&dest, Packet::bare(head));
            }
            proc_.bounce(packet, &why);
        }
    }

    /// Tells the owners of the once ports that move with `head` who holds them now.
    fn announce_moves(&self, dest: &ProcId, head: &Head) {
        for port in moving_ports(head).iter().filter(|port| port.proc_id != *dest) {
            let moved = Packet::bare(Head::PortMoved { port: port.clone(), holder: dest.clone() });
            if port.proc_id == self.own {
                if let Some(proc_) = self.proc_() {
                    proc_.receive(moved);
                }
            } else {
                let _owner_gone = self.hand_over(&port.proc_id, moved);
                // The end of this process ends all the others: nobody has to be told.
                if *dest != self.own {
                    self.waiting().entry(dest.clone()).or_default().insert(port.proc_id.clone());
                }
            }
        }
    }

    /// Whether it is the cancel of a port that somebody is moving: then its new holder hears of it behind the port.
    fn is_left_to_who_moves_it(&self, head: &Head) -> bool {
        matches!(head, Head::PortCancelled { port, .. } if self.transit.cancel(port))
    }

    /// The packet with `head` did not get to `dest`: what moved with it is here.
    fn take_back_moves(&self, dest: &ProcId, head: &Head) {
        let others = |port: &&PortId| port.proc_id != *dest && port.proc_id != self.own;
        for port in moving_ports(head).iter().filter(others) {
            let back = Packet::bare(Head::PortMoved { port: port.clone(), holder: self.own.clone() });
            let _owner_gone = self.hand_over(&port.proc_id, back);
        }
    }

    fn hand_over(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        let unknown = |packet| {
            let became = self.obituaries.read(dest);
            Err((packet, became.unwrap_or_else(|| format!("proc {dest} has ended, or never was"))))
        };
        {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            match routes.get(dest) {
                None => return unknown(packet),
                Some(Route::Up(sender)) => {
                    return post(sender, dest, packet);
                }
                Some(Route::Pending { linked: Some(sender), .. }) if is_for_a_port(&packet) => {
                    return post(sender, dest, packet);
                }
                Some(Route::Pending { .. }) => {}
            }
        }
        let withdrawn;
        let mut routes = self.routes_mut();
        match routes.get_mut(dest) {
            Some(Route::Pending { linked: Some(sender), .. }) if is_for_a_port(&packet) => {
                return post(sender, dest, packet);
            }
            Some(Route::Pending { packets, .. }) => {
                // Its sender hears of that now, and not when there is nobody to tell it.
                if let Err(error) = procession_wire::check(&packet, &Limits::default()) {
                    return Err((packet, error.to_string()));
                }
                match needless(packets, &packet.head) {
                    Some(place) => withdrawn = packets.remove(place),
                    None => {
                        packets.push(packet);
                        return Ok(());
                    }
                }
            }
            Some(Route::Up(sender)) => return post(sender, dest, packet),
            None => return unknown(packet),
        }
        drop(routes);
        if let Some(proc_) = self.proc_() {
            proc_.close_moving(&withdrawn.head, CANCELLED);
        }
        Ok(())
    }
}

fn pending(packets: Vec<Packet>) -> Route {
    Route::Pending { packets, linked: None }
}

/// Whether `packet` says something of a port of the process that it goes to, or of who holds one.
fn is_for_a_port(packet: &Packet) -> bool {
    !matches!(packet.head, Head::Deliver { .. } | Head::PortCancelled { .. })
}

/// Where among those that wait the message is that nobody needs any more after a cancel.
fn needless(packets: &[Packet], head: &Head) -> Option<usize> {
    let Head::PortCancelled { port, .. } = head else { return None };
    packets.iter().position(|packet| {
        matches!(&packet.head, Head::Deliver { ports, answered: true, .. } if ports.first() == Some(port))
    })
}

fn moving_ports(head: &Head) -> &[PortId] {
    match head {
        Head::Deliver { ports, .. } | Head::Send { ports, .. } => ports,
        _ => &[],
    }
}

fn post(sender: &LinkSender, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
    sender.post(packet).map_err(|(packet, why)| match why {
        PostError::Closed => (packet, format!("the connection to proc {dest} was lost")),
        PostError::Full { .. } => (packet, format!("proc {dest} is not reading: {why}")),
        refused => (packet, refused.to_string()),
    })
}

impl Router for Hub {
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        if self.is_left_to_who_moves_it(&packet.head) {
            return Ok(());
        }
        let (dest, packet) = self.led(dest, packet);
        let passing = self.transit.begin(&dest, &packet.head);
        self.announce_moves(&dest, &packet.head);
        let sent = self.hand_over(&dest, packet).inspect_err(|(packet, _)| {
            self.take_back_moves(&dest, &packet.head);
            // Who was gone before it became a holder is not buried a second time.
            if !self.routes.read().unwrap_or_else(PoisonError::into_inner).contains_key(&dest) {
                self.waiting().remove(&dest);
            }
        });
        match &sent {
            Ok(()) => {
                for cancelled in passing.end(&dest) {
                    let _gone_since = self.hand_over(&dest, cancelled);
                }
            }
            Err(_) => {
                // The ports are here again.
                for cancelled in passing.end(&self.own) {
                    self.proc_().inspect(|proc_| proc_.receive(cancelled));
                }
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use procession_model::{ActorId, HostId};
    use procession_net::{Link, LinkReceiver, Peer};
    use tokio::runtime::Handle;

    use super::*;

    fn proc_id(name: &str) -> ProcId {
        ProcId::fresh(name, &HostId::fresh("test")).expect("a good name")
    }

    fn hub() -> (Arc<Hub>, Proc) {
        let proc_ = Proc::new(proc_id("host"), Handle::current());
        let hub = Arc::new(Hub::new(proc_.id().clone()));
        hub.set_proc(&proc_);
        let router: Arc<Hub> = Arc::clone(&hub);
        proc_.set_router(router);
        (hub, proc_)
    }

    /// A proc that is up, as what comes to it.
    fn up(hub: &Hub, proc_id: &ProcId) -> (LinkReceiver, LinkSender) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let [near, far] = [near, far].map(|end| {
            let (reader, writer) = tokio::io::split(end);
            Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
        });
        hub.add(proc_id);
        hub.up(proc_id, near.sender);
        // The link lives for as long as both of its ends are read.
        tokio::spawn(async move {
            let mut near = near.receiver;
            while near.recv().await.is_some() {}
        });
        (far.receiver, far.sender)
    }

    fn deliver(from: &ProcId, to: &ProcId, ports: Vec<PortId>) -> Packet {
        let (to, from) = (ActorId::new(to.clone(), "a"), ActorId::new(from.clone(), "b"));
        Packet {
            head: Head::Deliver { to, from, tag: "test".to_owned(), ports, answered: true },
            parts: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_owner_of_a_port_that_did_not_move_after_all_learns_where_it_is() {
        let (hub, proc_) = hub();
        let (owner, gone, closed) = (proc_id("owner"), proc_id("gone"), proc_id("closed"));
        let (mut heard, _open) = up(&hub, &owner);
        let (_, last_sender) = up(&hub, &closed);
        drop(last_sender);
        hub.routes_mut().entry(closed.clone()).and_modify(|route| {
            if let Route::Up(sender) = route {
                sender.close();
            }
        });
        let port = PortId::new(owner, 7);
        for dest in [gone, closed] {
            proc_.post(deliver(proc_.id(), &dest, vec![port.clone()])).expect_err("it cannot get there");
            for holder in [&dest, proc_.id()] {
                let told = heard.recv().await.expect("a packet").expect("a good one").head;
                assert_eq!(told, Head::PortMoved { port: port.clone(), holder: holder.clone() });
            }
        }
    }

    #[tokio::test]
    async fn a_proc_that_is_not_ready_gets_what_is_for_its_ports_and_messages_for_its_actors_later() {
        let (hub, proc_) = hub();
        let booting = proc_id("booting");
        hub.add(&booting);
        let value = |index| {
            let port = PortId::new(booting.clone(), index);
            Packet::bare(Head::Send { port, tag: "test".to_owned(), ports: Vec::new() })
        };
        let message = deliver(proc_.id(), &booting, Vec::new());
        for packet in [value(1), message.clone()] {
            proc_.post(packet).expect("it waits");
        }
        let (near, far) = tokio::io::duplex(1 << 20);
        let [near, mut far] = [near, far].map(|end| {
            let (reader, writer) = tokio::io::split(end);
            Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
        });
        let mut next = async || far.receiver.recv().await.expect("a packet").expect("a good one");
        hub.linked(&booting, near.sender.clone());
        assert_eq!(next().await, value(1));
        proc_.post(value(2)).expect("it is sent");
        assert_eq!(next().await, value(2));
        hub.up(&booting, near.sender.clone());
        assert_eq!(next().await, message);
    }

    #[tokio::test]
    async fn a_cancel_drops_the_message_that_waits_for_a_proc_and_tells_the_owners_of_its_ports() {
        let (hub, proc_) = hub();
        let (owner, pending) = (proc_id("owner"), proc_id("pending"));
        let (mut heard, _open) = up(&hub, &owner);
        hub.add(&pending);
        let [answer, argument, alone] = [1, 2, 3].map(|index| PortId::new(owner.clone(), index));
        hub.forward(deliver(&owner, &pending, vec![answer.clone(), argument.clone()]));
        let mut one_way = deliver(&owner, &pending, vec![alone.clone()]);
        if let Head::Deliver { answered, .. } = &mut one_way.head {
            *answered = false;
        }
        hub.forward(one_way);
        for port in [&answer, &alone] {
            hub.forward(Packet::bare(Head::PortCancelled { port: port.clone(), holder: pending.clone() }));
        }
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(heard.recv().await.expect("a packet").expect("a good one").head);
        }
        let closed = |port: &PortId| Head::PortClosed { port: port.clone(), reason: CANCELLED.to_owned() };
        assert_eq!(told[3..], [closed(&answer), closed(&argument)]);
        let (mut got, _sender) = up(&hub, &pending);
        for expected in ["Deliver", "PortCancelled"] {
            let head = format!("{:?}", got.recv().await.expect("a packet").expect("a good one").head);
            assert!(head.starts_with(expected), "{head}");
        }
        assert_eq!(proc_.open_ports(), 0);
    }

    #[tokio::test]
    async fn a_packet_over_a_limit_comes_back_with_the_limit_whether_or_not_its_proc_is_up() {
        let (hub, proc_) = hub();
        let (pending, there) = (proc_id("pending"), proc_id("there"));
        hub.add(&pending);
        let _link = up(&hub, &there);
        for dest in [pending, there] {
            let mut packet = deliver(proc_.id(), &dest, Vec::new());
            packet.parts = vec![Bytes::new(); 1025];
            let (back, why) = proc_.post(packet).expect_err("nobody takes so many");
            assert_eq!(back.parts.len(), 1025);
            assert!(why.contains("1025 segments is over the limit of 1024"), "{why}");
            let ports = (0..2000).map(|index| PortId::new(dest.clone(), index)).collect();
            let (_, why) = proc_.post(deliver(proc_.id(), &dest, ports)).expect_err("it is all head");
            assert!(why.contains("fewer once ports"), "{why}");
        }
    }
}
