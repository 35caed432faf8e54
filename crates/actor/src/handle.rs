use std::fmt;

use procession_model::{ActorId, Head};
use tokio::sync::watch;

use crate::actor::{Actor, Handler};
use crate::cell::{Mail, MailSender, put};
use crate::error::{MailboxSenderError, SendErrorKind};
use crate::instance::Instance;
use crate::life::{self, Ended, Epitaph, SHUT_DOWN};
use crate::message::Message;
use crate::process::Proc;

struct Local<A: Actor> {
    mail: MailSender<A>,
    ended: watch::Receiver<Ended>,
    epitaph: Epitaph,
}

impl<A: Actor> Clone for Local<A> {
    fn clone(&self) -> Self {
        Self { mail: self.mail.clone(), ended: self.ended.clone(), epitaph: Epitaph::clone(&self.epitaph) }
    }
}

/// The address of an actor, in this process or in another.
pub struct ActorHandle<A: Actor> {
    id: ActorId,
    proc_: Proc,
    local: Option<Local<A>>,
}

impl<A: Actor> ActorHandle<A> {
    pub(crate) fn local(
        id: ActorId,
        proc_: Proc,
        mail: MailSender<A>,
        ended: watch::Receiver<Ended>,
        epitaph: Epitaph,
    ) -> Self {
        Self { id, proc_, local: Some(Local { mail, ended, epitaph }) }
    }

    /// The actor called `id`, wherever it lives, reached through `proc_`.
    pub fn attach(proc_: &Proc, id: ActorId) -> Self {
        Self { id, proc_: proc_.clone(), local: None }
    }

    /// Its id.
    pub fn id(&self) -> &ActorId {
        &self.id
    }

    /// Sends `message`; returns once it is on its way, not once it is handled.
    ///
    /// # Errors
    /// The message, handed back: it has no wire form, or the actor cannot be reached.
    pub fn send<M: Message>(&self, cx: &Instance<impl Sized>, message: M) -> Result<(), MailboxSenderError<M>>
    where
        A: Handler<M>,
    {
        match &self.local {
            Some(local) => put(&local.mail, cx.shared_id(), message).map_err(|message| {
                let kind = SendErrorKind::Unreachable(life::read(&local.epitaph));
                MailboxSenderError { message, kind }
            }),
            None => self.proc_.post_message(message, |tag, ports| {
                let (to, from) = (self.id.clone(), cx.id().clone());
                Ok(Head::Deliver { to, from, tag, ports, answered: false })
            }),
        }
    }

    /// Asks the actor to end after what it has queued. Only for an actor of this process.
    pub fn stop(&self, reason: &str) {
        match &self.local {
            Some(local) => {
                let _gone = local.mail.send(Mail::Stop(reason.into()));
            }
            None if self.id.proc_id == *self.proc_.id() => {
                self.proc_.stop_actor(&self.id.name, reason);
            }
            None => {}
        }
    }

    /// Waits until the actor has ended; gives why, or none for a regular end. Cancel safe.
    ///
    /// For a handle from [`Self::attach`] this never resolves: the actor's host reports its end.
    pub async fn ended(&self) -> Option<String> {
        match &self.local {
            Some(local) => {
                let mut ended = local.ended.clone();
                match ended.wait_for(Option::is_some).await {
                    Ok(state) => state.clone().flatten(),
                    Err(_) => Some(SHUT_DOWN.to_owned()),
                }
            }
            None => std::future::pending().await,
        }
    }
}

impl<A: Actor> Clone for ActorHandle<A> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), proc_: self.proc_.clone(), local: self.local.clone() }
    }
}

impl<A: Actor> fmt::Debug for ActorHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorHandle({})", self.id)
    }
}
