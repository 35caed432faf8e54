use std::sync::{Arc, Mutex, PoisonError};

use procession_model::{ActorId, cut_reason};
use tokio::sync::{mpsc, watch};

use crate::actor::{Actor, StopCause};
use crate::cell::Mail;
use crate::held::drop_because;
use crate::instance::Instance;
use crate::panic::caught_async;
use crate::process::Proc;

/// Why an actor ended whose task was dropped.
pub(crate) const SHUT_DOWN: &str = "the runtime was shut down";

/// How an actor ended, once it has: none for a regular end, else why.
pub(crate) type Ended = Option<Option<String>>;

/// Reports the end of an actor, exactly once and also when its runtime is shut down under it.
pub(crate) struct Ending {
    proc_: Proc,
    id: ActorId,
    ended: watch::Sender<Ended>,
    failure: Option<String>,
    /// What those are told whose messages came too late.
    epitaph: Epitaph,
}

/// What became of an actor, as soon as it handles no more messages.
pub(crate) type Epitaph = Arc<Mutex<String>>;

/// What those are told who ask before anything is known: only a runtime's end leaves it at that.
pub(crate) fn unwritten(id: &ActorId) -> Epitaph {
    Arc::new(Mutex::new(format!("actor {id} has ended: {SHUT_DOWN}")))
}

/// What is known of the end at this moment.
pub(crate) fn read(epitaph: &Epitaph) -> String {
    epitaph.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Ending {
    pub(crate) fn new(proc_: Proc, id: ActorId, ended: watch::Sender<Ended>, epitaph: Epitaph) -> Self {
        Self { proc_, id, ended, failure: Some(SHUT_DOWN.to_owned()), epitaph }
    }

    /// Settles what those are told whose messages come too late.
    fn write(&self, cause: &StopCause) {
        let id = &self.id;
        let text = match cause {
            // A reason that names the actor needs no more words around it.
            StopCause::Asked(why) | StopCause::Failed(why) if why.contains(&id.to_string()) => why.clone(),
            StopCause::Asked(why) => format!("actor {id} has ended: {why}"),
            StopCause::Failed(why) => format!("actor {id} failed: {why}"),
        };
        *self.epitaph.lock().unwrap_or_else(PoisonError::into_inner) = cut_reason(text);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.proc_.actor_ended(&self.id, self.failure.as_deref(), read(&self.epitaph));
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
    let failure = caught_async(work(&ending, actor, &cx, &mut inbox)).await;
    ending.failure = failure.unwrap_or_else(Some);
    if let Some(why) = &ending.failure {
        ending.write(&StopCause::Failed(why.clone()));
    }
    let epitaph = read(&ending.epitaph);
    // A message whose drop panics is gone with that, and costs none of those behind it.
    while caught_async(discard(&mut inbox, &epitaph)).await.is_err() {}
}

async fn work<A: Actor>(
    ending: &Ending,
    mut actor: A,
    cx: &Instance<A>,
    inbox: &mut mpsc::UnboundedReceiver<Mail<A>>,
) -> Option<String> {
    let cause = handle_all(&mut actor, cx, inbox).await;
    ending.write(&cause);
    discard(inbox, &read(&ending.epitaph)).await;
    let last = actor.stopped(cx, &cause).await.err();
    match cause {
        StopCause::Failed(why) => Some(why),
        StopCause::Asked(_) => last.map(|error| error.to_string()),
    }
}

/// Takes no more messages and drops those that are queued, which closes the ports they carry.
async fn discard<A>(inbox: &mut mpsc::UnboundedReceiver<Mail<A>>, reason: &str) {
    inbox.close();
    // Unlike `try_recv`, this also waits for a sender that is half-way in: its message would stay
    // in the channel, with the ports open, for as long as anybody has a handle.
    while let Some(mail) = inbox.recv().await {
        drop_because(reason, mail);
    }
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
            Some(Mail::Returned(returned)) => actor.undelivered(cx, *returned).await,
            Some(Mail::Cancelled(port)) => actor.cancelled(cx, &port).await,
            Some(Mail::Stop(reason)) => return StopCause::Asked(reason.into()),
            None => unreachable!("the actor's own entry in the process keeps a sender"),
        }
    }
}
