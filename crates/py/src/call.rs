use std::sync::Arc;

use bytes::Bytes;
use procession_actor::{Held, Message as _, Moves};
use procession_model::{ActorId, Head, Packet};
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::buffers::copy_payload;
use crate::core::{Core, current};
use crate::errors::value_error;
use crate::fork::refuse_in_fork;
use crate::inbox_py::Inbox;
use crate::message::{
    EitherPortRef, MethodSpecifier, PYTHON_TAG, Payload, PythonMessage, PythonMessageKind, PythonOncePortRef,
};
use crate::port::{PortRef, movable};
use crate::replies::{Replies, ReplyState};
use crate::time::duration;

/// The runtime sends what the endpoint returns or raises.
pub(crate) const RETURNS: u8 = 0;
/// The endpoint answers on the port it is given.
pub(crate) const EXPLICIT: u8 = 1;
/// As [`EXPLICIT`], and the answer is one proc's exit, decoded strictly where it is sent.
pub(crate) const EXIT: u8 = 2;
/// Nobody waits for an answer.
pub(crate) const ONE_WAY: u8 = 3;
/// As [`ONE_WAY`], of an endpoint that gets a port.
pub(crate) const EXPLICIT_ONE_WAY: u8 = 4;

/// The address of an actor, parsed once.
#[pyclass(frozen, eq, hash, module = "procession._native")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct ActorRef(pub(crate) ActorId);

#[pymethods]
impl ActorRef {
    #[new]
    fn new(actor_id: &str) -> PyResult<Self> {
        actor_id.parse().map(Self).map_err(value_error)
    }

    #[getter]
    fn actor_id(&self) -> String {
        self.0.to_string()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        (slf.get_type(), (slf.get().actor_id(),)).into_pyobject(slf.py())
    }

    fn __repr__(&self) -> String {
        format!("ActorRef({})", self.0)
    }
}

pub(crate) fn sender_id<'a>(core: &'a Core, sender: Option<&'a Inbox>) -> &'a ActorId {
    sender.map_or(&core.client, Inbox::id)
}

pub(crate) fn method_specifier(style: u8, name: &str) -> PyResult<MethodSpecifier> {
    let name = name.to_owned();
    match style {
        RETURNS | ONE_WAY => Ok(MethodSpecifier::ReturnsResponse { name }),
        EXPLICIT | EXIT | EXPLICIT_ONE_WAY => Ok(MethodSpecifier::ExplicitPort { name }),
        _ => Err(PyValueError::new_err(format!("style = {style}: give one of the styles of a call"))),
    }
}

fn packet(
    from: &ActorId,
    to: &ActorId,
    message: &PythonMessage,
    moves: &mut Moves,
) -> Result<Packet, String> {
    let parts = message.encode(moves)?;
    let (to, from) = (to.clone(), from.clone());
    // The port for the answer is the first that a message carries.
    let answered = message.answer().is_some();
    let head = Head::Deliver { to, from, tag: PYTHON_TAG.to_owned(), ports: moves.ports(), answered };
    Ok(Packet { head, parts })
}

/// Sends `message` on its way; when that fails, what moves with it is here again.
fn post(core: &Core, from: &ActorId, to: &ActorId, message: &PythonMessage) -> Result<(), String> {
    let mut moves = Moves::new();
    let posted = packet(from, to, message, &mut moves)
        .and_then(|packet| core.proc_.post(packet).map_err(|(_, why)| why));
    if posted.is_err() {
        moves.undo();
    }
    posted
}

/// One call of one endpoint of some actors.
pub(crate) struct Call {
    method: MethodSpecifier,
    exit: bool,
    payload: Payload,
    opens: Option<String>,
    moved: Vec<Arc<Held>>,
}

impl Call {
    pub(crate) fn new(
        to: &[PyRef<'_, ActorRef>],
        method: &str,
        style: u8,
        payload: Vec<Bound<'_, PyAny>>,
        moved: &[PyRef<'_, PortRef>],
    ) -> PyResult<Self> {
        let moved = movable(moved)?;
        if !moved.is_empty() && to.len() != 1 {
            return Err(PyValueError::new_err(format!(
                "a once port takes one value, so it cannot be sent to {} actors; call one of them, or send a port for many values",
                to.len()
            )));
        }
        let method = method_specifier(style, method)?;
        Ok(Self { method, exit: style == EXIT, payload: copy_payload(payload)?, opens: None, moved })
    }

    /// Where it arrives, an inbox of this name starts to queue messages before it can be read.
    pub(crate) fn that_opens(self, actor: String) -> Self {
        Self { opens: Some(actor), ..self }
    }

    fn message(&self, response_port: Option<EitherPortRef>) -> PythonMessage {
        let kind = PythonMessageKind::CallMethod { name: self.method.clone(), response_port };
        let mut message = PythonMessage::new(kind, self.payload.clone());
        message.opens.clone_from(&self.opens);
        message.ports.clone_from(&self.moved);
        message
    }

    /// A call whose answer goes to a once port. When it cannot be sent, that is the answer.
    pub(crate) fn send_expecting(&self, core: &Core, from: &ActorId, to: &ActorId, answer: Arc<Held>) {
        let port = PythonOncePortRef::from_held(Arc::clone(&answer));
        let port = if self.exit { port.for_exit() } else { port };
        if let Err(why) = post(core, from, to, &self.message(Some(EitherPortRef::Once(port)))) {
            answer.close(&why);
        }
    }

    /// A call of each of several actors, which is written down once; what cannot be sent is answered so.
    fn send_all_expecting(&self, core: &Core, from: &ActorId, to: &[ActorId], replies: &Replies) {
        let mut parts: Option<Vec<Bytes>> = None;
        let (mut packets, mut sent) = (Vec::with_capacity(to.len()), Vec::with_capacity(to.len()));
        for (index, to) in to.iter().enumerate() {
            let (answer, mut moves) = (replies.open(core, index), Moves::new());
            let port = PythonOncePortRef::from_held(Arc::clone(&answer));
            let port = if self.exit { port.for_exit() } else { port };
            let written = match &parts {
                None => self.message(Some(EitherPortRef::Once(port))).encode(&mut moves),
                // Who moves more than the answer calls only one.
                Some(parts) => {
                    moves.add(&answer).map(|()| parts.clone()).map_err(std::borrow::ToOwned::to_owned)
                }
            };
            match written {
                Ok(written) => {
                    parts.get_or_insert_with(|| written.clone());
                    let (to, from, tag) = (to.clone(), from.clone(), PYTHON_TAG.to_owned());
                    let head = Head::Deliver { to, from, tag, ports: moves.ports(), answered: true };
                    packets.push(Packet { head, parts: written });
                    sent.push((answer, moves));
                }
                Err(why) => {
                    moves.undo();
                    answer.close(&why);
                }
            }
        }
        for ((answer, moves), result) in sent.into_iter().zip(core.proc_.post_all(packets)) {
            if let Err((_, why)) = result {
                moves.undo();
                answer.close(&why);
            }
        }
    }

    /// Sends the same message, which no once port moves with, to each of several actors; gives what went wrong first.
    fn send_all(
        &self,
        core: &Core,
        from: &ActorId,
        to: &[ActorId],
        port: Option<EitherPortRef>,
    ) -> Result<(), String> {
        let parts = self.message(port).encode(&mut Moves::new())?;
        let packet = |to: &ActorId| {
            let (to, from, tag) = (to.clone(), from.clone(), PYTHON_TAG.to_owned());
            let head = Head::Deliver { to, from, tag, ports: Vec::new(), answered: false };
            Packet { head, parts: parts.clone() }
        };
        let results = core.proc_.post_all(to.iter().map(packet).collect());
        results.into_iter().try_for_each(|result| result.map_err(|(_, why)| why))
    }

    /// As a packet, for somebody else to send; `answer` moves with it.
    pub(crate) fn packed(&self, from: &ActorId, to: &ActorId, answer: Arc<Held>) -> Result<Packet, String> {
        let port = EitherPortRef::Once(PythonOncePortRef::from_held(answer));
        packet(from, to, &self.message(Some(port)), &mut Moves::new())
    }

    fn send_one_way(&self, core: &Core, from: &ActorId, to: &ActorId) {
        if let Err(why) = post(core, from, to, &self.message(None)) {
            tracing::debug!(%to, why, "a message that nobody waits for was not sent");
        }
    }
}

/// Sends one message to each actor at once, each with a once port of its own for the answer.
#[pyfunction]
#[pyo3(signature = (refs, method, style, payload, moved, sender, opens = None, timeout = None))]
#[expect(clippy::too_many_arguments, reason = "one crossing into Rust per call of an endpoint")]
pub(crate) fn call(
    py: Python<'_>,
    refs: Vec<PyRef<'_, ActorRef>>,
    method: &str,
    style: u8,
    payload: Vec<Bound<'_, PyAny>>,
    moved: Vec<PyRef<'_, PortRef>>,
    sender: Option<PyRef<'_, Inbox>>,
    opens: Option<String>,
    timeout: Option<f64>,
) -> PyResult<Replies> {
    let core = current()?;
    let timeout = timeout.map(|seconds| duration("timeout", seconds)).transpose()?;
    let call = Call { opens, ..Call::new(&refs, method, style, payload, &moved)? };
    let from = sender_id(core, sender.as_deref()).clone();
    let to: Vec<ActorId> = refs.iter().map(|actor| actor.0.clone()).collect();
    drop((refs, moved, sender));
    Ok(py.detach(|| {
        if matches!(style, ONE_WAY | EXPLICIT_ONE_WAY) {
            match to.as_slice() {
                [to] => call.send_one_way(core, &from, to),
                _ => {
                    if let Err(why) = call.send_all(core, &from, &to, None) {
                        tracing::debug!(why, "a message that nobody waits for was not sent to all");
                    }
                }
            }
            return Replies::new(ReplyState::expecting(0));
        }
        let replies = Replies::new(ReplyState::expecting(to.len()));
        match to.as_slice() {
            [to] => call.send_expecting(core, &from, to, replies.open(core, 0)),
            _ => call.send_all_expecting(core, &from, &to, &replies),
        }
        if let Some(timeout) = timeout {
            replies.end_in(core, timeout);
        }
        replies
    }))
}

/// Sends one message to each actor, whose answers go to `port`, which a once port is moved by.
#[pyfunction]
pub(crate) fn send_to_port(
    refs: Vec<PyRef<'_, ActorRef>>,
    method: &str,
    style: u8,
    payload: Vec<Bound<'_, PyAny>>,
    moved: Vec<PyRef<'_, PortRef>>,
    sender: Option<PyRef<'_, Inbox>>,
    port: PyRef<'_, PortRef>,
) -> PyResult<()> {
    refuse_in_fork()?;
    let core = current()?;
    let call = Call::new(&refs, method, style, payload, &moved)?;
    movable(std::slice::from_ref(&port))?;
    let from = sender_id(core, sender.as_deref());
    let port = port.target().clone();
    let sent = if refs.len() == 1 || port.held().is_some() {
        let message = call.message(Some(port));
        refs.iter().try_for_each(|to| post(core, from, &to.0, &message))
    } else {
        let to: Vec<ActorId> = refs.iter().map(|actor| actor.0.clone()).collect();
        call.send_all(core, from, &to, Some(port))
    };
    sent.map_err(PyConnectionError::new_err)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use procession_actor::Proc;
    use procession_model::{HostId, ProcId};

    use super::*;
    use crate::answer::{CLOSED, RESULT};
    use crate::core::Side;
    use crate::inbox::Incoming;
    use crate::message::PythonMessageKind;

    fn proc_id() -> ProcId {
        ProcId::fresh("p", &HostId::fresh("m")).unwrap()
    }

    fn core(runtime: &tokio::runtime::Runtime) -> Core {
        let proc_ = Proc::new(proc_id(), runtime.handle().clone());
        Core::new(Side::Embedded(proc_), runtime.handle().clone(), None)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn call_of(name: &str, moved: Vec<Arc<Held>>) -> Call {
        let method = method_specifier(RETURNS, name).unwrap();
        Call { method, exit: false, payload: vec![1u8].into(), opens: None, moved }
    }

    #[test]
    fn a_call_that_cannot_be_sent_is_answered_with_the_reason() {
        let runtime = runtime();
        let core = core(&runtime);
        let here = ActorId::new(core.proc_.id().clone(), "nobody");
        let elsewhere = ActorId::new(proc_id(), "nobody");
        let replies = Replies::new(ReplyState::expecting(2));
        for (index, to) in [here, elsewhere].iter().enumerate() {
            call_of("add", Vec::new()).send_expecting(&core, &core.client, to, replies.open(&core, index));
        }
        for (index, needle) in ["no actor \"nobody\" lives in proc", "cannot be reached"].iter().enumerate() {
            let received = replies.received(index).expect("it failed at once");
            assert_eq!(received.outcome, CLOSED);
            assert!(received.text.contains(needle), "{}", received.text);
        }
        assert_eq!(core.proc_.open_ports(), 0);
    }

    #[test]
    fn a_once_port_stays_where_it_is_when_its_message_cannot_be_sent() {
        let runtime = runtime();
        let core = core(&runtime);
        let moved = core.mailbox.open_once_sink(drop);
        let call = call_of("add", vec![Arc::clone(&moved)]);
        let to = ActorId::new(proc_id(), "nobody");
        assert!(post(&core, &core.client, &to, &call.message(None)).is_err());
        assert!(moved.is_live());
    }

    #[test]
    fn an_actor_gets_the_call_and_its_answer_comes_back() {
        let runtime = runtime();
        let core = core(&runtime);
        let inbox = core.register_actor("adder").unwrap();
        let replies = Replies::new(ReplyState::expecting(1));
        let call = call_of("add", Vec::new());
        call.send_expecting(&core, &core.client, inbox.actor_id(), replies.open(&core, 0));
        let Incoming { sender, message } =
            inbox.next(Some(Duration::from_secs(30))).expect("the call arrives");
        assert_eq!(sender, core.client);
        let PythonMessageKind::CallMethod { name, response_port: Some(EitherPortRef::Once(port)) } =
            &message.kind
        else {
            panic!("{message:?}")
        };
        assert_eq!(name.name(), "add");
        assert!(replies.received(0).is_none());
        let answer = PythonMessage::new(PythonMessageKind::Result { rank: Some(2) }, vec![7u8]);
        port.send(&core.proc_, answer).unwrap();
        let received = replies.received(0).expect("the answer came");
        assert_eq!(
            (received.outcome, received.rank, &received.payload[0][..]),
            (RESULT, Some(2), &[7u8][..])
        );
    }

    #[test]
    fn what_an_actor_never_answers_errs_when_it_ends() {
        let runtime = runtime();
        let core = core(&runtime);
        let inbox = core.register_actor("silent").unwrap();
        let replies = Replies::new(ReplyState::expecting(2));
        for index in 0..2 {
            let call = call_of("add", Vec::new());
            call.send_expecting(&core, &core.client, inbox.actor_id(), replies.open(&core, index));
        }
        let first = inbox.next(Some(Duration::from_secs(30))).expect("the first call arrives");
        let second = inbox.next(Some(Duration::from_secs(30))).expect("the second call arrives");
        inbox.end(Some("it broke"));
        for index in 0..2 {
            let received = replies.received(index).expect("the end of the actor is the answer");
            assert_eq!(received.outcome, CLOSED);
            assert!(received.text.contains("it broke"), "{}", received.text);
        }
        drop((first, second));
    }
}
