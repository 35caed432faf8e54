//! Actors in Rust and in Python, in one process and in two, that send each other plain data.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::ffi::CString;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use common::{Session, eval, pickled};
use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, OncePortRef, PortReceiver, Proc,
    wire_message,
};
use procession_native::{
    EitherPortRef, Payload, PythonActor, PythonMessage, PythonMessageKind, PythonPortRef, Value, ValueError,
    embed,
};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

const PEER: &str = r#"
from procession.actor import Actor, Channel, Port, context, endpoint

class Peer(Actor):
    def __init__(self):
        self.kept = []

    @endpoint
    def send(self, values: list, to: Port) -> None:
        for value in values:
            to.send(value)

    @endpoint
    def same(self, value):
        return value

    @endpoint
    def kinds(self, value: dict) -> list:
        return [f"{key}: {type(key).__name__}, {type(part).__name__}" for key, part in value.items()]

    @endpoint
    def what(self, expression: str):
        return eval(expression)

    @endpoint
    def send_what(self, expression: str, to: Port) -> None:
        to.send(eval(expression))

    @endpoint
    def fail(self, text: str):
        raise ValueError(text)

    @endpoint
    def refuse(self, to: Port) -> None:
        to.exception(LookupError("no such reading"))

    @endpoint(explicit_response_port=True)
    def explicit(self, port: Port, value) -> None:
        port.send(["by the port", value])

    @endpoint
    def ask(self, question, to: Port):
        "Asks whoever receives from `to`, and gives the answer."
        answer, receiver = Channel.open(once=True)
        to.send((question, answer))
        return receiver.recv().get(20)

    @endpoint
    def listen(self, to: Port, count: int) -> list:
        "Gives its own port away, and what comes there."
        port, receiver = Channel.open()
        to.send(port)
        return [receiver.recv().get(20) for _ in range(count)]

    @endpoint
    def keep(self, port: Port) -> None:
        self.kept.append(port)

    @endpoint
    def forget(self) -> None:
        self.kept.clear()
"#;

struct Stage {
    runtime: Runtime,
    here: Proc,
    elsewhere: Proc,
}

/// The node that the interpreter is in, and that of another process.
fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let session = Session::default();
        let (here, elsewhere) = (session.join("here"), session.join("elsewhere"));
        drop(entered);
        Python::attach(|py| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
            py.import("sys").unwrap().getattr("path").unwrap().call_method1("insert", (0, path)).unwrap();
            embed(py, &here, runtime.handle().clone()).unwrap();
        });
        Stage { runtime, here, elsewhere }
    })
}

fn peer(name: &str) -> ActorHandle<PythonActor> {
    stage();
    Python::attach(|py| {
        let code = CString::new(PEER).unwrap();
        let module = PyModule::from_code(py, &code, c"peer.py", c"peer").unwrap();
        let object = module.getattr("Peer").unwrap().call0().unwrap();
        PythonActor::spawn_object(py, name, &object).unwrap()
    })
}

async fn end(peer: ActorHandle<PythonActor>) {
    peer.stop("the test is over");
    assert_eq!(peer.ended().await, None);
}

/// Runs `act` with a Python actor twice: from its own process, and from another.
fn from_both<F: Future<Output = ()>>(name: &str, act: impl Fn(ActorHandle<PythonActor>, Instance<()>) -> F) {
    let stage = stage();
    stage.runtime.block_on(async {
        let handle = peer(name);
        act(handle.clone(), stage.here.instance()).await;
        let remote = ActorHandle::attach(&stage.elsewhere, handle.id().clone());
        act(remote, stage.elsewhere.instance()).await;
        end(handle).await;
    });
}

fn open_port(cx: &Instance<()>) -> (Value, PortReceiver<PythonMessage>) {
    let (port, receiver) = cx.mailbox().open_port::<PythonMessage>();
    (PythonPortRef::from(port.bind()).into(), receiver)
}

async fn next(receiver: &mut PortReceiver<PythonMessage>) -> Result<Value, ValueError> {
    tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.unwrap().unwrap().into_value()
}

fn everything() -> Value {
    let text = |text: &str| Value::from(text);
    Value::Dict(vec![
        (text("none"), Value::None),
        (Value::Bool(true), Value::Bool(false)),
        (Value::Int(-1), Value::from(vec![0, 255, 256, 65_536, i64::MAX, i64::MIN, -129])),
        (Value::Float(0.5), Value::from(vec![f64::INFINITY, -0.0, 1e300])),
        (Value::Bytes(Bytes::from_static(b"\xff\0")), Value::Bytes(vec![7; 70_000].into())),
        (
            Value::Tuple(vec![Value::Int(1)]),
            Value::Tuple(vec![text("ä☃"), Value::None, Value::Tuple(vec![])]),
        ),
        (text(&"long".repeat(100)), Value::List(vec![Value::List(vec![]), Value::Dict(vec![])])),
    ])
}

#[test]
fn a_python_actor_gets_each_kind_of_value_as_itself_and_gives_it_back() {
    from_both("kinds", |peer, cx| async move {
        let kinds = PythonActor::call(&peer, &cx, "kinds", vec![everything()]).await.unwrap();
        let Value::List(kinds) = kinds else { panic!("{kinds:?}") };
        let kinds: Vec<String> = kinds
            .iter()
            .map(|kind| match kind {
                Value::Str(kind) => kind.rsplit(": ").next().unwrap().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "str, NoneType",
                "bool, bool",
                "int, list",
                "float, list",
                "bytes, bytes",
                "tuple, tuple",
                "str, list"
            ]
        );
        let same = PythonActor::call(&peer, &cx, "same", vec![everything()]).await.unwrap();
        assert_eq!(same, everything());
    });
}

#[test]
fn what_a_python_actor_sends_to_a_port_of_rust_arrives_in_order() {
    from_both("sends", |peer, cx| async move {
        let (port, mut receiver) = open_port(&cx);
        let values = vec![Value::from(1), Value::from("two"), everything()];
        PythonActor::call(&peer, &cx, "send", vec![Value::List(values.clone()), port]).await.unwrap();
        for value in values {
            assert_eq!(next(&mut receiver).await.unwrap(), value);
        }
    });
}

#[test]
fn a_once_port_of_python_is_answered_by_rust() {
    from_both("asks", |peer, cx| async move {
        let (port, mut receiver) = open_port(&cx);
        let question = Value::from("how many");
        let asked = PythonActor::call(&peer, &cx, "ask", vec![question.clone(), port]);
        let answer = async {
            let Value::Tuple(parts) = next(&mut receiver).await.unwrap() else { panic!() };
            let [got, Value::Port(EitherPortRef::Once(port))] = parts.as_slice() else { panic!("{parts:?}") };
            assert_eq!(*got, question);
            port.send(cx.proc_(), PythonMessage::result(vec![1, 2])).unwrap();
            assert!(port.send(cx.proc_(), PythonMessage::result(3)).is_err(), "it takes one value");
        };
        let (asked, ()) = tokio::join!(asked, answer);
        assert_eq!(asked.unwrap(), Value::from(vec![1, 2]));
    });
}

#[test]
fn a_receiver_in_python_gets_what_rust_sends_to_its_port() {
    from_both("listens", |peer, cx| async move {
        let (port, mut receiver) = open_port(&cx);
        let heard = PythonActor::call(&peer, &cx, "listen", vec![port, Value::from(2)]);
        let speak = async {
            let Value::Port(EitherPortRef::Unbounded(port)) = next(&mut receiver).await.unwrap() else {
                panic!()
            };
            for word in ["a", "b"] {
                port.send(cx.proc_(), PythonMessage::result(word)).unwrap();
            }
        };
        let (heard, ()) = tokio::join!(heard, speak);
        assert_eq!(heard.unwrap(), Value::from(vec!["a", "b"]));
    });
}

#[test]
fn what_a_python_actor_raises_and_what_it_lets_go_of_are_errors_in_rust() {
    from_both("raises", |peer, cx| async move {
        let raised = PythonActor::call(&peer, &cx, "fail", vec!["bad reading".into()]).await;
        assert_eq!(raised, Err(ValueError::Raised("bad reading".to_owned())));
        let (port, mut receiver) = open_port(&cx);
        PythonActor::call(&peer, &cx, "refuse", vec![port]).await.unwrap();
        assert!(
            matches!(next(&mut receiver).await, Err(ValueError::Raised(why)) if why == "no such reading")
        );
        let explicit = PythonActor::call(&peer, &cx, "explicit", vec![Value::from(1)]).await.unwrap();
        assert_eq!(explicit, Value::List(vec!["by the port".into(), Value::from(1)]));

        let (kept, answer) = cx.mailbox().open_once_port::<PythonMessage>();
        let kept = Value::Port(EitherPortRef::Once(kept.bind().into()));
        PythonActor::call(&peer, &cx, "keep", vec![kept]).await.unwrap();
        PythonActor::call(&peer, &cx, "forget", Vec::new()).await.unwrap();
        let dropped = answer.recv().await.unwrap_err().to_string();
        assert!(dropped.contains("dropped without an answer"), "{dropped}");

        let nobody = ActorHandle::attach(
            cx.proc_(),
            procession_model::ActorId::new(peer.id().proc_id.clone(), "nobody"),
        );
        let gone = PythonActor::call(&nobody, &cx, "same", vec![Value::None]).await.unwrap_err();
        assert!(matches!(&gone, ValueError::Closed(why) if why.contains("nobody")), "{gone}");
    });
}

#[test]
fn what_is_no_plain_data_is_refused_by_name_and_the_actor_lives() {
    from_both("refused", |peer, cx| async move {
        for (expression, needle) in [
            ("{1, 2}", "a set is in it"),
            ("frozenset([1])", "a frozenset is in it"),
            ("1j", "builtins.complex is in it"),
            ("[(len,)]", "builtins.len is in it"),
            ("1 << 70", "an int of 9 bytes is in it"),
            ("'\\udc80'", "not valid Unicode"),
            ("(l := [], l.append(l), l)[2]", "refers to itself"),
            ("__import__('decimal').Decimal(1)", "decimal.Decimal is in it"),
        ] {
            let refused = PythonActor::call(&peer, &cx, "what", vec![expression.into()]).await.unwrap_err();
            assert!(
                matches!(&refused, ValueError::NotPlain(why) if why.contains(needle)),
                "{expression}: {refused}"
            );
        }
        let shared = "(lambda part: [part, part])(['x'] * 3)";
        let shared = PythonActor::call(&peer, &cx, "what", vec![shared.into()]).await.unwrap();
        assert_eq!(shared, Value::from(vec![vec!["x"; 3], vec!["x"; 3]]));
        let buffer = "__import__('pickle').PickleBuffer(bytes(20_000))";
        let buffer = PythonActor::call(&peer, &cx, "what", vec![buffer.into()]).await.unwrap();
        assert_eq!(buffer, Value::Bytes(vec![0; 20_000].into()));
        let array = PythonActor::call(&peer, &cx, "what", vec!["bytearray(b'ab')".into()]).await.unwrap();
        assert_eq!(array, Value::Bytes(Bytes::from_static(b"ab")));
    });
}

#[derive(Serialize, Deserialize)]
struct Sum {
    count: i64,
    reply: OncePortRef<u64>,
}
wire_message!(Sum, "test.sum");

/// Has a Python actor send it numbers, and adds them up.
struct Adder {
    peer: ActorHandle<PythonActor>,
    myself: Option<ActorHandle<Adder>>,
    left: i64,
    sum: u64,
    reply: Option<OncePortRef<u64>>,
}

impl Actor for Adder {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Sum>();
    }
}

struct Myself(ActorHandle<Adder>);
impl procession_actor::Message for Myself {}

impl Handler<Myself> for Adder {
    async fn handle(&mut self, _: &Instance<Self>, Myself(handle): Myself) -> Result<(), ActorFailure> {
        self.myself = Some(handle);
        Ok(())
    }
}

impl Handler<Sum> for Adder {
    async fn handle(&mut self, cx: &Instance<Self>, Sum { count, reply }: Sum) -> Result<(), ActorFailure> {
        let port = PythonPortRef::to_actor(self.myself.as_ref().unwrap(), cx);
        (self.left, self.reply) = (count, Some(reply));
        let numbers: Vec<i64> = (0..count).collect();
        PythonActor::call(&self.peer, cx, "send", vec![numbers.into(), port.into()]).await?;
        Ok(())
    }
}

impl Handler<PythonMessage> for Adder {
    async fn handle(&mut self, cx: &Instance<Self>, message: PythonMessage) -> Result<(), ActorFailure> {
        let Value::Int(number) = message.into_value()? else { return Err("no number".into()) };
        self.sum += u64::try_from(number)?;
        self.left -= 1;
        if self.left == 0
            && let Some(reply) = self.reply.take()
        {
            reply.send(cx, self.sum)?;
        }
        Ok(())
    }
}

#[test]
fn an_actor_in_rust_handles_what_an_actor_in_python_sends_to_its_port() {
    let stage = stage();
    stage.runtime.block_on(async {
        let handle = peer("counts");
        let adder = Adder { peer: handle.clone(), myself: None, left: 0, sum: 0, reply: None };
        let adder = stage.here.spawn("adder", adder).unwrap();
        let cx = stage.here.instance();
        adder.send(&cx, Myself(adder.clone())).unwrap();
        let open = stage.here.open_ports();
        // From another process, as a client of both would.
        let remote = ActorHandle::<Adder>::attach(&stage.elsewhere, adder.id().clone());
        let cx = stage.elsewhere.instance();
        let (port, sum) = cx.mailbox().open_once_port();
        remote.send(&cx, Sum { count: 1000, reply: port.bind() }).unwrap();
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(20), sum.recv()).await.unwrap().unwrap(),
            499_500
        );
        adder.stop("the test is over");
        assert_eq!(adder.ended().await, None);
        tokio::time::timeout(Duration::from_secs(20), async {
            while stage.here.open_ports() > open {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the port closes with its actor");
        end(handle).await;
    });
}

#[test]
fn pickles_of_every_protocol_are_read_and_broken_ones_are_errors() {
    let read =
        |pickle: Vec<u8>| PythonMessage::new(PythonMessageKind::Result { rank: None }, pickle).into_value();
    let whole =
        "[None, True, -3, 70000, 1 << 40, 2.5, 'x' * 300, b'ab', ('t',), (1, 2, 3, 4), {'k': [1], 2: ()}]";
    let expected = read(pickled(whole)).unwrap();
    for protocol in [4, 5] {
        let code = format!("pickle.dumps({whole}, protocol={protocol})");
        let pickle: Vec<u8> = Python::attach(|py| eval(py, &code).extract().unwrap());
        assert_eq!(read(pickle.clone()).unwrap(), expected, "{protocol}");
        for end in 0..pickle.len() {
            read(pickle[..end].to_vec()).unwrap_err();
        }
        for place in 0..pickle.len() {
            for flip in [1, 0x80, 0xff] {
                let mut other = pickle.clone();
                other[place] ^= flip;
                let _whatever_but_a_panic = read(other);
            }
        }
    }
    let empty = PythonMessage::new(PythonMessageKind::Result { rank: None }, Payload::default());
    assert!(matches!(empty.into_value(), Err(ValueError::NotPlain(_))));
}
