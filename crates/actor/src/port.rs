use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use procession_model::{Head, PortId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::mpsc;

use crate::answer::Answer;
use crate::binding::Binding;
use crate::error::{MailboxError, MailboxSenderError, SendErrorKind};
use crate::instance::Instance;
use crate::message::Message;
use crate::process::Proc;

type Outcome<M> = Result<M, MailboxError>;

pub(crate) fn pair<M: Message>(
    proc_: Proc,
    tx: mpsc::UnboundedSender<Outcome<M>>,
    rx: mpsc::UnboundedReceiver<Outcome<M>>,
) -> (PortHandle<M>, PortReceiver<M>) {
    let binding = Arc::new(Binding::default());
    let receiver = PortReceiver { rx, proc_: proc_.clone(), binding: Arc::clone(&binding) };
    (PortHandle { tx, proc_, binding }, receiver)
}

/// The sending end of a port, inside the process that opened it.
pub struct PortHandle<M> {
    tx: mpsc::UnboundedSender<Outcome<M>>,
    proc_: Proc,
    binding: Arc<Binding>,
}

impl<M: Message> PortHandle<M> {
    /// Sends.
    ///
    /// # Errors
    /// The receiver was dropped; the value is handed back.
    pub fn send(&self, value: M) -> Result<(), MailboxSenderError<M>> {
        self.tx.send(Ok(value)).map_err(|failed| match failed.0 {
            Ok(message) => MailboxSenderError {
                message,
                kind: SendErrorKind::Unreachable("the receiver of the port was dropped".to_owned()),
            },
            Err(_) => unreachable!("the value that was sent is the value that comes back"),
        })
    }

    /// A reference that any process can send to.
    pub fn bind(&self) -> PortRef<M> {
        let table = self.proc_.ports();
        let index = self.binding.bind(table, || {
            let tx = self.tx.clone();
            table.open_many(Arc::new(move |answer: Answer| {
                let _nobody_waits = tx.send(answer.open());
            }))
        });
        PortRef::attach(PortId::new(self.proc_.id().clone(), index))
    }
}

impl<M> Clone for PortHandle<M> {
    fn clone(&self) -> Self {
        Self { tx: self.tx.clone(), proc_: self.proc_.clone(), binding: Arc::clone(&self.binding) }
    }
}

impl<M> fmt::Debug for PortHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortHandle({})", self.proc_.id())
    }
}

/// The receiving end of a port.
pub struct PortReceiver<M> {
    rx: mpsc::UnboundedReceiver<Outcome<M>>,
    proc_: Proc,
    binding: Arc<Binding>,
}

impl<M> PortReceiver<M> {
    /// Waits for the next value. Cancel safe.
    ///
    /// # Errors
    /// Every sender of this process is gone and no reference was made, or what came is not an `M`.
    pub async fn recv(&mut self) -> Result<M, MailboxError> {
        match self.rx.recv().await {
            Some(outcome) => outcome,
            None => Err(MailboxError::Closed("every sender of the port is gone".to_owned())),
        }
    }
}

impl<M> Drop for PortReceiver<M> {
    fn drop(&mut self) {
        self.binding.close(self.proc_.ports());
    }
}

impl<M> fmt::Debug for PortReceiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortReceiver({})", self.proc_.id())
    }
}

/// The address of a port, for any process and any number of values.
pub struct PortRef<M> {
    port: PortId,
    message: PhantomData<fn(M)>,
}

impl<M> PortRef<M> {
    /// The port called `port`, which its owner opened for values of type `M`.
    pub fn attach(port: PortId) -> Self {
        Self { port, message: PhantomData }
    }

    /// The port.
    pub fn port(&self) -> &PortId {
        &self.port
    }
}

impl<M: Message> PortRef<M> {
    /// Sends.
    ///
    /// # Errors
    /// `M` has no wire form, or the owner cannot be reached; the value is handed back.
    pub fn send(&self, cx: &Instance<impl Sized>, value: M) -> Result<(), MailboxSenderError<M>> {
        cx.proc_().post_message(value, |tag, ports| Ok(Head::Send { port: self.port.clone(), tag, ports }))
    }
}

impl<M> Clone for PortRef<M> {
    fn clone(&self) -> Self {
        Self { port: self.port.clone(), message: PhantomData }
    }
}

impl<M> fmt::Debug for PortRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRef({})", self.port)
    }
}

impl<M> Serialize for PortRef<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.port.serialize(serializer)
    }
}

impl<'de, M> Deserialize<'de> for PortRef<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PortId::deserialize(deserializer).map(Self::attach)
    }
}
