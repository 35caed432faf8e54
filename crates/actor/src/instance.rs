use std::fmt;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use procession_model::ActorId;

use crate::mailbox::Mailbox;
use crate::process::Proc;

/// Who sends: the context that an actor's handlers get, or a client-only one from [`Proc::instance`].
pub struct Instance<A> {
    proc_: Proc,
    id: ActorId,
    sender: Mutex<Option<ActorId>>,
    actor: PhantomData<fn() -> A>,
}

impl<A> Instance<A> {
    pub(crate) fn new(proc_: Proc, id: ActorId) -> Self {
        Self { proc_, id, sender: Mutex::new(None), actor: PhantomData }
    }

    /// The sender's id.
    pub fn id(&self) -> &ActorId {
        &self.id
    }

    /// The process it lives in.
    pub fn proc_(&self) -> &Proc {
        &self.proc_
    }

    /// Where ports are opened.
    pub fn mailbox(&self) -> Mailbox {
        self.proc_.mailbox()
    }

    /// Who sent the message that is being handled.
    pub fn sender(&self) -> Option<ActorId> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_sender(&self, sender: ActorId) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }
}

impl<A> fmt::Debug for Instance<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.id)
    }
}
