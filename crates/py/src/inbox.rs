use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use procession_actor::{ActorHandle, CANCELLED, Held};
use procession_model::ActorId;
use tokio::sync::watch;

use crate::event_fd::EventFd;
use crate::message::PythonMessage;
use crate::parker::{Parked, Parker, park, parker};
use crate::python_actor::PythonActor;

/// What tells the failure of an actor that never came to be from that of one that did.
pub(crate) const NOT_CREATED: &str = " was not created: ";

/// A message and who sent it.
#[derive(Debug)]
pub struct Incoming {
    /// The sender.
    pub sender: ActorId,
    /// The message.
    pub message: PythonMessage,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Incoming>,
    closed: Option<String>,
    /// Made when somebody first asks for it: most inboxes are read by a waiting thread.
    fd: Option<EventFd>,
    /// The threads that wait for a message.
    waiting: Vec<Arc<Parker>>,
    handed_out: Vec<Weak<Held>>,
    prune_at: usize,
    actor: Option<ActorHandle<PythonActor>>,
    /// How many cancels came since the queue was last looked through for what they concern.
    cancels: usize,
    /// One came that nobody was told of yet.
    news: bool,
    /// What is said of the actor once it has ended.
    epitaph: Option<String>,
}

impl State {
    fn hand_out(&mut self, held: &Arc<Held>) {
        if self.handed_out.len() >= self.prune_at {
            self.handed_out.retain(|weak| weak.upgrade().is_some_and(|held| held.is_live()));
            self.prune_at = (2 * self.handed_out.len()).max(64);
        }
        self.handed_out.push(Arc::downgrade(held));
    }

    fn settle_fd(&self) {
        if let Some(fd) = &self.fd
            && self.queue.is_empty()
            && self.closed.is_none()
            && !self.news
        {
            fd.clear();
        }
    }
}

/// The messages of one Python actor: filled on the io thread, emptied by Python threads.
pub struct Inbox {
    actor_id: ActorId,
    state: Mutex<State>,
    /// Outer none: it lives. Inner: why it failed.
    ended: watch::Sender<Option<Option<String>>>,
    /// There is something for the actor beside its messages.
    attention: AtomicBool,
}

impl Inbox {
    pub(crate) fn new(actor_id: ActorId) -> Arc<Self> {
        Arc::new(Self {
            actor_id,
            state: Mutex::default(),
            ended: watch::Sender::new(None),
            attention: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The actor ends when this inbox does.
    pub(crate) fn belongs_to(&self, actor: ActorHandle<PythonActor>) {
        self.state().actor = Some(actor);
    }

    /// The actor.
    pub fn actor_id(&self) -> &ActorId {
        &self.actor_id
    }

    /// Queues a message; when the inbox is closed, closes the message's ports instead. Never blocks.
    pub fn push(&self, sender: ActorId, message: PythonMessage) {
        if message.is_cancelled() {
            return message.close(CANCELLED);
        }
        let refusal = {
            let mut state = self.state();
            match &state.closed {
                Some(reason) => format!("actor {} takes no more messages: {reason}", self.actor_id),
                None => {
                    if let Some(fd) = &state.fd
                        && state.queue.is_empty()
                    {
                        fd.set();
                    }
                    state.queue.push_back(Incoming { sender, message });
                    let waiting = state.waiting.pop();
                    drop(state);
                    if let Some(thread) = waiting {
                        thread.unpark();
                    }
                    return;
                }
            }
        };
        message.close(&refusal);
    }

    /// Waits for the next message; none at `timeout`, when the thread is interrupted, or once closed and empty.
    pub fn next(&self, timeout: Option<Duration>) -> Option<Incoming> {
        // A deadline beyond what a clock can say is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let incoming = self.next_of_any(deadline)?;
            if !incoming.message.is_cancelled() {
                return Some(incoming);
            }
            incoming.message.close(CANCELLED);
        }
    }

    fn next_of_any(&self, deadline: Option<Instant>) -> Option<Incoming> {
        let mut state = self.state();
        while state.queue.is_empty() && state.closed.is_none() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            let parker = parker();
            state.waiting.push(Arc::clone(&parker));
            drop(state);
            let parked = park(&parker, deadline);
            state = self.state();
            state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, &parker));
            if parked == Parked::Interrupted {
                break;
            }
        }
        let incoming = state.queue.pop_front()?;
        incoming.message.held().for_each(|held| state.hand_out(held));
        state.settle_fd();
        Some(incoming)
    }

    /// All that is queued; never blocks.
    pub fn drain(&self) -> Vec<Incoming> {
        let mut state = self.state();
        let queue = std::mem::take(&mut state.queue);
        for held in queue.iter().flat_map(|incoming| incoming.message.held()) {
            state.hand_out(held);
        }
        state.settle_fd();
        drop(state);
        if !queue.iter().any(|incoming| incoming.message.is_cancelled()) {
            return queue.into();
        }
        let (needless, needed): (Vec<_>, Vec<_>) =
            queue.into_iter().partition(|incoming| incoming.message.is_cancelled());
        needless.into_iter().for_each(|incoming| incoming.message.close(CANCELLED));
        needed
    }

    /// A call was cancelled that is queued here, or was handed out.
    pub(crate) fn cancelled(&self) {
        let mut state = self.state();
        state.cancels += 1;
        state.news = true;
        if let Some(fd) = &state.fd {
            fd.set();
        }
        // What is not dropped now is dropped when its turn comes. So many cancels cost no more than what they drop.
        if 2 * state.cancels < state.queue.len() {
            return;
        }
        state.cancels = 0;
        let queue = std::mem::take(&mut state.queue);
        let (needless, needed): (VecDeque<_>, VecDeque<_>) =
            queue.into_iter().partition(|incoming| incoming.message.is_cancelled());
        state.queue = needed;
        drop(state);
        needless.into_iter().for_each(|incoming| incoming.message.close(CANCELLED));
    }

    /// Whether a call was cancelled since this was last asked.
    pub fn take_cancelled(&self) -> bool {
        let mut state = self.state();
        let news = std::mem::take(&mut state.news);
        if news {
            state.settle_fd();
        }
        news
    }

    /// A descriptor that is readable while something is queued or the inbox is closed; it lives as long as the inbox.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn fd(&self) -> io::Result<RawFd> {
        let mut state = self.state();
        if let Some(fd) = &state.fd {
            return Ok(fd.fd());
        }
        let fd = EventFd::new()?;
        if !state.queue.is_empty() || state.closed.is_some() {
            fd.set();
        }
        Ok(state.fd.insert(fd).fd())
    }

    /// Remembers a once port that the actor got some other way than in a message, so that it closes with the actor.
    pub fn track(&self, held: &Arc<Held>) {
        let mut state = self.state();
        match state.epitaph.clone() {
            None => state.hand_out(held),
            Some(epitaph) => {
                drop(state);
                held.close(&epitaph);
            }
        }
    }

    /// How many ports it keeps an eye on; for leak tests.
    pub fn ports_handed_out(&self) -> usize {
        self.state().handed_out.len()
    }

    /// Whether it takes no more messages.
    pub fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// The actor has to look what there is for it beside its messages, before the next one.
    pub(crate) fn attend(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Whether it has to, which it does now.
    pub(crate) fn take_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::AcqRel)
    }

    /// Why it takes no more messages.
    pub fn stop_reason(&self) -> Option<String> {
        self.state().closed.clone()
    }

    /// Takes no more; what is queued can still be read. The first reason stays.
    pub fn close(&self, reason: &str) {
        let mut state = self.state();
        state.closed.get_or_insert_with(|| reason.to_owned());
        if let Some(fd) = &state.fd {
            fd.set();
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(|thread| thread.unpark());
    }

    /// The actor has ended, by `failure` (a text that names the actor) or regularly. Every once port that it still
    /// holds, taken or queued, errs at its owner with that text. Only the first call counts.
    pub fn end(&self, failure: Option<&str>) {
        let first = self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| failure.map(str::to_owned));
            first
        });
        if !first {
            return;
        }
        let reason = {
            let mut state = self.state();
            let reason = match (failure, &state.closed) {
                (Some(failure), _) => failure.to_owned(),
                (None, Some(stopped)) => format!("actor {} has ended: {stopped}", self.actor_id),
                (None, None) => format!("actor {} has ended", self.actor_id),
            };
            state.epitaph.insert(reason).clone()
        };
        self.close(&reason);
        let (queue, handed_out, actor) = {
            let mut state = self.state();
            let queue = std::mem::take(&mut state.queue);
            (queue, std::mem::take(&mut state.handed_out), state.actor.take())
        };
        // Outside of the lock: closing a port runs the code of whoever waits for it.
        queue.into_iter().for_each(|incoming| incoming.message.close(&reason));
        handed_out.iter().filter_map(Weak::upgrade).for_each(|held| held.close(&reason));
        if let Some(actor) = actor {
            actor.stop(&reason);
        }
    }

    /// The actor never came to be: as [`Self::end`].
    pub fn end_uncreated(&self, why: &str) {
        self.end(Some(&format!("actor {}{NOT_CREATED}{why}", self.actor_id)));
    }

    /// Waits for [`Self::end`]; gives the failure. Cancel safe.
    pub(crate) async fn ended(&self) -> Option<String> {
        match self.ended.subscribe().wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().flatten(),
            // `self` holds the sender.
            Err(_) => None,
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({})", self.actor_id)
    }
}
