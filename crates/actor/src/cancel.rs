use procession_model::{Head, Packet, PortId, ProcId};

use crate::port_table::Cancelled;
use crate::process::Proc;

/// The own ports in a message, of which there is hardly ever more than one.
#[derive(Default)]
pub(crate) struct Own {
    first: Option<u64>,
    more: Vec<u64>,
}

impl Own {
    pub(crate) fn add(&mut self, index: u64) {
        if self.first.is_none() {
            self.first = Some(index);
        } else {
            self.more.push(index);
        }
    }
}

impl Proc {
    /// Nobody waits for the answer on a once port of this process any more: its sink is dropped, and who holds the port
    /// learns of it, now and after each further move. Nothing happens when the answer has come.
    pub fn cancel_port(&self, port: &PortId) {
        if port.proc_id != *self.id() {
            return;
        }
        match self.ports().cancel(port.index) {
            Cancelled::Nowhere => {}
            Cancelled::Here => self.cancel_here(port),
            Cancelled::At(holder) => self.tell_cancelled(port.clone(), holder),
        }
    }

    fn tell_cancelled(&self, port: PortId, holder: ProcId) {
        // A holder that is gone needs no word, and its end is told by others.
        self.send_best_effort(Packet::bare(Head::PortCancelled { port, holder }));
    }

    /// After a move of own ports: a cancel of one that was sent at the same time may have come there before the port.
    pub(crate) fn repeat_cancels(&self, own: &Own) {
        if !self.ports().any_cancelled() {
            return;
        }
        for &index in own.first.iter().chain(&own.more) {
            if let Some(holder) = self.ports().holder_to_tell(index) {
                self.tell_cancelled(PortId::new(self.id().clone(), index), holder);
            }
        }
    }

    /// A port of this process has moved on between others.
    pub(crate) fn moved(&self, port: &PortId, holder: ProcId) {
        if port.proc_id == *self.id() && self.ports().set_holder(port.index, Some(holder.clone())) {
            // From a task of its own: whoever says this may be about to send the port itself.
            let (proc_, port) = (self.clone(), port.clone());
            self.runtime().spawn(async move { proc_.tell_cancelled(port, holder) });
        }
    }

    /// Whoever has that port in this process learns that nobody waits for its answer.
    pub(crate) fn cancel_here(&self, port: &PortId) {
        let Some((held, actor)) = self.held().find(port) else { return };
        if held.cancel()
            && let Some(cell) = actor.and_then(|name| self.cell(&name))
        {
            cell.cancelled(port);
        }
    }
}
