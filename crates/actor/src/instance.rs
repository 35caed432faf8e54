use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use procession_model::ActorId;

use crate::mailbox::Mailbox;
use crate::process::Proc;

/// Who sends: the context that an actor's handlers get, or a client-only one from [`Proc::instance`].
pub struct Instance<A> {
    proc_: Proc,
    id: Arc<ActorId>,
    sender: Mutex<Option<Arc<ActorId>>>,
    /// Where `sender` lies, which keeps it there: most messages are from whoever sent the one before.
    sender_at: AtomicUsize,
    actor: PhantomData<fn() -> A>,
}

impl<A> Instance<A> {
    pub(crate) fn new(proc_: Proc, id: ActorId) -> Self {
        Self {
            proc_,
            id: Arc::new(id),
            sender: Mutex::new(None),
            sender_at: AtomicUsize::new(0),
            actor: PhantomData,
        }
    }

    /// The sender's id.
    pub fn id(&self) -> &ActorId {
        &self.id
    }

    /// The same, for a message.
    pub(crate) fn shared_id(&self) -> Arc<ActorId> {
        Arc::clone(&self.id)
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
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).as_deref().cloned()
    }

    /// Only the actor's own task calls this.
    pub(crate) fn set_sender(&self, sender: Arc<ActorId>) {
        let at = Arc::as_ptr(&sender).addr();
        if self.sender_at.load(Ordering::Relaxed) != at {
            *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            self.sender_at.store(at, Ordering::Relaxed);
        }
    }
}

impl<A> fmt::Debug for Instance<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.id)
    }
}
