use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_model::{Head, Packet, PortId, ProcId};

/// One port on its way.
#[derive(Default)]
struct Move {
    /// How many are passing it on: a new holder may be before the last one is done.
    by: usize,
    cancelled: bool,
}

/// The once ports that somebody else than their owner is passing on at this moment.
///
/// Their owners hear of the new holder before that has the port, and a cancel that they send there at once would come
/// before the port does. What an owner passes on itself needs no place here: its cancels come the same way behind it.
#[derive(Default)]
pub(crate) struct Transit(Mutex<HashMap<PortId, Move>>);

impl Transit {
    fn moves(&self) -> MutexGuard<'_, HashMap<PortId, Move>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ports that are about to move to `dest` with `head`; to be called before their owners are told.
    pub(crate) fn begin(&self, dest: &ProcId, head: &Head) -> Passing<'_> {
        let (sender, ports) = match head {
            Head::Deliver { from, ports, .. } => (Some(&from.proc_id), ports.as_slice()),
            Head::Send { ports, .. } => (None, ports.as_slice()),
            _ => (None, [].as_slice()),
        };
        let of_others = |port: &&PortId| Some(&port.proc_id) != sender && port.proc_id != *dest;
        let ports: Vec<PortId> = ports.iter().filter(of_others).cloned().collect();
        if !ports.is_empty() {
            let mut moves = self.moves();
            for port in &ports {
                moves.entry(port.clone()).or_default().by += 1;
            }
        }
        Passing { transit: self, ports }
    }

    /// Notes that `port` is cancelled; false when nobody is passing it on.
    pub(crate) fn cancel(&self, port: &PortId) -> bool {
        match self.moves().get_mut(port) {
            Some(moving) => {
                moving.cancelled = true;
                true
            }
            None => false,
        }
    }
}

/// Some ports that move on.
pub(crate) struct Passing<'a> {
    transit: &'a Transit,
    ports: Vec<PortId>,
}

impl Passing<'_> {
    /// The ports are at `dest`; what is to be sent behind them.
    pub(crate) fn end(mut self, dest: &ProcId) -> Vec<Packet> {
        let cancelled = self.done();
        let packet = |port| Packet::bare(Head::PortCancelled { port, holder: dest.clone() });
        cancelled.into_iter().map(packet).collect()
    }

    fn done(&mut self) -> Vec<PortId> {
        let mut ports = std::mem::take(&mut self.ports);
        if ports.is_empty() {
            return ports;
        }
        let mut moves = self.transit.moves();
        ports.retain(|port| {
            let Some(moving) = moves.get_mut(port) else { return false };
            moving.by -= 1;
            let cancelled = moving.cancelled;
            if moving.by == 0 {
                moves.remove(port);
            }
            cancelled
        });
        ports
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.done();
    }
}

#[cfg(test)]
mod tests {
    use procession_model::{ActorId, HostId};

    use super::*;

    fn proc_id(name: &str) -> ProcId {
        ProcId::fresh(name, &HostId::fresh("test")).expect("a good name")
    }

    fn deliver(from: &ProcId, to: &ProcId, ports: Vec<PortId>) -> Head {
        let (to, from) = (ActorId::new(to.clone(), "a"), ActorId::new(from.clone(), "b"));
        Head::Deliver { to, from, tag: "test".to_owned(), ports, answered: true }
    }

    #[test]
    fn a_cancel_of_a_port_that_moves_on_is_sent_behind_it_by_everyone_who_moves_it() {
        let [owner, first, second, third] = ["owner", "first", "second", "third"].map(proc_id);
        let (transit, port) = (Transit::default(), PortId::new(owner.clone(), 7));
        assert!(!transit.cancel(&port));
        let one = transit.begin(&second, &deliver(&first, &second, vec![port.clone()]));
        let other = transit.begin(&third, &deliver(&second, &third, vec![port.clone()]));
        assert!(transit.cancel(&port));
        for (passing, holder) in [(other, third), (one, second)] {
            let told = passing.end(&holder);
            assert_eq!(told, [Packet::bare(Head::PortCancelled { port: port.clone(), holder })]);
        }
        assert!(!transit.cancel(&port) && transit.moves().is_empty());
    }

    #[test]
    fn what_an_owner_sends_or_gets_back_is_not_in_transit() {
        let [owner, other] = ["owner", "other"].map(proc_id);
        let (transit, port) = (Transit::default(), PortId::new(owner.clone(), 7));
        let _out = transit.begin(&other, &deliver(&owner, &other, vec![port.clone()]));
        let _back = transit.begin(&owner, &deliver(&other, &owner, vec![port.clone()]));
        assert!(transit.moves().is_empty());
        drop(
            transit.begin(&other, &Head::Send { port: port.clone(), tag: String::new(), ports: vec![port] }),
        );
        assert!(transit.moves().is_empty());
    }
}
