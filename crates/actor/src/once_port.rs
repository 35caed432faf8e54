use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use procession_model::PortId;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::binding::Binding;
use crate::error::{MailboxError, MailboxSenderError, SendErrorKind};
use crate::held::{DROPPED, Held};
use crate::instance::Instance;
use crate::message::{Message, with_claims, with_moves};
use crate::process::Proc;

type Outcome<M> = Result<M, MailboxError>;

pub(crate) fn pair<M: Message>(
    proc_: Proc,
    tx: oneshot::Sender<Outcome<M>>,
    rx: oneshot::Receiver<Outcome<M>>,
) -> (OncePortHandle<M>, OncePortReceiver<M>) {
    let binding = Arc::new(Binding::default());
    let receiver = OncePortReceiver { rx, proc_: proc_.clone(), binding: Arc::clone(&binding) };
    (OncePortHandle { tx, proc_, binding }, receiver)
}

/// The sending end of a once port, inside the process that opened it.
pub struct OncePortHandle<M> {
    tx: oneshot::Sender<Outcome<M>>,
    proc_: Proc,
    binding: Arc<Binding>,
}

impl<M: Message> OncePortHandle<M> {
    /// Answers.
    ///
    /// # Errors
    /// Nobody waits any more; the value is handed back.
    pub fn send(self, value: M) -> Result<(), MailboxSenderError<M>> {
        self.tx.send(Ok(value)).map_err(|value| match value {
            Ok(message) => MailboxSenderError {
                message,
                kind: SendErrorKind::Unreachable("the receiver of the port was dropped".to_owned()),
            },
            Err(_) => unreachable!("the value that was sent is the value that comes back"),
        })
    }

    /// Makes it a reference that any process can answer, once.
    pub fn bind(self) -> OncePortRef<M> {
        let Self { tx, proc_, binding } = self;
        let sink = move |answer: Answer| {
            let _nobody_waits = tx.send(answer.open());
        };
        let table = proc_.ports();
        let number = binding.bind(table, || table.open_once(Box::new(sink)));
        OncePortRef::from_held(Held::new(PortId::new(proc_.id().clone(), number), proc_.downgrade()))
    }
}

impl<M> fmt::Debug for OncePortHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OncePortHandle({})", self.proc_.id())
    }
}

/// The receiving end of a once port.
pub struct OncePortReceiver<M> {
    rx: oneshot::Receiver<Outcome<M>>,
    proc_: Proc,
    binding: Arc<Binding>,
}

impl<M> OncePortReceiver<M> {
    /// Waits for the answer. Dropping the future closes the port.
    ///
    /// # Errors
    /// Nobody can answer any more, or what came is not an `M`.
    pub async fn recv(mut self) -> Result<M, MailboxError> {
        match (&mut self.rx).await {
            Ok(outcome) => outcome,
            Err(_) => Err(MailboxError::Closed(DROPPED.to_owned())),
        }
    }
}

impl<M> OncePortReceiver<M> {
    /// Waits no longer, and says so to whoever holds the port. A receiver that is only dropped says nothing.
    pub fn cancel(self) {
        if let Some(index) = self.binding.index() {
            self.proc_.cancel_port(&PortId::new(self.proc_.id().clone(), index));
        }
        self.binding.leave();
    }
}

impl<M> Drop for OncePortReceiver<M> {
    fn drop(&mut self) {
        self.binding.close(self.proc_.ports());
    }
}

impl<M> fmt::Debug for OncePortReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OncePortReceiver({})", self.proc_.id())
    }
}

/// The right to answer a once port from any process. Serialising it into a message moves it there.
pub struct OncePortRef<M> {
    held: Arc<Held>,
    message: PhantomData<fn(M)>,
}

impl<M> OncePortRef<M> {
    /// The reference behind a right that came some other way.
    pub fn from_held(held: Arc<Held>) -> Self {
        Self { held, message: PhantomData }
    }

    /// The right itself; for layers that carry values of their own.
    pub fn into_held(self) -> Arc<Held> {
        self.held
    }

    /// The port.
    pub fn port(&self) -> &PortId {
        self.held.port()
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.held.is_cancelled()
    }
}

impl<M: Message> OncePortRef<M> {
    /// Answers, from the process that holds it. When that fails the receiver errs.
    ///
    /// # Errors
    /// It was used before, `M` has no wire form, or the owner cannot be reached; the value is handed back.
    pub fn send(self, cx: &Instance<impl Sized>, value: M) -> Result<(), MailboxSenderError<M>> {
        self.held.answer(cx.proc_(), value)
    }
}

impl<M> fmt::Debug for OncePortRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OncePortRef({})", self.held.port())
    }
}

impl<M> Serialize for OncePortRef<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        with_moves(|moves| moves.add(&self.held))
            .ok_or_else(|| S::Error::custom("a once port can only be serialised into a message"))?
            .map_err(S::Error::custom)?;
        self.held.port().serialize(serializer)
    }
}

impl<'de, M> Deserialize<'de> for OncePortRef<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let port = PortId::deserialize(deserializer)?;
        with_claims(|claims| claims.take(&port))
            .flatten()
            .map(Self::from_held)
            .ok_or_else(|| D::Error::custom(format!("once port {port} did not come with this message")))
    }
}
