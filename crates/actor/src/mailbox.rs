use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::answer::Answer;
use crate::message::Message;
use crate::once_port::{self, OncePortHandle, OncePortReceiver};
use crate::port::{self, PortHandle, PortReceiver};
use crate::process::Proc;

/// Where a process opens ports.
#[derive(Clone)]
pub struct Mailbox {
    proc_: Proc,
}

impl Mailbox {
    pub(crate) fn new(proc_: Proc) -> Self {
        Self { proc_ }
    }

    /// A port that any number of values can be sent to.
    pub fn open_port<M: Message>(&self) -> (PortHandle<M>, PortReceiver<M>) {
        let (tx, rx) = mpsc::unbounded_channel();
        port::pair(self.proc_.clone(), tx, rx)
    }

    /// A port that takes exactly one value.
    pub fn open_once_port<M: Message>(&self) -> (OncePortHandle<M>, OncePortReceiver<M>) {
        let (tx, rx) = oneshot::channel();
        once_port::pair(self.proc_.clone(), tx, rx)
    }

    /// A once port whose answer goes to `sink` in its wire form; gives the right to answer it.
    ///
    /// `sink` runs where the answer arrives, must neither block nor panic, and is called exactly
    /// once unless the process ends first. It keeps what it captures until then: a [`Proc`] in it
    /// is one that never goes away when nobody answers.
    pub fn open_once_sink(&self, sink: impl FnOnce(Answer) + Send + 'static) -> Arc<crate::Held> {
        let index = self.proc_.ports().open_once(Box::new(sink));
        crate::Held::new(
            procession_model::PortId::new(self.proc_.id().clone(), index),
            self.proc_.downgrade(),
        )
    }

    /// A port whose values go to `sink` in their wire form, until [`Self::close_port`].
    ///
    /// `sink` runs where each value arrives, and must neither block nor panic.
    pub fn open_sink(&self, sink: impl Fn(Answer) + Send + Sync + 'static) -> procession_model::PortId {
        let index = self.proc_.ports().open_many(Arc::new(sink));
        procession_model::PortId::new(self.proc_.id().clone(), index)
    }

    /// Takes no more on that port; what still comes counts as late.
    pub fn close_port(&self, port: &procession_model::PortId) {
        if port.proc_id == *self.proc_.id() {
            self.proc_.ports().close(port.index);
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.proc_.id())
    }
}
