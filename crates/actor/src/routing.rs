#![expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]

use std::sync::Arc;

use procession_model::{Head, Packet, PortId, ProcId, cut_reason};

use crate::answer::Answer;
use crate::cancel::Own;
use crate::held::{Claims, Held};
use crate::process::Proc;

/// Takes packets for other processes.
pub trait Router: Send + Sync + 'static {
    /// Hands `packet` on towards `dest`; never blocks, and keeps the order.
    ///
    /// # Errors
    /// The packet, whole, and why it can never get there. A full queue is no reason, because the
    /// news of a closed port is sent only once.
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)>;

    /// As [`Self::route`] of each of them, in their order, with what became of each.
    fn route_all(&self, packets: Vec<(ProcId, Packet)>) -> Vec<Result<(), (Packet, String)>> {
        packets.into_iter().map(|(dest, packet)| self.route(&dest, packet)).collect()
    }
}

/// The process that a packet is for; none for what concerns the connection alone.
pub(crate) fn destination(head: &Head) -> Option<&ProcId> {
    match head {
        Head::Deliver { to, .. } => Some(&to.proc_id),
        Head::Send { port, .. } | Head::PortClosed { port, .. } | Head::PortMoved { port, .. } => {
            Some(&port.proc_id)
        }
        Head::PortCancelled { holder, .. } => Some(holder),
        Head::Returned { from, .. } => Some(&from.proc_id),
        Head::ProcGone { to, .. } => Some(to),
        Head::Cast { .. }
        | Head::Leads { .. }
        | Head::ActorEnded { .. }
        | Head::Host { .. }
        | Head::Welcome
        | Head::Booted(_)
        | Head::Report { .. }
        | Head::Unreachable { .. }
        | Head::ReportedAgain { .. }
        | Head::Ready { .. }
        | Head::Stop { .. }
        | Head::Peer { .. } => None,
    }
}

fn moving_ports(head: &Head) -> &[PortId] {
    match head {
        Head::Deliver { ports, .. } | Head::Send { ports, .. } => ports,
        _ => &[],
    }
}

impl Proc {
    /// Sends a packet that starts here.
    ///
    /// # Errors
    /// The packet, handed back, and why it cannot be delivered.
    pub fn post(&self, packet: Packet) -> Result<(), (Packet, String)> {
        let Some(dest) = destination(&packet.head).cloned() else {
            return Err((packet, "this kind of packet is not routed".to_owned()));
        };
        if dest == *self.id() {
            return self.deliver_here(packet);
        }
        // The owner knows the new holder before the holder can run, so that its death is never missed.
        let own = self.set_holders(moving_ports(&packet.head), Some(&dest));
        self.router().route(&dest, packet).inspect_err(|(packet, _)| {
            self.set_holders(moving_ports(&packet.head), None);
        })?;
        self.repeat_cancels(&own);
        Ok(())
    }

    /// As [`Self::post`] of each of these packets, with what became of each: what says the same is sent once for all who
    /// are reached by the same way.
    pub fn post_all(&self, packets: Vec<Packet>) -> Vec<Result<(), (Packet, String)>> {
        let mut results: Vec<Option<_>> = packets.iter().map(|_| None).collect();
        let (mut places, mut routed, mut owns) = (Vec::new(), Vec::new(), Vec::new());
        for (place, packet) in packets.into_iter().enumerate() {
            match destination(&packet.head).filter(|dest| *dest != self.id()).cloned() {
                Some(dest) => {
                    places.push(place);
                    owns.push(self.set_holders(moving_ports(&packet.head), Some(&dest)));
                    routed.push((dest, packet));
                }
                None => results[place] = Some(self.post(packet)),
            }
        }
        for ((place, own), sent) in places.into_iter().zip(owns).zip(self.router().route_all(routed)) {
            match &sent {
                Ok(()) => self.repeat_cancels(&own),
                Err((packet, _)) => drop(self.set_holders(moving_ports(&packet.head), None)),
            }
            results[place] = Some(sent);
        }
        results.into_iter().flatten().collect()
    }

    /// Notes who holds those of `ports` that were opened here, none for this process; gives those.
    fn set_holders(&self, ports: &[PortId], holder: Option<&ProcId>) -> Own {
        let mut own = Own::default();
        for port in ports.iter().filter(|port| port.proc_id == *self.id()) {
            self.ports().set_holder(port.index, holder.cloned());
            own.add(port.index);
        }
        own
    }

    /// Sends a packet whose loss nobody can act on, such as the news that a port was dropped.
    pub(crate) fn send_best_effort(&self, packet: Packet) {
        if let Err((packet, why)) = self.post(packet) {
            tracing::debug!(head = ?packet.head, why, "not delivered");
        }
    }

    /// Takes a packet that came over a connection and is for this process.
    pub fn receive(&self, packet: Packet) {
        let taken = match destination(&packet.head) {
            Some(dest) if dest != self.id() => {
                let why = format!("it is for proc {dest}, which is not this one ({})", self.id());
                Err((packet, why))
            }
            _ => self.deliver_here(packet),
        };
        if let Err((packet, why)) = taken {
            self.bounce(packet, &why);
        }
    }

    /// The way to all other procs was lost: what any of them should have answered errs with `reason`.
    pub fn others_gone(&self, reason: &str) {
        self.ports().holders_gone(|_| true, reason);
    }

    /// A proc ended: what it should have answered errs with `reason`.
    pub fn proc_gone(&self, proc_id: &ProcId, reason: &str) {
        self.ports().holder_gone(proc_id, reason);
    }

    /// All procs that are `gone` ended: what any of them should have answered errs with `reason`.
    pub fn procs_gone(&self, gone: impl Fn(&ProcId) -> bool, reason: &str) {
        self.ports().holders_gone(gone, reason);
    }

    /// Gives a packet that nobody takes back to those who wait: its ports close, its sender gets it back.
    pub fn bounce(&self, packet: Packet, why: &str) {
        let why = cut_reason(why);
        self.close_moving(&packet.head, &why);
        if let Head::Deliver { to, from, tag, .. } = packet.head {
            let head = Head::Returned { to, from, tag, reason: why };
            self.send_best_effort(Packet { head, parts: packet.parts });
        }
    }

    /// Closes the once ports in a packet with that head, which gets nowhere.
    pub fn close_moving(&self, head: &Head, why: &str) {
        let reason = cut_reason(why);
        for port in moving_ports(head) {
            let closed = Head::PortClosed { port: port.clone(), reason: reason.clone() };
            self.send_best_effort(Packet::bare(closed));
        }
    }

    fn arrived(&self, ports: &[PortId], actor: Option<&Arc<str>>) -> Vec<Arc<Held>> {
        let arrive = |port: &PortId| {
            // It can be found before it counts as here, so that a cancel at this moment does not miss it.
            let held = Held::arrived(port.clone(), self, actor);
            if port.proc_id == *self.id() && self.ports().set_holder(port.index, None) {
                held.cancel();
            }
            held
        };
        ports.iter().map(arrive).collect()
    }

    fn deliver_here(&self, packet: Packet) -> Result<(), (Packet, String)> {
        let Packet { head, parts } = packet;
        match head {
            Head::Deliver { to, from, tag, ports, answered } => {
                let taken = match self.cell(&to.name) {
                    Some(cell) => {
                        let held = self.arrived(&ports, Some(&to.name));
                        // Who gets the packet back decides what becomes of its ports.
                        cell.deliver(&from, &tag, parts, Claims::new(held.clone()))
                            .inspect_err(|_| held.iter().for_each(|held| held.disown()))
                    }
                    None => Err((parts, self.absence(&to.name))),
                };
                return taken.map_err(|(parts, why)| {
                    (Packet { head: Head::Deliver { to, from, tag, ports, answered }, parts }, why)
                });
            }
            Head::Send { port, tag, ports } => {
                let claims = Claims::new(self.arrived(&ports, None));
                self.ports().answer(port.index, Answer::Value { tag, parts, claims });
            }
            Head::PortClosed { port, reason } => self.ports().answer(port.index, Answer::Closed(reason)),
            Head::PortMoved { port, holder } => self.moved(&port, holder),
            Head::PortCancelled { port, .. } => self.cancel_here(&port),
            Head::ProcGone { proc_id, reason, .. } => self.proc_gone(&proc_id, &reason),
            Head::Returned { to, from, tag, reason } => match self.cell(&from.name) {
                Some(cell) => cell.returned(crate::Returned { to, tag, parts, reason }),
                None => {
                    let why = "a message came back to a sender that takes none: an actor that has ended, or no actor";
                    tracing::debug!(%to, %from, tag, reason, "{why}");
                }
            },
            head => return Err((Packet { head, parts }, "this kind of packet is not for actors".to_owned())),
        }
        Ok(())
    }
}

/// A process that knows no other.
pub(crate) struct NoRoute;

impl Router for NoRoute {
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        Err((
            packet,
            format!(
                "proc {dest} cannot be reached: this process has no connection; start a host, or dial back to one"
            ),
        ))
    }
}

pub(crate) fn no_route() -> Arc<dyn Router> {
    Arc::new(NoRoute)
}
