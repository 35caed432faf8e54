#![expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]

use std::collections::HashMap;

use procession_actor::{CANCELLED, Proc, Router, bundle, unbundle};
use procession_model::{Head, Packet, PortId, ProcId, cut_reason};
use procession_net::{LinkSender, PostError};
use procession_wire::Limits;

use super::{Hub, Route, is_for_a_port};
use crate::transit::Passing;

/// A packet on its way, with the ports that move with it.
struct Going<'a> {
    next: ProcId,
    passing: Passing<'a>,
}

/// Packets that take the same way to another host, each with its place among all.
#[derive(Default)]
struct Together<'a> {
    goings: Vec<(usize, Going<'a>)>,
    packets: Vec<(ProcId, Packet)>,
}

impl Hub {
    /// Takes a packet that came from the proc `from`, or from the host above this one.
    pub(crate) fn forward(&self, packet: Packet, from: Option<&ProcId>) {
        let Some(proc_) = self.proc_() else { return };
        if matches!(packet.head, Head::Cast { .. }) {
            return self.forward_all(&proc_, unbundle(packet), from);
        }
        if matches!(packet.head, Head::Peer { .. }) {
            return self.introduce(packet, from);
        }
        let dest = match &packet.head {
            Head::Deliver { to, .. } => to.proc_id.clone(),
            Head::Send { port, .. } | Head::PortClosed { port, .. } => port.proc_id.clone(),
            Head::PortCancelled { holder, .. } => holder.clone(),
            Head::Returned { from, .. } => from.proc_id.clone(),
            // What hosts say, and so what comes from other hosts.
            Head::PortMoved { port, .. } if self.is_host(from) => port.proc_id.clone(),
            Head::ProcGone { to, proc_id, .. } if self.is_host(from) => {
                if let Some(owners) = self.waiting().get_mut(proc_id) {
                    owners.remove(to);
                }
                to.clone()
            }
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
            self.announce_moves(&dest, &packet.head, sender(&packet.head));
            proc_.receive(packet);
            for cancelled in passing.end(&dest) {
                proc_.receive(cancelled);
            }
        } else if let Err((packet, why)) = self.pass(&dest, packet, from.is_none()) {
            if let Head::Send { port, .. } = &packet.head {
                // Who waits for this value learns that it will not come.
                let head = Head::PortClosed { port: port.clone(), reason: cut_reason(&why) };
                let _gone = self.hand_over(&dest, Packet::bare(head));
            }
            proc_.bounce(packet, &why);
        }
    }

    /// Whether another host is at the other end: the one above, or one below.
    pub(crate) fn is_host(&self, from: Option<&ProcId>) -> bool {
        from.is_none_or(|from| self.ways.leads_through(from))
    }

    /// As [`Self::forward`] of each of these messages.
    fn forward_all(&self, proc_: &Proc, packets: Vec<Packet>, from: Option<&ProcId>) {
        let mut others = Vec::new();
        for packet in packets {
            match &packet.head {
                Head::Deliver { to, .. } if to.proc_id != self.own => {
                    others.push((to.proc_id.clone(), packet));
                }
                _ => self.forward(packet, from),
            }
        }
        for failed in self.pass_all(others, from.is_none()) {
            if let Err((packet, why)) = failed {
                proc_.bounce(packet, &why);
            }
        }
    }

    fn pass(&self, dest: &ProcId, packet: Packet, came_down: bool) -> Result<(), (Packet, String)> {
        if self.is_left_to_who_moves_it(&packet.head) {
            return Ok(());
        }
        let (going, packet) = self.set_out(dest, packet);
        let sent = self.pass_on(&going.next, packet, came_down);
        self.has_gone(going, sent)
    }

    /// As [`Self::pass`] of each of these messages: what says the same goes to another host in one.
    fn pass_all(&self, packets: Vec<(ProcId, Packet)>, came_down: bool) -> Vec<Result<(), (Packet, String)>> {
        if !self.ways.are_some() {
            return packets.into_iter().map(|(dest, packet)| self.pass(&dest, packet, came_down)).collect();
        }
        let mut results: Vec<Option<_>> = packets.iter().map(|_| None).collect();
        // Below, the proc that a way leads through; none for the way up.
        let mut by_way: HashMap<Option<ProcId>, Together<'_>> = HashMap::new();
        for (place, (dest, packet)) in packets.into_iter().enumerate() {
            let (going, packet) = self.set_out(&dest, packet);
            let is_here = self.routes().contains_key(&going.next) || going.next.host() == self.host.as_str();
            let down = self.ways.down(going.next.host()).map(|(via, _)| via);
            if is_here || (down.is_none() && (came_down || self.ways.up().is_none())) {
                let sent = self.pass_on(&going.next, packet, came_down);
                results[place] = Some(self.has_gone(going, sent));
            } else {
                let together = by_way.entry(down).or_default();
                together.packets.push((going.next.clone(), packet));
                together.goings.push((place, going));
            }
        }
        for Together { goings, packets } in by_way.into_values() {
            for ((place, going), sent) in goings.into_iter().zip(self.send_bundled(packets, came_down)) {
                results[place] = Some(self.has_gone(going, sent));
            }
        }
        results.into_iter().flatten().collect()
    }

    /// All of them take the same way.
    fn send_bundled(
        &self,
        packets: Vec<(ProcId, Packet)>,
        came_down: bool,
    ) -> Vec<Result<(), (Packet, String)>> {
        let Some(dest) = packets.first().map(|(dest, _)| dest.clone()) else { return Vec::new() };
        let bundles = bundle(packets.into_iter().map(|(_, packet)| packet).collect());
        let send = |(packet, count)| match self.pass_to_host(&dest, packet, came_down) {
            Ok(()) => (0..count).map(|_| Ok(())).collect::<Vec<_>>(),
            Err((packet, why)) => {
                unbundle(packet).into_iter().map(|packet| Err((packet, why.clone()))).collect()
            }
        };
        bundles.into_iter().flat_map(send).collect()
    }

    /// Whoever has to know of it is told that `packet` is on its way.
    fn set_out(&self, dest: &ProcId, packet: Packet) -> (Going<'_>, Packet) {
        let (next, packet) = self.led(dest, packet);
        let passing = self.transit.begin(&next, &packet.head);
        let knows = sender(&packet.head).filter(|_| next == *dest).cloned();
        self.announce_moves(&next, &packet.head, knows.as_ref());
        (Going { next, passing }, packet)
    }

    /// The packet was sent to where it was `going`, or was not.
    fn has_gone(&self, going: Going<'_>, sent: Result<(), (Packet, String)>) -> Result<(), (Packet, String)> {
        let Going { next, passing } = going;
        match &sent {
            Ok(()) => {
                for cancelled in passing.end(&next) {
                    let _gone_since = self.hand_over(&next, cancelled);
                }
            }
            Err((packet, _)) => {
                self.take_back_moves(&next, &packet.head);
                // Who was gone before it became a holder is not buried a second time.
                if !self.is_here_or_below(&next) {
                    self.waiting().remove(&next);
                }
                // The ports are here again.
                for cancelled in passing.end(&self.own) {
                    self.proc_().inspect(|proc_| proc_.receive(cancelled));
                }
            }
        }
        sent
    }

    /// Tells the owners of the once ports that move with `head` who holds them now: all but `knows`, which has sent it
    /// to there itself.
    pub(super) fn announce_moves(&self, dest: &ProcId, head: &Head, knows: Option<&ProcId>) {
        let ports = moving_ports(head);
        if ports.is_empty() {
            return;
        }
        // The end of this process ends all the others of the host, and who is above is no matter of this host's.
        let is_awaited = *dest != self.own && self.is_here_or_below(dest);
        for port in ports.iter().filter(|port| port.proc_id != *dest) {
            let (owner, is_told) = (&port.proc_id, knows != Some(&port.proc_id));
            let moved = || Packet::bare(Head::PortMoved { port: port.clone(), holder: dest.clone() });
            if *owner == self.own {
                if let Some(proc_) = self.proc_().filter(|_| is_told) {
                    proc_.receive(moved());
                }
                continue;
            }
            if is_told {
                let _owner_gone = self.hand_over(owner, moved());
            }
            if is_awaited {
                self.waiting().entry(dest.clone()).or_default().insert(owner.clone());
            }
        }
    }

    fn is_here_or_below(&self, dest: &ProcId) -> bool {
        self.routes().contains_key(dest) || self.ways.down(dest.host()).is_some()
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

    pub(super) fn hand_over(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        self.pass_on(dest, packet, false)
    }

    /// To the proc itself, or to the next host on the way to it: never up again what `came_down` from there.
    pub(super) fn pass_on(
        &self,
        dest: &ProcId,
        packet: Packet,
        came_down: bool,
    ) -> Result<(), (Packet, String)> {
        {
            let routes = self.routes();
            match routes.get(dest) {
                None => {
                    drop(routes);
                    return self.pass_to_host(dest, packet, came_down);
                }
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
            None => return Err((packet, self.absence(dest))),
        }
        drop(routes);
        if let Some(proc_) = self.proc_() {
            proc_.close_moving(&withdrawn.head, CANCELLED);
        }
        Ok(())
    }

    /// For a proc that is none of this host's, as far as is known.
    fn pass_to_host(&self, dest: &ProcId, packet: Packet, came_down: bool) -> Result<(), (Packet, String)> {
        if dest.host() != self.host.as_str() {
            if let Some((_, link)) = self.ways.down(dest.host()) {
                return post(&link, dest, packet);
            }
            if let Some(above) = self.ways.up().filter(|_| !came_down) {
                return above.route(dest, packet);
            }
        }
        Err((packet, self.absence(dest)))
    }

    /// Why there is no `dest`.
    fn absence(&self, dest: &ProcId) -> String {
        self.obituaries
            .read(dest)
            .or_else(|| self.ways.became(dest.host()))
            .unwrap_or_else(|| format!("proc {dest} has ended, or never was"))
    }
}

impl Router for Hub {
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        self.pass(dest, packet, false)
    }

    fn route_all(&self, packets: Vec<(ProcId, Packet)>) -> Vec<Result<(), (Packet, String)>> {
        self.pass_all(packets, false)
    }
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

/// Who has sent it, and so has noted itself where its own ports went.
fn sender(head: &Head) -> Option<&ProcId> {
    match head {
        Head::Deliver { from, .. } => Some(&from.proc_id),
        _ => None,
    }
}

fn post(sender: &LinkSender, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
    sender.post(packet).map_err(|(packet, why)| match why {
        PostError::Closed => (packet, format!("the connection to proc {dest} was lost")),
        PostError::Full { .. } => (packet, format!("proc {dest} is not reading: {why}")),
        refused => (packet, refused.to_string()),
    })
}
