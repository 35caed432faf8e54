use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use procession_actor::{Claims, Held, MailboxSenderError, Message, Moves, OncePortRef, PortRef, Proc};
use procession_model::{PortId, ProcExitResult};
use serde::{Deserialize, Serialize};

use crate::opened;

/// The type of every [`PythonMessage`] on the wire.
pub const PYTHON_TAG: &str = "python";

/// Opaque bytes: a pickle, and the buffers that it refers to out of band.
///
/// Cheap to clone; nobody on the way looks inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload(Vec<Bytes>);

impl Payload {
    /// A pickle and its out-of-band buffers.
    pub fn from_fragments(fragments: Vec<Bytes>) -> Self {
        Self(fragments)
    }

    /// All of it as one piece; free for a payload of one fragment.
    pub fn to_bytes(&self) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(self.len());
                many.iter().for_each(|fragment| joined.extend_from_slice(fragment));
                joined.freeze()
            }
        }
    }

    /// The pickle first, then each out-of-band buffer.
    pub fn fragments(&self) -> &[Bytes] {
        &self.0
    }

    /// Bytes in all fragments.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(vec![bytes.into()])
    }
}

/// Which endpoint is called, and who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MethodSpecifier {
    /// The runtime sends what the endpoint returns or raises.
    ReturnsResponse {
        /// The endpoint.
        name: String,
    },
    /// The endpoint gets the response port as its first argument and answers on it.
    ExplicitPort {
        /// The endpoint.
        name: String,
    },
    /// The actor's constructor.
    Init {},
}

impl MethodSpecifier {
    /// The method's name in Python.
    pub fn name(&self) -> &str {
        match self {
            Self::ReturnsResponse { name } | Self::ExplicitPort { name } => name,
            Self::Init {} => "__init__",
        }
    }
}

/// The right to send one Python message to a port, once, from any process.
#[derive(Clone, Debug)]
pub struct PythonOncePortRef {
    held: Arc<Held>,
    exit: bool,
}

impl PythonOncePortRef {
    /// The port that `held` is the right to answer.
    pub fn from_held(held: Arc<Held>) -> Self {
        Self { held, exit: false }
    }

    /// The same port, marked as one whose answer is a proc's exit, decoded strictly where it is sent.
    pub fn for_exit(self) -> Self {
        Self { exit: true, ..self }
    }

    /// Whether its answer is a proc's exit.
    pub fn answers_exit(&self) -> bool {
        self.exit
    }

    /// The right itself.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// The port.
    pub fn port(&self) -> &PortId {
        self.held.port()
    }

    /// Answers, from the process `proc_` that holds it. When that fails the receiver errs.
    ///
    /// # Errors
    /// It was used before, a port inside was, or the owner cannot be reached; the message is handed back.
    #[expect(clippy::result_large_err, reason = "the error is the message itself, handed back")]
    pub fn send(
        &self,
        proc_: &Proc,
        message: PythonMessage,
    ) -> Result<(), MailboxSenderError<PythonMessage>> {
        self.held.answer(proc_, message)
    }
}

impl From<OncePortRef<PythonMessage>> for PythonOncePortRef {
    fn from(port: OncePortRef<PythonMessage>) -> Self {
        Self::from_held(port.into_held())
    }
}

/// The address of a port that any number of Python messages can be sent to, from any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonPortRef(PortId);

impl PythonPortRef {
    /// The port called `port`, which its owner opened for Python messages.
    pub fn attach(port: PortId) -> Self {
        Self(port)
    }

    /// The port.
    pub fn port(&self) -> &PortId {
        &self.0
    }

    /// Sends, from the process `proc_`.
    ///
    /// # Errors
    /// A once port inside was used before, or the owner cannot be reached; the message is handed back.
    #[expect(clippy::result_large_err, reason = "the error is the message itself, handed back")]
    pub fn send(
        &self,
        proc_: &Proc,
        message: PythonMessage,
    ) -> Result<(), MailboxSenderError<PythonMessage>> {
        PortRef::attach(self.0.clone()).send(&proc_.instance(), message)
    }
}

impl From<PortRef<PythonMessage>> for PythonPortRef {
    fn from(port: PortRef<PythonMessage>) -> Self {
        Self(port.port().clone())
    }
}

/// Where the answer to a call goes.
#[derive(Clone, Debug)]
pub enum EitherPortRef {
    /// A port for exactly this answer.
    Once(PythonOncePortRef),
    /// A port for many answers.
    Unbounded(PythonPortRef),
}

impl PartialEq for EitherPortRef {
    /// Whether both are the same port.
    fn eq(&self, other: &Self) -> bool {
        self.port() == other.port()
    }
}

impl EitherPortRef {
    /// The port.
    pub fn port(&self) -> &PortId {
        match self {
            Self::Once(port) => port.port(),
            Self::Unbounded(port) => port.port(),
        }
    }

    /// The right to answer, where there is exactly one.
    pub fn held(&self) -> Option<&Arc<Held>> {
        match self {
            Self::Once(port) => Some(port.held()),
            Self::Unbounded(_) => None,
        }
    }

    /// Whether its answer is a proc's exit.
    pub fn answers_exit(&self) -> bool {
        matches!(self, Self::Once(port) if port.answers_exit())
    }
}

/// What a Python message is.
#[derive(Clone, Debug)]
pub enum PythonMessageKind {
    /// A call of an endpoint; the payload is the pickled `(args, kwargs)`.
    CallMethod {
        /// The endpoint.
        name: MethodSpecifier,
        /// Where the answer goes; none when nobody waits for one.
        response_port: Option<EitherPortRef>,
    },
    /// A pickled value.
    Result {
        /// The answerer's place in its mesh.
        rank: Option<usize>,
    },
    /// A pickled exception.
    Exception {
        /// The answerer's place in its mesh.
        rank: Option<usize>,
    },
    /// A proc's exit as plain data: no interpreter is needed to read it.
    Exit(Box<ProcExitResult>),
}

/// What travels between actors that are written in Python.
pub struct PythonMessage {
    /// What it is.
    pub kind: PythonMessageKind,
    /// The pickled part.
    pub message: Payload,
    /// With an exception: its text, for those who do not unpickle.
    pub text: Option<String>,
    /// With a call: answered (by an empty result) when the endpoint starts to run.
    pub ack_port: Option<PythonOncePortRef>,
    /// With a call: the name under which an inbox opens where the message arrives, before anything that is sent after it.
    pub opens: Option<String>,
    /// The once ports that the pickle names; those left here when the message is dropped close.
    pub ports: Vec<Arc<Held>>,
}

impl PythonMessage {
    /// A message that carries no port beside those of `kind`.
    pub fn new(kind: PythonMessageKind, message: impl Into<Payload>) -> Self {
        Self { kind, message: message.into(), text: None, ack_port: None, opens: None, ports: Vec::new() }
    }

    /// The exit of a proc, as plain data.
    pub fn exit(result: ProcExitResult) -> Self {
        Self::new(PythonMessageKind::Exit(Box::new(result)), Payload::default())
    }

    /// Takes the port called `port` out of those that the pickle names.
    pub fn take_port(&mut self, port: &PortId) -> Option<Arc<Held>> {
        let index = self.ports.iter().position(|held| held.port() == port)?;
        Some(self.ports.swap_remove(index))
    }

    /// With a call whose answer has a port for itself: the right to give it.
    pub fn answer(&self) -> Option<&Arc<Held>> {
        match &self.kind {
            PythonMessageKind::CallMethod { response_port, .. } => {
                response_port.as_ref().and_then(EitherPortRef::held)
            }
            _ => None,
        }
    }

    /// Whether it is a call whose answer nobody waits for any more.
    pub fn is_cancelled(&self) -> bool {
        self.answer().is_some_and(|answer| answer.is_cancelled())
    }

    /// Every once port that the message carries, that for the answer first.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.answer()
            .into_iter()
            .chain(self.ack_port.as_ref().map(PythonOncePortRef::held))
            .chain(&self.ports)
    }

    /// Gives every once port up that the message carries, telling their owners `reason`.
    pub fn close(self, reason: &str) {
        self.held().for_each(|held| held.close(reason));
    }
}

impl fmt::Debug for PythonMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonMessage")
            .field("kind", &self.kind)
            .field("bytes", &self.message.len())
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
enum WireKind {
    Call { method: MethodSpecifier, port: Option<WirePort>, ack: Option<PortId>, opens: Option<String> },
    Result { rank: Option<usize> },
    Exception { rank: Option<usize>, text: Option<String> },
    Exit(Box<ProcExitResult>),
}

#[derive(Serialize, Deserialize)]
enum WirePort {
    /// The first that comes with the message: so that a message says the same to all who get it.
    Once {
        exit: bool,
    },
    Unbounded {
        id: PortId,
    },
}

/// The first part of a call of `method`, which may be `answered` through the first of its ports.
pub(crate) fn first_of_call(method: MethodSpecifier, answered: bool) -> Result<Bytes, String> {
    let port = answered.then_some(WirePort::Once { exit: false });
    let kind = WireKind::Call { method, port, ack: None, opens: None };
    rmp_serde::to_vec(&kind).map(Bytes::from).map_err(|error| error.to_string())
}

/// Whether these are the parts of a call whose sender hears through a port what becomes of it.
pub(crate) fn is_answered(parts: &[Bytes]) -> bool {
    let head = parts.first().map(|head| rmp_serde::from_slice(head));
    matches!(head, Some(Ok(WireKind::Call { port: Some(_), .. })))
}

impl Message for PythonMessage {
    const TAG: Option<&'static str> = Some(PYTHON_TAG);

    fn encode(&self, moves: &mut Moves) -> Result<Vec<Bytes>, String> {
        for held in self.held() {
            moves.add(held)?;
        }
        let kind = match &self.kind {
            PythonMessageKind::CallMethod { name, response_port } => WireKind::Call {
                method: name.clone(),
                port: response_port.as_ref().map(|port| match port {
                    EitherPortRef::Once(port) => WirePort::Once { exit: port.answers_exit() },
                    EitherPortRef::Unbounded(port) => WirePort::Unbounded { id: port.port().clone() },
                }),
                ack: self.ack_port.as_ref().map(|port| port.port().clone()),
                opens: self.opens.clone(),
            },
            PythonMessageKind::Result { rank } => WireKind::Result { rank: *rank },
            PythonMessageKind::Exception { rank } => {
                WireKind::Exception { rank: *rank, text: self.text.clone() }
            }
            PythonMessageKind::Exit(result) => WireKind::Exit(result.clone()),
        };
        let head = rmp_serde::to_vec(&kind).map_err(|error| error.to_string())?;
        let mut parts = Vec::with_capacity(1 + self.message.0.len());
        parts.push(head.into());
        parts.extend_from_slice(&self.message.0);
        Ok(parts)
    }

    fn decode(mut parts: Vec<Bytes>, claims: &mut Claims) -> Result<Self, String> {
        if parts.is_empty() {
            return Err("it has no head".to_owned());
        }
        let payload = parts.split_off(1);
        let head: WireKind = rmp_serde::from_slice(&parts[0]).map_err(|error| error.to_string())?;
        let (mut text, mut ack_port, mut opens) = (None, None, None);
        let kind = match head {
            WireKind::Call { method, port, ack, opens: name } => {
                opens = name;
                let response_port = match port {
                    Some(WirePort::Once { exit }) => {
                        let held = claims.take_first();
                        let held =
                            held.ok_or("the once port for its answer did not come with this message")?;
                        let port = PythonOncePortRef::from_held(held);
                        Some(EitherPortRef::Once(if exit { port.for_exit() } else { port }))
                    }
                    Some(WirePort::Unbounded { id }) => {
                        Some(EitherPortRef::Unbounded(PythonPortRef::attach(id)))
                    }
                    None => None,
                };
                ack_port = match ack {
                    Some(id) => {
                        let held = claims.take(&id);
                        let held =
                            held.ok_or_else(|| format!("once port {id} did not come with this message"))?;
                        Some(PythonOncePortRef::from_held(held))
                    }
                    None => None,
                };
                PythonMessageKind::CallMethod { name: method, response_port }
            }
            WireKind::Result { rank } => PythonMessageKind::Result { rank },
            WireKind::Exception { rank, text: said } => {
                text = said;
                PythonMessageKind::Exception { rank }
            }
            WireKind::Exit(result) => PythonMessageKind::Exit(result),
        };
        if let Some(name) = &opens {
            opened::open(name);
        }
        Ok(Self { kind, message: Payload(payload), text, ack_port, opens, ports: claims.take_all() })
    }
}
