//! The one answer, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use procession_actor::{Held, MailboxError, Moves, OncePortRef, SendErrorKind};
use procession_model::{Head, Packet};
use serde::{Deserialize, Serialize, Serializer};

use crate::common::{Ask, Hub, Inside, carry, closed, echo, give, lone_proc, port_on, soon};

#[tokio::test]
async fn an_answer_arrives_from_this_process_and_from_another() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = a.proc_.mailbox().open_once_port();
    port.send(Inside(1)).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(Inside(1)));
    let (port, answer) = port_on(&a);
    port.send(&a.proc_.instance(), 2).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(2));
    let (port, answer) = port_on(&a);
    echo(&a, &b).send(&a.proc_.instance(), Ask { value: 3, reply: port }).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(6));
    assert_eq!((a.proc_.open_ports(), a.proc_.late_answers()), (0, 0));
}

#[tokio::test]
async fn a_second_answer_is_refused_as_already_reported() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let cx = a.proc_.instance();
    let (port, answer) = port_on(&a);
    let held = port.into_held();
    OncePortRef::from_held(Arc::clone(&held)).send(&cx, 1u64).unwrap();
    let refused = OncePortRef::from_held(Arc::clone(&held)).send(&cx, 2u64).unwrap_err();
    assert_eq!((refused.kind.clone(), refused.message), (SendErrorKind::Spent("AlreadyReported"), 2));
    assert_eq!(held.answer(&a.proc_, 3u64).unwrap_err().kind, SendErrorKind::Spent("AlreadyReported"));
    assert_eq!(soon(answer.recv()).await, Ok(1));
}

#[tokio::test]
async fn a_refused_answer_says_what_became_of_the_right() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let refusal = |held: &Held| held.answer(&a.proc_, 1u64).unwrap_err().to_string();
    let [spent, moved, given_up] = std::array::from_fn(|_| port_on(&a).0.into_held());
    spent.answer(&a.proc_, 1u64).unwrap();
    assert_eq!(refusal(&spent), "AlreadyReported: a once port takes exactly one value");
    give(&a, &b, OncePortRef::from_held(Arc::clone(&moved)));
    assert!(refusal(&moved).starts_with("AlreadyMoved: the once port was sent on"), "{}", refusal(&moved));
    given_up.close("enough");
    assert!(
        refusal(&given_up).starts_with("PortClosed: the once port was given up"),
        "{}",
        refusal(&given_up)
    );
}

#[tokio::test]
async fn asking_whether_a_port_can_be_used_does_not_use_it() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let (port, answer) = port_on(&a);
    let held = port.into_held();
    assert_eq!([held.check(), held.check()], [Ok(()), Ok(())]);
    let mut moves = Moves::new();
    moves.add(&held).unwrap();
    assert_eq!(held.check(), Err("AlreadyMoved"));
    moves.undo();
    held.answer(&a.proc_, 4u64).unwrap();
    assert_eq!(held.check(), Err("AlreadyReported"));
    assert_eq!(soon(answer.recv()).await, Ok(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_answers_that_race_exactly_one_wins() {
    let proc_ = lone_proc();
    for _ in 0..200 {
        let (port, answer) = proc_.mailbox().open_once_port::<u64>();
        let held = port.bind().into_held();
        let racers: Vec<_> = (0..4)
            .map(|racer: u64| {
                let (held, proc_) = (Arc::clone(&held), proc_.clone());
                tokio::spawn(async move { held.answer(&proc_, racer).is_ok().then_some(racer) })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            winners.extend(racer.await.unwrap());
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(soon(answer.recv()).await, Ok(winners[0]));
    }
    assert_eq!((proc_.open_ports(), proc_.late_answers()), (0, 200 * 3), "the losers are counted");
}

/// A value that can be sent only when it says so.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Moody(bool);

procession_actor::wire_message!(Moody, "test.moody");

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { serializer.serialize_bool(true) } else { Err(serde::ser::Error::custom("not today")) }
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_errs_the_receiver_with_the_reason() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let cx = a.proc_.instance();
    let (port, answer) = a.proc_.mailbox().open_once_port::<Moody>();
    let refused = port.bind().send(&cx, Moody(false)).unwrap_err();
    assert_eq!(refused.message, Moody(false));
    let error = soon(answer.recv()).await.unwrap_err().to_string();
    assert!(error.contains("could not be sent") && error.contains("not today"), "{error}");
    let (port, answer) = a.proc_.mailbox().open_once_port::<Inside>();
    assert_eq!(port.bind().send(&cx, Inside(4)).unwrap_err().kind, SendErrorKind::NoWireForm);
    assert!(soon(answer.recv()).await.unwrap_err().to_string().contains("wire_message!"));
}

/// Refuses values, and lets the news of closed ports through.
struct NoValues(procession_actor::WeakProc);

impl procession_actor::Router for NoValues {
    fn route(&self, _: &procession_model::ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        if matches!(packet.head, Head::Send { .. }) {
            return Err((packet, "the value is too large".to_owned()));
        }
        self.0.upgrade().unwrap().receive(packet);
        Ok(())
    }
}

#[tokio::test]
async fn an_answer_that_the_connection_refuses_errs_the_receiver_at_once() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    b.proc_.set_router(Arc::new(NoValues(a.proc_.downgrade())));
    assert_eq!(held.answer(&b.proc_, 5u64).unwrap_err().message, 5);
    assert!(closed(answer).await.contains("too large"));
}

#[tokio::test]
async fn a_receiver_that_is_dropped_takes_its_entry_with_it_and_late_answers_are_counted() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let cx = a.proc_.instance();
    let (port, answer) = port_on(&a);
    drop(answer);
    assert_eq!(a.proc_.open_ports(), 0);
    port.send(&cx, 1).unwrap();
    assert_eq!(a.proc_.late_answers(), 1);
    // From elsewhere, and bound when the receiver is already gone.
    let (port, answer) = a.proc_.mailbox().open_once_port::<u64>();
    drop(answer);
    let held = carry(&a, &b, port.bind());
    assert_eq!(a.proc_.open_ports(), 0);
    held.answer(&b.proc_, 2u64).unwrap();
    assert_eq!(a.proc_.late_answers(), 2);
    // A second one never leaves, and counts where it was tried.
    assert_eq!(held.answer(&b.proc_, 3u64).unwrap_err().message, 3);
    assert_eq!((a.proc_.late_answers(), b.proc_.late_answers()), (2, 1));
    // A cancelled wait is a dropped receiver; the news of a drop is no answer.
    let (port, answer) = port_on(&a);
    let mut waiting = Box::pin(answer.recv());
    assert!(poll_once(waiting.as_mut()).await.is_none());
    drop(waiting);
    assert_eq!(a.proc_.open_ports(), 0);
    drop(port);
    assert_eq!(a.proc_.late_answers(), 2);
    let (port, answer) = a.proc_.mailbox().open_once_port::<u64>();
    drop(answer);
    assert_eq!(port.send(3).unwrap_err().message, 3);
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
        std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn an_answer_of_another_type_is_a_decode_error() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    held.answer(&b.proc_, "seven".to_owned()).unwrap();
    let error = soon(answer.recv()).await.unwrap_err();
    assert!(
        matches!(&error, MailboxError::Decode(why) if why.contains("\"string\"") && why.contains("\"u64\""))
    );
    let (port, answer) = port_on(&a);
    let head = Head::Send { port: port.port().clone(), tag: "u64".to_owned(), ports: Vec::new() };
    a.proc_.post(Packet { head, parts: vec![vec![0xc1].into()] }).unwrap();
    assert!(matches!(soon(answer.recv()).await, Err(MailboxError::Decode(_))));
    let (port, answer) = port_on(&a);
    let head = Head::Send { port: port.port().clone(), tag: "u64".to_owned(), ports: Vec::new() };
    a.proc_.post(Packet { head, parts: vec![vec![1].into(), vec![2].into()] }).unwrap();
    assert!(soon(answer.recv()).await.unwrap_err().to_string().contains("expected 1 payload segment, got 2"));
}

#[tokio::test]
async fn bytes_that_follow_a_value_are_refused() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let send = |port: procession_model::PortId, tag: &str, parts: Vec<bytes::Bytes>| {
        a.proc_
            .post(Packet { head: Head::Send { port, tag: tag.to_owned(), ports: Vec::new() }, parts })
            .unwrap();
    };
    for trailing in [&[0xc0][..], &[0x00], &[0xc1], &[0xff, 0xff]] {
        let (port, answer) = port_on(&a);
        send(port.port().clone(), "u64", vec![[&[7][..], trailing].concat().into()]);
        let error = soon(answer.recv()).await.unwrap_err().to_string();
        assert!(error.contains("bytes follow the value"), "{error}");
    }
    for (parts, taken) in [(vec![], true), (vec![bytes::Bytes::new()], false)] {
        let (port, answer) = a.proc_.mailbox().open_once_port::<()>();
        send(port.bind().port().clone(), "unit", parts);
        assert_eq!(soon(answer.recv()).await.is_ok(), taken);
    }
}

#[tokio::test]
async fn a_sink_hears_exactly_once_of_its_once_port() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let calls = Arc::new(AtomicUsize::new(0));
    let open = || {
        let calls = Arc::clone(&calls);
        a.proc_.mailbox().open_once_sink(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
        })
    };
    let answered = open();
    answered.answer(&a.proc_, 1u64).unwrap();
    answered.close("too late");
    drop(answered);
    assert_eq!(calls.swap(0, Ordering::SeqCst), 1);
    drop(open());
    assert_eq!(calls.swap(0, Ordering::SeqCst), 1);
    let held = carry(&a, &b, OncePortRef::from_held(open()));
    drop(b);
    assert_eq!(calls.swap(0, Ordering::SeqCst), 1);
    drop(held);
    a.proc_.close_ports("over");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_sink_may_use_the_node_that_calls_it() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let weak = a.proc_.downgrade();
    let first = a.proc_.mailbox().open_once_sink(move |_| {
        let proc_ = weak.upgrade().unwrap();
        let (again, _gone) = proc_.mailbox().open_once_port::<u64>();
        drop(again.bind());
        port.send(&proc_.instance(), proc_.open_ports() as u64).unwrap();
    });
    carry(&a, &b, OncePortRef::<u64>::from_held(first)).close("no");
    assert_eq!(soon(answer.recv()).await, Ok(1));
}
