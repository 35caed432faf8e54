use procession_model::ActorId;
use tokio::sync::{mpsc, watch};

use crate::actor::{Actor, StopCause};
use crate::cell::Mail;
use crate::instance::Instance;
use crate::panic::caught_async;
use crate::process::Proc;

/// How an actor ended, once it has: none for a regular end, else why.
pub(crate) type Ended = Option<Option<String>>;

/// Reports the end of an actor, exactly once and also when its runtime is shut down under it.
pub(crate) struct Ending {
    proc_: Proc,
    id: ActorId,
    ended: watch::Sender<Ended>,
    failure: Option<String>,
}

impl Ending {
    pub(crate) fn new(proc_: Proc, id: ActorId, ended: watch::Sender<Ended>) -> Self {
        Self { proc_, id, ended, failure: Some("the runtime was shut down".to_owned()) }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.proc_.actor_ended(&self.id, self.failure.as_deref());
        self.ended.send_replace(Some(self.failure.take()));
    }
}

/// The life of an actor, from its first message to the report of its end.
pub(crate) async fn live<A: Actor>(
    // The first parameter is dropped last: the end is reported when nothing is left of the actor.
    mut ending: Ending,
    cx: Instance<A>,
    mut inbox: mpsc::UnboundedReceiver<Mail<A>>,
    actor: A,
) {
    let failure = caught_async(work(actor, &cx, &mut inbox)).await;
    ending.failure = failure.unwrap_or_else(Some);
    discard(&mut inbox).await;
}

async fn work<A: Actor>(
    mut actor: A,
    cx: &Instance<A>,
    inbox: &mut mpsc::UnboundedReceiver<Mail<A>>,
) -> Option<String> {
    let cause = handle_all(&mut actor, cx, inbox).await;
    discard(inbox).await;
    let last = actor.stopped(cx, &cause).await.err();
    match cause {
        StopCause::Failed(why) => Some(why),
        StopCause::Asked(_) => last.map(|error| error.to_string()),
    }
}

/// Takes no more messages and drops those that are queued, which closes the ports they carry.
async fn discard<A>(inbox: &mut mpsc::UnboundedReceiver<Mail<A>>) {
    inbox.close();
    // Unlike `try_recv`, this also waits for a sender that is half-way in: its message would stay
    // in the channel, with the ports open, for as long as anybody has a handle.
    while inbox.recv().await.is_some() {}
}

async fn handle_all<A: Actor>(
    actor: &mut A,
    cx: &Instance<A>,
    inbox: &mut mpsc::UnboundedReceiver<Mail<A>>,
) -> StopCause {
    if let Err(error) = actor.started(cx).await {
        return StopCause::Failed(error.to_string());
    }
    loop {
        match inbox.recv().await {
            Some(Mail::Work(work)) => {
                if let Err(error) = work.start(actor, cx).await {
                    return StopCause::Failed(error.to_string());
                }
            }
            Some(Mail::Returned(returned)) => actor.undelivered(cx, returned).await,
            Some(Mail::Stop(reason)) => return StopCause::Asked(reason),
            None => return StopCause::Asked("every handle was dropped".to_owned()),
        }
    }
}
