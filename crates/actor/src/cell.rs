use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use procession_model::{ActorId, PortId};
use tokio::sync::mpsc;

use crate::actor::{Actor, ActorFailure, Handler, Returned};
use crate::held::Claims;
use crate::instance::Instance;
use crate::life::{self, Epitaph};
use crate::message::{Message, decode};

/// What a cell gives back when it does not take a message.
pub(crate) type Refused = (Vec<Bytes>, String);

/// One registered actor, as the kernel sees it.
pub(crate) trait Cell: Send + Sync {
    fn deliver(&self, from: &ActorId, tag: &str, parts: Vec<Bytes>, claims: Claims) -> Result<(), Refused>;
    fn returned(&self, returned: Returned);
    fn stop(&self, reason: &str);
    fn cancelled(&self, port: &PortId);
}

type Handling<'a> = Pin<Box<dyn Future<Output = Result<(), ActorFailure>> + Send + 'a>>;

/// A message in an actor's mailbox, whatever its type.
pub(crate) trait Work<A>: Any + Send {
    fn start<'a>(self: Box<Self>, actor: &'a mut A, cx: &'a Instance<A>) -> Handling<'a>;
}

struct Letter<M> {
    from: Arc<ActorId>,
    message: M,
}

impl<A: Handler<M>, M: Message> Work<A> for Letter<M> {
    fn start<'a>(self: Box<Self>, actor: &'a mut A, cx: &'a Instance<A>) -> Handling<'a> {
        let handling = if A::RECORDED {
            let what = M::TAG.unwrap_or_else(std::any::type_name::<M>);
            cx.proc_().handling(cx.id(), what, &self.from)
        } else {
            None
        };
        cx.set_sender(self.from);
        let handled = actor.handle(cx, self.message);
        match handling {
            None => Box::pin(handled),
            Some(handling) => Box::pin(async move {
                let _until_it_is_handled = handling;
                handled.await
            }),
        }
    }
}

/// What is rare is boxed, because every message takes the room of the largest.
pub(crate) enum Mail<A> {
    Work(Box<dyn Work<A>>),
    Returned(Box<Returned>),
    Cancelled(PortId),
    Stop(Box<str>),
}

pub(crate) type MailSender<A> = mpsc::UnboundedSender<Mail<A>>;

/// Puts `message` into the mailbox, or hands it back when the actor has ended.
pub(crate) fn put<A: Handler<M>, M: Message>(
    mail: &MailSender<A>,
    from: Arc<ActorId>,
    message: M,
) -> Result<(), M> {
    let Err(mpsc::error::SendError(Mail::Work(work))) =
        mail.send(Mail::Work(Box::new(Letter { from, message })))
    else {
        return Ok(());
    };
    let work: Box<dyn Any> = work;
    match work.downcast::<Letter<M>>() {
        Ok(letter) => Err(letter.message),
        Err(_) => unreachable!("the letter that was sent is the letter that comes back"),
    }
}

type Take = dyn Fn(&ActorId, Vec<Bytes>, &mut Claims) -> Result<(), String> + Send + Sync;

/// Takes one type of message where it arrives.
pub(crate) struct Feed {
    tag: &'static str,
    take: Box<Take>,
}

impl Feed {
    /// # Panics
    /// `M` has no wire form, which is a mistake of the program.
    pub(crate) fn of<M: Message>(take: impl Fn(ActorId, M) + Send + Sync + 'static) -> Self {
        let tag = M::TAG.expect("only a message with a wire form can come from another process");
        let take = move |from: &ActorId, parts, claims: &mut Claims| {
            take(from.clone(), decode::<M>(parts, claims)?);
            Ok(())
        };
        Self { tag, take: Box::new(take) }
    }
}

type Decoder<A> = fn(ActorId, Vec<Bytes>, &mut Claims) -> Result<Box<dyn Work<A>>, String>;

/// The messages of an actor that may come from other processes.
pub struct Handlers<A>(HashMap<&'static str, Decoder<A>>);

impl<A: Actor> Handlers<A> {
    fn of_actor() -> Self {
        let mut table = Self(HashMap::new());
        A::handlers(&mut table);
        table
    }

    /// Takes `M` from other processes.
    ///
    /// # Panics
    /// `M` has no wire form, or two types share one tag: both are mistakes of the program, and
    /// show when the actor is spawned.
    pub fn add<M: Message>(&mut self)
    where
        A: Handler<M>,
    {
        let tag = M::TAG.expect("only a message with a wire form can come from another process");
        let decoder: Decoder<A> = |from, parts, claims| {
            Ok(Box::new(Letter { from: Arc::new(from), message: decode::<M>(parts, claims)? }))
        };
        assert!(
            self.0.insert(tag, decoder).is_none(),
            "two message types of one actor share the tag {tag:?}"
        );
    }
}

pub(crate) struct TypedCell<A: Actor> {
    id: ActorId,
    mail: MailSender<A>,
    handlers: Handlers<A>,
    feed: Option<Feed>,
    epitaph: Epitaph,
}

impl<A: Actor> TypedCell<A> {
    pub(crate) fn new(id: ActorId, mail: MailSender<A>, feed: Option<Feed>, epitaph: Epitaph) -> Self {
        Self { id, mail, handlers: Handlers::of_actor(), feed, epitaph }
    }

    fn undecodable(&self, tag: &str, why: &str) -> String {
        format!("actor {} could not decode a {tag:?}: {why}", self.id)
    }
}

impl<A: Actor> Cell for TypedCell<A> {
    fn deliver(
        &self,
        from: &ActorId,
        tag: &str,
        parts: Vec<Bytes>,
        mut claims: Claims,
    ) -> Result<(), Refused> {
        if let Some(feed) = self.feed.as_ref().filter(|feed| feed.tag == tag) {
            return match (feed.take)(from, parts.clone(), &mut claims) {
                Ok(()) => Ok(()),
                Err(why) => Err((parts, self.undecodable(tag, &why))),
            };
        }
        let Some(decoder) = self.handlers.0.get(tag) else {
            let why = format!("actor {} takes no message of type {tag:?} from other processes", self.id);
            return Err((parts, why));
        };
        match decoder(from.clone(), parts.clone(), &mut claims) {
            Ok(work) => self.mail.send(Mail::Work(work)).map_err(|_| (parts, life::read(&self.epitaph))),
            Err(why) => Err((parts, self.undecodable(tag, &why))),
        }
    }

    fn returned(&self, returned: Returned) {
        let _gone = self.mail.send(Mail::Returned(Box::new(returned)));
    }

    fn stop(&self, reason: &str) {
        let _gone = self.mail.send(Mail::Stop(reason.into()));
    }

    fn cancelled(&self, port: &PortId) {
        let _gone = self.mail.send(Mail::Cancelled(port.clone()));
    }
}
