use std::future::Future;

use bytes::Bytes;
use procession_model::{ActorId, PortId};

use crate::cell::Handlers;
use crate::instance::Instance;
use crate::message::Message;

/// Why an actor's call-back failed; it ends the actor.
pub type ActorFailure = Box<dyn std::error::Error + Send + Sync>;

/// Isolated state with a mailbox.
pub trait Actor: Send + Sized + 'static {
    /// Whether the process's flight recorder notes each of its messages; false for one that only passes on
    /// to where they are noted.
    const RECORDED: bool = true;

    /// Names the messages that may come from other processes: `table.add::<Ping>();`
    fn handlers(table: &mut Handlers<Self>) {
        let _ = table;
    }

    /// Runs before the first message.
    fn started(&mut self, cx: &Instance<Self>) -> impl Future<Output = Result<(), ActorFailure>> + Send {
        let _ = cx;
        async { Ok(()) }
    }

    /// Runs after the last message, but not after a panic. An error here makes a regular end a failure.
    fn stopped(
        &mut self,
        cx: &Instance<Self>,
        why: &StopCause,
    ) -> impl Future<Output = Result<(), ActorFailure>> + Send {
        let _ = (cx, why);
        async { Ok(()) }
    }

    /// A message of this actor's came back. The default logs it.
    fn undelivered(&mut self, cx: &Instance<Self>, returned: Returned) -> impl Future<Output = ()> + Send {
        tracing::warn!(actor = %cx.id(), to = %returned.to, reason = returned.reason, "a message came back");
        async {}
    }

    /// Nobody waits any more for an answer on a once port that this actor was sent. It comes behind the message with
    /// the port, and not when the answer was given before.
    fn cancelled(&mut self, cx: &Instance<Self>, port: &PortId) -> impl Future<Output = ()> + Send {
        let _ = (cx, port);
        async {}
    }
}

impl Actor for () {}

/// Why an actor handles no more messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// It was asked to end, for this reason.
    Asked(String),
    /// A call-back of its own failed.
    Failed(String),
}

/// Handles one type of message.
pub trait Handler<M: Message>: Actor {
    /// An error ends the actor.
    fn handle(
        &mut self,
        cx: &Instance<Self>,
        message: M,
    ) -> impl Future<Output = Result<(), ActorFailure>> + Send;
}

/// A message that could not be delivered, back at its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Who should have had it.
    pub to: ActorId,
    /// Its type.
    pub tag: String,
    /// Its wire form.
    pub parts: Vec<Bytes>,
    /// Why it could not be delivered.
    pub reason: String,
}
