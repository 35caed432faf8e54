use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_model::{Head, Packet, PortId, cut_reason};

use crate::error::{MailboxSenderError, SendErrorKind};
use crate::message::Message;
use crate::process::{Proc, WeakProc};
use crate::right::Right;

/// What the owner of a once port is told when nobody can answer it any more, because its holder forgot to.
pub const DROPPED: &str = "the port was dropped without an answer";

/// What the owner of a cancelled once port is told, who waits for nothing else.
pub const CANCELLED: &str = "nobody waits for the answer any more";

/// The right to answer one once port. It exists once in the session: it is spent by answering,
/// moves away inside a message, and tells the port's owner when it goes unused.
pub struct Held {
    port: PortId,
    right: Right,
    cancelled: AtomicBool,
    /// Whether it came in a message, and is found by its port.
    arrived: bool,
    proc_: WeakProc,
}

impl Held {
    pub(crate) fn new(port: PortId, proc_: WeakProc) -> Arc<Self> {
        Self::of(port, proc_, false)
    }

    /// One that came in a message, for an actor if any.
    pub(crate) fn arrived(port: PortId, proc_: &Proc, actor: Option<&Arc<str>>) -> Arc<Self> {
        let held = Self::of(port, proc_.downgrade(), true);
        proc_.held().insert(&held, actor);
        held
    }

    fn of(port: PortId, proc_: WeakProc, arrived: bool) -> Arc<Self> {
        Arc::new(Self { port, right: Right::new(), cancelled: AtomicBool::new(false), arrived, proc_ })
    }

    /// The port.
    pub fn port(&self) -> &PortId {
        &self.port
    }

    /// Takes the right to answer.
    ///
    /// # Errors
    /// The word for what was done with it before: `AlreadyReported`, `AlreadyMoved`, `PortClosed`.
    pub fn spend(&self) -> Result<(), &'static str> {
        self.right.spend()
    }

    /// Whether it could be spent or moved at this moment.
    ///
    /// # Errors
    /// The word for what was done with it before, as of [`Self::spend`].
    pub fn check(&self) -> Result<(), &'static str> {
        self.right.check()
    }

    /// Whether it can still be answered from here.
    pub fn is_live(&self) -> bool {
        self.check().is_ok()
    }

    /// Whether nobody waits for the answer any more: what it would take to give one can be spared.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || !self.arrived && self.is_cancelled_at_home()
    }

    /// For one that has never left the process that opened it.
    fn is_cancelled_at_home(&self) -> bool {
        let home = self.proc_.upgrade().filter(|proc_| proc_.id() == &self.port.proc_id);
        home.is_some_and(|proc_| proc_.ports().is_cancelled(self.port.index))
    }

    /// Nobody waits for the answer any more; false when it was given before.
    pub(crate) fn cancel(&self) -> bool {
        if !self.right.can_be_used() {
            return false;
        }
        self.cancelled.store(true, Ordering::Release);
        true
    }

    /// Gives the right up, telling the owner `reason`. Nothing happens when it is no longer here; of one
    /// that is inside a message which is then not sent, the owner is told when it is back.
    pub fn close(&self, reason: &str) {
        if self.right.give_up(reason) {
            self.tell_closed(reason);
        }
    }

    fn tell_closed(&self, reason: &str) {
        if let Some(proc_) = self.proc_.upgrade() {
            let reason = cut_reason(reason);
            proc_.send_best_effort(Packet::bare(Head::PortClosed { port: self.port.clone(), reason }));
        }
    }

    /// Answers, from the process `proc_` that holds it. When that fails the right is given up, and
    /// the owner told why, unless it was used before. Of an answer that nobody waits for the value stays here.
    ///
    /// # Errors
    /// It was used before, `M` has no wire form, or the owner cannot be reached; the value is handed back.
    pub fn answer<M: Message>(&self, proc_: &Proc, value: M) -> Result<(), MailboxSenderError<M>> {
        let spend = || {
            self.spend().map_err(|how| {
                if self.right.is_spent() {
                    proc_.ports().count_late();
                    tracing::warn!(port = %self.port, "a second answer was refused; the first one counts");
                }
                SendErrorKind::Spent(how)
            })
        };
        if self.is_cancelled() {
            return match spend() {
                Ok(()) => {
                    self.tell_closed(CANCELLED);
                    Ok(())
                }
                Err(kind) => Err(MailboxSenderError { message: value, kind }),
            };
        }
        let sent = proc_.post_message(value, |tag, ports| {
            spend()?;
            Ok(Head::Send { port: self.port.clone(), tag, ports })
        });
        sent.inspect_err(|error| {
            if matches!(error.kind, SendErrorKind::Unreachable(_)) {
                self.restore();
            }
            self.close(&format!("the answer could not be sent: {}", error.kind));
        })
    }

    /// The message did not arrive here after all: the right stays with its sender.
    pub(crate) fn disown(&self) {
        let _used_already = self.right.take_away();
    }

    /// Undoes a use that nobody has heard of.
    fn restore(&self) {
        if let Some(given_up) = self.right.restore() {
            self.close(&given_up);
        }
    }
}

thread_local! {
    static DROP_REASON: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Drops `value`; the owners of the once ports in it are told `reason`.
pub(crate) fn drop_because<T>(reason: &str, value: T) {
    struct PutBack(Option<String>);
    impl Drop for PutBack {
        fn drop(&mut self) {
            DROP_REASON.set(self.0.take());
        }
    }
    // Also when the value's own code panics: what the thread drops later has other reasons.
    let _put_back = PutBack(DROP_REASON.replace(Some(reason.to_owned())));
    drop(value);
}

impl Drop for Held {
    fn drop(&mut self) {
        // A drop at the very end of a thread finds the reason gone, and needs none.
        let reason = DROP_REASON.try_with(|reason| reason.borrow().clone()).ok().flatten();
        self.close(reason.as_deref().unwrap_or(DROPPED));
        if self.arrived
            && let Some(proc_) = self.proc_.upgrade()
        {
            proc_.held().remove(&self.port, self);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({}, live: {})", self.port, self.is_live())
    }
}

/// The once ports that leave with a message which is being encoded.
#[derive(Debug, Default)]
pub struct Moves(Vec<Arc<Held>>);

impl Moves {
    /// No ports yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves `held` into the message.
    ///
    /// # Errors
    /// It was spent or moved before.
    pub fn add(&mut self, held: &Arc<Held>) -> Result<(), &'static str> {
        held.right.take_away()?;
        self.0.push(Arc::clone(held));
        Ok(())
    }

    /// The ports, for the packet's head.
    pub fn ports(&self) -> Vec<PortId> {
        self.0.iter().map(|held| held.port.clone()).collect()
    }

    /// The message was not sent: the ports are here again.
    pub fn undo(mut self) {
        self.restore();
    }

    /// The message was sent.
    pub(crate) fn sent(mut self) {
        self.0.clear();
    }

    fn restore(&mut self) {
        for held in std::mem::take(&mut self.0) {
            held.restore();
        }
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        // The message's own encoding panicked: what moved into it would be lost to those who wait.
        if std::thread::panicking() {
            self.restore();
        }
    }
}

/// The once ports that came with a message, until its decoding takes them out.
///
/// What nobody takes is closed towards its owner when this is dropped.
#[derive(Debug, Default)]
pub struct Claims(Vec<Arc<Held>>);

impl Claims {
    pub(crate) fn new(held: Vec<Arc<Held>>) -> Self {
        Self(held)
    }

    /// Takes the port out; none when it did not come with this message.
    pub fn take(&mut self, port: &PortId) -> Option<Arc<Held>> {
        let index = self.0.iter().position(|held| held.port() == port)?;
        Some(self.0.swap_remove(index))
    }

    /// Takes the first one out that came with this message: where that has an answer, what takes it.
    pub fn take_first(&mut self) -> Option<Arc<Held>> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Takes all that is left.
    pub fn take_all(&mut self) -> Vec<Arc<Held>> {
        std::mem::take(&mut self.0)
    }
}
