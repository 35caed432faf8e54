use std::sync::Arc;

use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, Proc, Returned, StopCause,
};
use procession_model::{ActorId, InvalidArgument, PortId};

use crate::inbox::Inbox;
use crate::message::{PythonMessage, is_answered};

/// An actor whose endpoints are methods of a Python object.
///
/// It runs no Python itself: it fills an [`Inbox`] that a thread of the interpreter empties, and ends when that thread
/// says that the object has ended.
#[derive(Debug)]
pub struct PythonActor {
    inbox: Arc<Inbox>,
}

impl PythonActor {
    /// Starts the actor called `name`; whoever gets the inbox serves it, and owes it an [`Inbox::end`].
    ///
    /// # Errors
    /// The name is not legal, or taken by an actor that lives.
    pub fn spawn(proc_: &Proc, name: &str) -> Result<(ActorHandle<Self>, Arc<Inbox>), InvalidArgument> {
        let inbox = Inbox::new(ActorId::new(proc_.id().clone(), name));
        let fed = Arc::clone(&inbox);
        let feed = move |sender, message| fed.push(sender, message);
        let handle = proc_.spawn_fed::<_, PythonMessage>(name, Self { inbox: Arc::clone(&inbox) }, feed)?;
        inbox.belongs_to(handle.clone());
        Ok((handle, inbox))
    }
}

impl Actor for PythonActor {
    /// They are noted where Python handles them.
    const RECORDED: bool = false;

    fn handlers(table: &mut Handlers<Self>) {
        table.add::<PythonMessage>();
    }

    async fn stopped(&mut self, _: &Instance<Self>, why: &StopCause) -> Result<(), ActorFailure> {
        let (StopCause::Asked(reason) | StopCause::Failed(reason)) = why;
        self.inbox.close(reason);
        match self.inbox.ended().await {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    async fn undelivered(&mut self, cx: &Instance<Self>, returned: Returned) {
        let (actor, to, reason) = (cx.id(), &returned.to, &returned.reason);
        if is_answered(&returned.parts) {
            tracing::debug!(%actor, %to, reason, "a call came back, and its port tells");
        } else {
            tracing::warn!(%actor, %to, reason, "a message that nobody waits for came back");
        }
    }

    async fn cancelled(&mut self, _: &Instance<Self>, _: &PortId) {
        self.inbox.cancelled();
    }
}

impl Handler<PythonMessage> for PythonActor {
    async fn handle(&mut self, cx: &Instance<Self>, message: PythonMessage) -> Result<(), ActorFailure> {
        let sender = cx.sender().unwrap_or_else(|| cx.id().clone());
        self.inbox.push(sender, message);
        Ok(())
    }
}
