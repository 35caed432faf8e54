use std::sync::Arc;

use bytes::Bytes;
use procession_actor::{ActorHandle, Handler, Held, Instance, MailboxError};
use procession_model::PortId;

use crate::message::{
    EitherPortRef, MethodSpecifier, PythonMessage, PythonMessageKind, PythonOncePortRef, PythonPortRef,
};
use crate::pickle::Pickle;
use crate::python_actor::PythonActor;
use crate::unpickle;

/// Where Python has the function that makes a port of its id.
pub(crate) const PORT_MODULE: &str = "procession._port";
pub(crate) const PORT_CLAIM: &str = "_claim";

/// Plain data, which Rust and Python both have.
///
/// It travels as an ordinary pickle, so Python sends and receives the value itself and needs nothing for it. Rust reads
/// and writes these pickles without an interpreter; one that has anything else in it is refused, by name.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `bool`
    Bool(bool),
    /// `int`, of 64 bits
    Int(i64),
    /// `float`
    Float(f64),
    /// `str`
    Str(String),
    /// `bytes`; `bytearray` and a `pickle.PickleBuffer` are received as this too
    Bytes(Bytes),
    /// `list`
    List(Vec<Value>),
    /// `tuple`
    Tuple(Vec<Value>),
    /// `dict`, in its order
    Dict(Vec<(Value, Value)>),
    /// `procession.actor.Port`; a once port moves with the value
    Port(EitherPortRef),
}

impl Value {
    /// As a pickle; once ports in it go into `moved`.
    fn pickle(self, moved: &mut Vec<Arc<Held>>) -> Pickle {
        let mut all =
            |items: Vec<Value>| items.into_iter().map(|item| item.pickle(moved)).collect::<Vec<_>>();
        match self {
            Self::None => Pickle::None,
            Self::Bool(value) => Pickle::Bool(value),
            Self::Int(value) => Pickle::Int(value),
            Self::Float(value) => Pickle::Float(value),
            Self::Str(text) => Pickle::Str(text),
            Self::Bytes(bytes) => Pickle::Bytes(bytes.into()),
            Self::List(items) => Pickle::List(all(items)),
            Self::Tuple(items) => Pickle::Tuple(all(items)),
            Self::Dict(items) => Pickle::Dict(
                items.into_iter().map(|(key, value)| (key.pickle(moved), value.pickle(moved))).collect(),
            ),
            Self::Port(port) => {
                moved.extend(port.held().cloned());
                let once = Pickle::Bool(port.held().is_some());
                let args = vec![Pickle::Str(port.port().to_string()), once, Pickle::None];
                Pickle::Call { module: PORT_MODULE, name: PORT_CLAIM, args }
            }
        }
    }
}

macro_rules! value_from {
    ($($type:ty => $make:expr),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                ($make)(value)
            }
        })*
    };
}

value_from! {
    () => |()| Self::None,
    bool => Self::Bool,
    i32 => |value: i32| Self::Int(value.into()),
    u32 => |value: u32| Self::Int(value.into()),
    i64 => Self::Int,
    f64 => Self::Float,
    &str => |text: &str| Self::Str(text.to_owned()),
    String => Self::Str,
    Bytes => Self::Bytes,
    EitherPortRef => Self::Port,
    PythonPortRef => |port| Self::Port(EitherPortRef::Unbounded(port)),
    PythonOncePortRef => |port| Self::Port(EitherPortRef::Once(port)),
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Python sent or raised an exception; its text, which may be empty.
    #[error("Python raised an exception: {0:?}")]
    Raised(String),
    /// Nobody can answer any more, or the call could not be sent.
    #[error("nobody can answer: {0}")]
    Closed(String),
    /// It is something else than plain data.
    #[error("what Python sent is not plain data: {0}")]
    NotPlain(String),
}

impl PythonMessage {
    /// A value for whoever receives from a port, or waits for an answer.
    pub fn result(value: impl Into<Value>) -> Self {
        Self::carrying(PythonMessageKind::Result { rank: None }, value.into())
    }

    /// A call of `endpoint` with positional arguments; the answer goes to `response_port`.
    pub fn call(endpoint: &str, args: Vec<Value>, response_port: Option<EitherPortRef>) -> Self {
        let name = MethodSpecifier::ReturnsResponse { name: endpoint.to_owned() };
        let arguments = Value::Tuple(vec![Value::Tuple(args), Value::Dict(Vec::new())]);
        Self::carrying(PythonMessageKind::CallMethod { name, response_port }, arguments)
    }

    fn carrying(kind: PythonMessageKind, value: Value) -> Self {
        let mut ports = Vec::new();
        let pickle = value.pickle(&mut ports).to_vec();
        Self { ports, ..Self::new(kind, pickle) }
    }

    /// The value that was sent, read without an interpreter.
    ///
    /// # Errors
    /// It is an exception, or has something in it that is no plain data; once ports in it are closed.
    pub fn into_value(mut self) -> Result<Value, ValueError> {
        match &self.kind {
            PythonMessageKind::Result { .. } => {}
            PythonMessageKind::Exception { .. } => {
                return Err(ValueError::Raised(self.text.unwrap_or_default()));
            }
            PythonMessageKind::CallMethod { name, .. } => {
                return Err(ValueError::NotPlain(format!("it is a call of {}", name.name())));
            }
            PythonMessageKind::Exit(_) => {
                return Err(ValueError::NotPlain("it is the exit of a proc".to_owned()));
            }
        }
        let payload = std::mem::take(&mut self.message);
        unpickle::read(&payload, |port: PortId, once| {
            if !once {
                return Ok(EitherPortRef::Unbounded(PythonPortRef::attach(port)));
            }
            let held = self.take_port(&port).ok_or_else(|| {
                format!("AlreadyMoved: once port {port} did not come with this message, or is twice in it")
            })?;
            Ok(EitherPortRef::Once(PythonOncePortRef::from_held(held)))
        })
        .map_err(ValueError::NotPlain)
    }
}

impl PythonActor {
    /// Calls `endpoint` of an actor written in Python, in this process or in another, and waits for what it returns.
    ///
    /// # Errors
    /// It raised, has ended, cannot be reached, or returned something that is no plain data.
    pub async fn call(
        actor: &ActorHandle<Self>,
        cx: &Instance<impl Sized>,
        endpoint: &str,
        args: Vec<Value>,
    ) -> Result<Value, ValueError> {
        let (port, answer) = cx.mailbox().open_once_port::<PythonMessage>();
        let port = EitherPortRef::Once(port.bind().into());
        actor
            .send(cx, PythonMessage::call(endpoint, args, Some(port)))
            .map_err(|error| ValueError::Closed(error.to_string()))?;
        match answer.recv().await {
            Ok(message) => message.into_value(),
            Err(MailboxError::Closed(why)) => Err(ValueError::Closed(why)),
            Err(MailboxError::Decode(why)) => Err(ValueError::NotPlain(why)),
        }
    }
}

impl PythonPortRef {
    /// A port whose values an actor written in Rust handles, in their order among its other messages. It is open until
    /// the actor ends. Called where the actors run.
    pub fn to_actor<A: Handler<PythonMessage>>(actor: &ActorHandle<A>, cx: &Instance<impl Sized>) -> Self {
        let (port, mut values) = cx.mailbox().open_port::<PythonMessage>();
        let address = port.bind().into();
        let (actor, from) = (actor.clone(), cx.proc_().instance());
        tokio::spawn(async move {
            let _open = port;
            loop {
                tokio::select! {
                    value = values.recv() => match value {
                        Ok(message) => if actor.send(&from, message).is_err() { return },
                        Err(MailboxError::Closed(_)) => return,
                        Err(error) => tracing::warn!(actor = %actor.id(), %error, "a value of a port was lost"),
                    },
                    _ = actor.ended() => return,
                }
            }
        });
        address
    }
}
