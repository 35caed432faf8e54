use std::collections::VecDeque;
use std::sync::Arc;

use procession_actor::{Answer as Arrived, Mailbox};
use procession_model::PortId;
use pyo3::prelude::*;

use crate::answer::{Answer, Received};
use crate::blocking::block_on;
use crate::core::{Core, current};
use crate::fork::{Owned, refuse_in_fork};
use crate::monitor::{Due, Monitor};
use crate::port::PortRef;
use crate::time::deadline;
use crate::waiter::Waiter;

/// What came to a port and nobody took yet.
#[derive(Default)]
struct Queue {
    arrived: VecDeque<Received>,
    /// How many were taken so far.
    taken: usize,
    /// Nothing more will come, and why.
    finished: Option<String>,
}

const HAS_SOMETHING: Due<Queue> = (|queue, _| !queue.arrived.is_empty() || queue.finished.is_some(), 0);

/// More came than had been taken by then: stays true, so that nobody who waits for it sleeps on when another was faster.
fn more_than(taken: usize) -> Due<Queue> {
    (|queue, taken| queue.taken + queue.arrived.len() > taken || queue.finished.is_some(), taken)
}

impl Queue {
    fn finish(&mut self, why: &str) {
        self.finished.get_or_insert_with(|| why.to_owned());
    }

    fn take(&mut self) -> Option<Received> {
        let first = self.arrived.pop_front();
        self.taken += usize::from(first.is_some());
        first.or_else(|| self.finished.clone().map(Received::closed))
    }
}

/// Gives the port up when nobody can receive from it any more.
struct Port {
    queue: Arc<Monitor<Queue>>,
    id: PortId,
    mailbox: Mailbox,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.mailbox.close_port(&self.id);
    }
}

/// The receiving end of a port.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct PortReceiver(Owned<Port>);

impl PortReceiver {
    /// A port for any number of values.
    pub(crate) fn open_many(core: &Core) -> (PortRef, Self) {
        let queue = Arc::new(Monitor::new(Queue::default()));
        let weak = Arc::downgrade(&queue);
        let id = core.mailbox.open_sink(move |answer| {
            if let Some(queue) = weak.upgrade() {
                match answer {
                    Arrived::Closed(why) => queue.update(|queue| queue.finish(&why)),
                    value => {
                        let received = Received::from(value);
                        queue.update(|queue| queue.arrived.push_back(received));
                    }
                }
            }
        });
        let port = Port { queue, id: id.clone(), mailbox: core.mailbox.clone() };
        (PortRef::many(id), Self(Owned::new(port)))
    }

    /// A port for exactly one value.
    pub(crate) fn open_once(core: &Core) -> (PortRef, Self) {
        let queue = Arc::new(Monitor::new(Queue::default()));
        let weak = Arc::downgrade(&queue);
        let held = core.mailbox.open_once_sink(move |answer| {
            if let Some(queue) = weak.upgrade() {
                let received = Received::from(answer);
                queue.update(|queue| {
                    queue.arrived.push_back(received);
                    queue.finish("the once port has given its one value");
                });
            }
        });
        let port = Port { queue, id: held.port().clone(), mailbox: core.mailbox.clone() };
        (PortRef::once(held), Self(Owned::new(port)))
    }
}

#[pymethods]
impl PortReceiver {
    #[getter]
    fn port_id(&self) -> String {
        self.0.id.to_string()
    }

    #[pyo3(signature = (timeout))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Answer>> {
        let deadline = deadline(timeout)?;
        loop {
            if let Some(answer) = self.try_recv()? {
                return Ok(Some(answer));
            }
            let queue = &self.0.queue;
            let come = block_on(py, deadline, |until| queue.wait(HAS_SOMETHING, until).then_some(()))?;
            if come.is_none() {
                return Ok(None);
            }
        }
    }

    fn try_recv(&self) -> PyResult<Option<Answer>> {
        refuse_in_fork()?;
        Ok(self.0.queue.peek(Queue::take).map(Answer::from))
    }

    fn waiter(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        let taken = self.0.queue.peek(|queue| queue.taken);
        Ok(Waiter::on(&self.0.queue, more_than(taken)))
    }

    fn close(&self) -> PyResult<()> {
        refuse_in_fork()?;
        self.0.mailbox.close_port(&self.0.id);
        self.0.queue.update(|queue| queue.finish("the port was closed by its receiver"));
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("PortReceiver({})", self.0.id)
    }
}

/// A port of this process for any number of values, and its receiver.
///
/// # Errors
/// `RuntimeError`: no runtime.
pub(crate) fn open_port() -> PyResult<(PortRef, PortReceiver)> {
    current().map(|core| PortReceiver::open_many(core))
}

/// A port of this process for one value, and its receiver.
///
/// # Errors
/// `RuntimeError`: no runtime.
pub(crate) fn open_once_port() -> PyResult<(PortRef, PortReceiver)> {
    current().map(|core| PortReceiver::open_once(core))
}

#[cfg(test)]
mod tests {
    use procession_actor::Proc;
    use procession_model::{HostId, ProcId};

    use super::*;
    use crate::answer::CLOSED;
    use crate::core::Side;

    #[tokio::test]
    async fn every_wait_on_a_port_whose_process_has_ended_is_over() {
        let handle = tokio::runtime::Handle::current();
        let proc_ = Proc::new(ProcId::fresh("p", &HostId::fresh("m")).unwrap(), handle.clone());
        let core = Core::new(Side::Embedded(proc_), handle, None);
        let (_port, receiver) = PortReceiver::open_many(&core);
        assert!(!receiver.0.queue.is(more_than(0)));
        core.proc_.close_ports("over");
        for _ in 0..2 {
            assert!(receiver.0.queue.is(HAS_SOMETHING) && receiver.0.queue.is(more_than(0)));
            let last = receiver.0.queue.peek(Queue::take).expect("the end");
            assert_eq!((last.outcome, last.text.as_str()), (CLOSED, "over"));
        }
    }
}
