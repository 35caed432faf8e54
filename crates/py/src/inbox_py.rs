use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use procession_actor::{Handling, Held};
use procession_model::ActorId;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::blocking::block_on;
use crate::buffers::ReceivedPayload;
use crate::claims::{Claims, Ports, while_claiming};
use crate::core::started;
use crate::fork::{Owned, refuse_in_fork};
use crate::inbox::{self, Incoming};
use crate::message::{EitherPortRef, MethodSpecifier, PythonMessage, PythonMessageKind, PythonOncePortRef};
use crate::port::PortRef;
use crate::serving::Serving;
use crate::time::deadline;

/// The messages of one actor.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Inbox(Owned<Arc<inbox::Inbox>>);

impl Inbox {
    pub(crate) fn new(inbox: Arc<inbox::Inbox>) -> Self {
        Self(Owned::new(inbox))
    }

    /// The actor's id.
    pub(crate) fn id(&self) -> &ActorId {
        self.0.actor_id()
    }

    pub(crate) fn shared(&self) -> Arc<inbox::Inbox> {
        Arc::clone(&self.0)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Nobody reads it any more. After an end of the actor's own this changes nothing.
        if refuse_in_fork().is_ok() {
            self.0.end(Some(&format!("actor {} has ended: the thread that served it went away", self.id())));
        }
    }
}

#[pymethods]
impl Inbox {
    #[getter]
    fn actor_id(&self) -> String {
        self.id().to_string()
    }

    #[pyo3(signature = (timeout))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        let incoming = next_of(py, &self.0, deadline(timeout)?)?;
        Ok(incoming.map(|incoming| Message::new(incoming, self.id())))
    }

    fn serve(
        &self,
        actor: &Bound<'_, PyAny>,
        endpoints: Bound<'_, PyDict>,
        ways: Bound<'_, PyDict>,
    ) -> PyResult<Serving> {
        Serving::new(Arc::clone(&self.0), actor, endpoints, &ways)
    }

    fn attend(&self) {
        self.0.attend();
    }

    fn drain(&self) -> PyResult<Vec<Message>> {
        refuse_in_fork()?;
        Ok(self.0.drain().into_iter().map(|incoming| Message::new(incoming, self.id())).collect())
    }

    fn busy(&self, what: String) -> Busy {
        Busy { actor: self.id().clone(), what, handling: Owned::new(Mutex::new(None)) }
    }

    fn fileno(&self) -> PyResult<RawFd> {
        refuse_in_fork()?;
        Ok(self.0.fd()?)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    fn some_cancelled(&self) -> bool {
        self.0.take_cancelled()
    }

    fn close(&self, reason: &str) -> PyResult<()> {
        refuse_in_fork()?;
        self.0.close(reason);
        Ok(())
    }

    #[pyo3(signature = (failure))]
    fn end(&self, py: Python<'_>, failure: Option<&str>) -> PyResult<()> {
        refuse_in_fork()?;
        py.detach(|| self.0.end(failure));
        Ok(())
    }

    fn end_uncreated(&self, py: Python<'_>, why: &str) -> PyResult<()> {
        refuse_in_fork()?;
        py.detach(|| self.0.end_uncreated(why));
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("Inbox({})", self.id())
    }
}

/// The next message of `inbox`; none at the deadline, and once it is closed and empty.
pub(crate) fn next_of(
    py: Python<'_>,
    inbox: &inbox::Inbox,
    deadline: Option<Instant>,
) -> PyResult<Option<Incoming>> {
    refuse_in_fork()?;
    // What is queued already costs no change of threads.
    if let Some(incoming) = inbox.next(Some(Duration::ZERO)) {
        return Ok(Some(incoming));
    }
    let wait = |until: Option<Instant>| {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match inbox.next(left) {
            Some(incoming) => Some(Some(incoming)),
            None => inbox.is_closed().then_some(None),
        }
    };
    Ok(block_on(py, deadline, wait)?.flatten())
}

/// Notes in this proc's flight record what `actor` does.
fn note(slot: &Mutex<Option<Handling>>, actor: &ActorId, what: &str, sender: &ActorId) {
    if let Ok(Some(core)) = started() {
        let handling = core.proc_.handling(actor, what, sender);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = handling;
    }
}

/// `with inbox.busy("__init__"):` for what an actor does that is no message.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Busy {
    actor: ActorId,
    what: String,
    handling: Owned<Mutex<Option<Handling>>>,
}

#[pymethods]
impl Busy {
    fn __enter__(&self) {
        note(&self.handling, &self.actor, &self.what, &self.actor);
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, PyTuple>) {
        if refuse_in_fork().is_ok() {
            self.handling.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

/// Where an answer goes, kept for Python.
enum Kept {
    Here(Option<EitherPortRef>),
    /// Handed over to an endpoint that answers itself: the port lives as long as the endpoint's reference to it, so
    /// that it closes when the endpoint lets go of it, and not only when the message goes.
    HandedOver {
        port: Weak<Held>,
        exit: bool,
    },
}

impl Kept {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Here(port) => {
                port.as_ref().and_then(EitherPortRef::held).is_some_and(|held| held.is_cancelled())
            }
            Self::HandedOver { port, .. } => port.upgrade().is_some_and(|held| held.is_cancelled()),
        }
    }

    fn caller(&self) -> Option<Caller> {
        match self {
            Self::Here(port) => port.as_ref().and_then(EitherPortRef::held).map(Caller::of),
            Self::HandedOver { port, .. } => port.upgrade().as_ref().map(Caller::of),
        }
    }

    fn port(&mut self, hand_over: bool) -> Option<EitherPortRef> {
        match self {
            Self::Here(port) => {
                let port = port.clone();
                if let (true, Some(EitherPortRef::Once(once))) = (hand_over, &port) {
                    *self = Self::HandedOver { port: Arc::downgrade(once.held()), exit: once.answers_exit() };
                }
                port
            }
            Self::HandedOver { port, exit } => {
                let port = PythonOncePortRef::from_held(port.upgrade()?);
                Some(EitherPortRef::Once(if *exit { port.for_exit() } else { port }))
            }
        }
    }
}

/// Who waits for the answer to a message, as long as that has not been given.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Caller(Owned<Weak<Held>>);

impl Caller {
    pub(crate) fn of(answer: &Arc<Held>) -> Self {
        Self(Owned::new(Arc::downgrade(answer)))
    }
}

#[pymethods]
impl Caller {
    #[getter]
    fn cancelled(&self) -> PyResult<bool> {
        refuse_in_fork()?;
        Ok(self.0.upgrade().is_some_and(|answer| answer.is_cancelled()))
    }
}

/// One message to an actor.
#[pyclass(frozen, weakref, module = "procession._native")]
pub(crate) struct Message {
    method: String,
    explicit: bool,
    payload: ReceivedPayload,
    reply_port: Owned<Mutex<Kept>>,
    ack_port: Owned<Option<PythonOncePortRef>>,
    ports: Owned<Arc<Ports>>,
    actor: ActorId,
    sender: ActorId,
    /// From the opening of the message until nothing refers to it any more.
    handling: Owned<Mutex<Option<Handling>>>,
}

impl Message {
    pub(crate) fn new(Incoming { message, sender }: Incoming, actor: &ActorId) -> Self {
        let PythonMessage { kind, message, ack_port, ports, .. } = message;
        let (method, explicit, reply_port) = match kind {
            PythonMessageKind::CallMethod { name, response_port } => {
                let explicit = matches!(name, MethodSpecifier::ExplicitPort { .. });
                (name.name().to_owned(), explicit, response_port)
            }
            // Not a call: Python finds no endpoint of that name, and nobody waits.
            _ => (String::new(), false, None),
        };
        Self {
            method,
            explicit,
            payload: ReceivedPayload::new(message.fragments().to_vec()),
            reply_port: Owned::new(Mutex::new(Kept::Here(reply_port))),
            ack_port: Owned::new(ack_port),
            ports: Owned::new(Ports::new(ports)),
            actor: actor.clone(),
            sender,
            handling: Owned::new(Mutex::new(None)),
        }
    }
}

#[pymethods]
impl Message {
    #[getter]
    fn method(&self) -> &str {
        &self.method
    }

    #[getter]
    fn explicit(&self) -> bool {
        self.explicit
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.payload.views(py)
    }

    #[getter]
    fn reply_port(&self) -> PyResult<Option<PortRef>> {
        refuse_in_fork()?;
        let port = self.reply_port.lock().unwrap_or_else(PoisonError::into_inner).port(self.explicit);
        Ok(port.map(PortRef::new))
    }

    #[getter]
    fn cancelled(&self) -> PyResult<bool> {
        refuse_in_fork()?;
        Ok(self.reply_port.lock().unwrap_or_else(PoisonError::into_inner).is_cancelled())
    }

    #[getter]
    fn caller(&self) -> PyResult<Option<Caller>> {
        refuse_in_fork()?;
        Ok(self.reply_port.lock().unwrap_or_else(PoisonError::into_inner).caller())
    }

    #[getter]
    fn ack_port(&self) -> PyResult<Option<PortRef>> {
        refuse_in_fork()?;
        Ok((*self.ack_port).clone().map(|port| PortRef::new(EitherPortRef::Once(port))))
    }

    fn load(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        refuse_in_fork()?;
        note(&self.handling, &self.actor, &self.method, &self.sender);
        while_claiming(&self.ports, None, || self.payload.load(py))
    }

    #[pyo3(signature = (holder = None))]
    fn claims(&self, holder: Option<PyRef<'_, Inbox>>) -> Claims {
        // Every message is opened by this, and right before it is handled.
        note(&self.handling, &self.actor, &self.method, &self.sender);
        Claims::new(&self.ports, holder.as_deref())
    }
}
