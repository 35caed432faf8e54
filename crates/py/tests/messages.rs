//! What a Python message carries from one process to another.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::mpsc;

use bytes::Bytes;
use common::{Session, call, eval};
use procession_actor::{ActorHandle, Answer};
use procession_model::ProcExitResult;
use procession_native::{
    EitherPortRef, MethodSpecifier, Payload, Pickle, PythonActor, PythonMessage, PythonMessageKind,
    PythonOncePortRef, opened,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn a_call(method: &str, port: PythonOncePortRef) -> PythonMessage {
    let kind = PythonMessageKind::CallMethod {
        name: MethodSpecifier::ExplicitPort { name: method.to_owned() },
        response_port: Some(EitherPortRef::Once(port)),
    };
    PythonMessage::new(kind, b"args".to_vec())
}

#[test]
fn a_payload_of_one_fragment_is_read_without_a_copy_and_of_many_joined() {
    let one = Payload::from(vec![1, 2, 3]);
    assert_eq!(one.to_bytes().as_ptr(), one.fragments()[0].as_ptr());
    let many =
        Payload::from_fragments(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]);
    assert_eq!((many.to_bytes().as_ref(), many.len(), many.fragments().len()), (&b"abc"[..], 3, 3));
    assert!(Payload::default().to_bytes().is_empty());
}

#[tokio::test]
async fn a_call_arrives_with_its_ports_and_each_can_be_answered_once() {
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("away"));
    let (_, inbox) = PythonActor::spawn(&away, "docker").unwrap();
    let spawner = ActorHandle::<PythonActor>::attach(&host, inbox.actor_id().clone());

    let (exit_port, exit) = host.mailbox().open_once_port::<PythonMessage>();
    let (ack_port, ack) = host.mailbox().open_once_port::<PythonMessage>();
    let (inner_port, inner) = host.mailbox().open_once_port::<PythonMessage>();
    let mut message = a_call("launch", PythonOncePortRef::from(exit_port.bind()).for_exit());
    message.ack_port = Some(ack_port.bind().into());
    let inner_ref = PythonOncePortRef::from(inner_port.bind());
    message.ports.push(inner_ref.held().clone());
    spawner.send(&host.instance(), message).unwrap();
    assert!(!inner_ref.held().is_live(), "the sender's copy is spent");

    let mut incoming = tokio::task::spawn_blocking(move || inbox.next(None).unwrap()).await.unwrap();
    assert_eq!(incoming.sender.proc_id, *host.id());
    assert_eq!(incoming.message.message.to_bytes(), &b"args"[..]);
    let inner_here = incoming.message.take_port(inner_ref.port()).unwrap();
    let (method, port, ack_here) = call(&incoming);
    assert_eq!((method, port.answers_exit()), ("launch", true));

    let none = || PythonMessage::new(PythonMessageKind::Result { rank: Some(2) }, Vec::new());
    ack_here.unwrap().send(&away, none()).unwrap();
    PythonOncePortRef::from_held(inner_here).send(&away, none()).unwrap();
    port.send(&away, PythonMessage::exit(ProcExitResult::failed("x"))).unwrap();
    let twice = port.send(&away, none()).unwrap_err();
    assert!(twice.to_string().contains("AlreadyReported"), "{twice}");

    assert!(matches!(ack.recv().await.unwrap().kind, PythonMessageKind::Result { rank: Some(2) }));
    inner.recv().await.unwrap();
    let PythonMessageKind::Exit(result) = exit.recv().await.unwrap().kind else { panic!("an exit was sent") };
    assert_eq!(*result, ProcExitResult::failed("x"));
}

#[tokio::test]
async fn a_port_that_is_never_unpickled_closes_with_its_message() {
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("away"));
    let (_, inbox) = PythonActor::spawn(&away, "a").unwrap();
    let (port, answer) = host.mailbox().open_once_port::<PythonMessage>();
    let mut message = PythonMessage::new(PythonMessageKind::Result { rank: None }, Vec::new());
    message.ports.push(port.bind().into_held());
    ActorHandle::<PythonActor>::attach(&host, inbox.actor_id().clone())
        .send(&host.instance(), message)
        .unwrap();
    drop(tokio::task::spawn_blocking(move || inbox.next(None)).await.unwrap());
    let why = answer.recv().await.unwrap_err().to_string();
    assert!(why.contains("dropped without an answer"), "{why}");
    assert_eq!(host.open_ports(), 0);
}

#[tokio::test]
async fn an_inbox_opens_before_anything_that_is_sent_behind_the_message_that_opens_it() {
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("away"));
    opened::enable(away.downgrade());
    let (_, agent) = PythonActor::spawn(&away, "agent").unwrap();
    let cx = host.instance();
    let (port, _answer) = host.mailbox().open_once_port::<PythonMessage>();
    let mut spawn = a_call("spawn", port.bind().into());
    spawn.opens = Some("trainer".to_owned());
    ActorHandle::<PythonActor>::attach(&host, agent.actor_id().clone()).send(&cx, spawn).unwrap();
    let trainer = procession_model::ActorId::new(away.id().clone(), "trainer");
    let (port, answer) = host.mailbox().open_once_port::<PythonMessage>();
    ActorHandle::<PythonActor>::attach(&host, trainer).send(&cx, a_call("step", port.bind().into())).unwrap();

    let inbox = opened::take("trainer").unwrap();
    assert!(opened::take("trainer").is_none());
    let incoming = tokio::task::spawn_blocking(move || inbox.next(None).unwrap()).await.unwrap();
    let (method, port, _) = call(&incoming);
    assert_eq!(method, "step");
    port.send(&away, PythonMessage::new(PythonMessageKind::Result { rank: None }, Vec::new())).unwrap();
    answer.recv().await.unwrap();
    opened::disable();
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_close_what_came_with_them() {
    use procession_model::{Head, Packet};
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("away"));
    let (_, inbox) = PythonActor::spawn(&away, "a").unwrap();
    let (tx, rx) = mpsc::channel();
    for parts in [vec![], vec![Bytes::from_static(b"\xc1rubbish")], vec![Bytes::new()]] {
        let tx = tx.clone();
        let held = host.mailbox().open_once_sink(move |answer| tx.send(answer).unwrap());
        let head = Head::Deliver {
            to: inbox.actor_id().clone(),
            from: host.instance().id().clone(),
            tag: "python".to_owned(),
            ports: vec![held.port().clone()],
            answered: true,
        };
        held.spend().unwrap();
        host.post(Packet { head, parts }).unwrap();
        let Answer::Closed(why) = rx.recv().unwrap() else { panic!("nothing answers rubbish") };
        assert!(why.contains("could not decode"), "{why}");
    }
    assert!(inbox.drain().is_empty());
}

#[test]
fn what_is_pickled_without_an_interpreter_is_read_by_one() {
    let value = Pickle::Tuple(vec![
        Pickle::Tuple(vec![
            Pickle::None,
            Pickle::Bool(true),
            Pickle::Bool(false),
            Pickle::Int(-1),
            Pickle::Int(i64::MAX),
            Pickle::Int(i64::MIN),
            Pickle::Float(2.5),
            Pickle::Float(f64::INFINITY),
            Pickle::Str("ünï\0 🦀".to_owned()),
            Pickle::Str("x".repeat(100_000)),
        ]),
        Pickle::List(vec![]),
        Pickle::Dict(vec![(Pickle::Str("A".to_owned()), Pickle::strings(&["b".to_owned()]))]),
        Pickle::Call { module: "fractions", name: "Fraction", args: vec![Pickle::Int(1), Pickle::Int(3)] },
        Pickle::Call {
            module: "collections",
            name: "OrderedDict.fromkeys",
            args: vec![Pickle::Tuple(vec![])],
        },
        Pickle::Tuple(vec![]),
    ]);
    Python::attach(|py| {
        let loads = py.import("cloudpickle").unwrap().getattr("loads").unwrap();
        let read = loads.call1((PyBytes::new(py, &value.to_vec()),)).unwrap();
        let expected = eval(
            py,
            "((None, True, False, -1, 2**63 - 1, -2**63, 2.5, float('inf'), 'ünï\\0 🦀', 'x' * 100_000), [], \
             {'A': ['b']}, __import__('fractions').Fraction(1, 3), __import__('collections').OrderedDict(), ())",
        );
        assert!(read.eq(&expected).unwrap(), "{read}");
        assert_eq!(read.repr().unwrap().to_string(), expected.repr().unwrap().to_string());
    });
    assert_eq!(format!("{value:?}"), "Pickle(…)");
}
