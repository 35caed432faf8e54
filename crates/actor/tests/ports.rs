//! Ports for many values, and what stays behind when all is done.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::Arc;

use common::{Ask, Echo, Hub, Inside, Keep, lone_proc, soon};
use procession_actor::{
    Actor, ActorFailure, ActorHandle, Answer, Handler, Handlers, Instance, MailboxError, OncePortRef,
    PortReceiver, PortRef, Proc, Router, SendErrorKind, WeakProc, wire_message,
};
use procession_model::{ActorId, Packet, ProcId};
use serde::{Deserialize, Serialize};

/// Count to the number, there.
#[derive(Debug, Serialize, Deserialize)]
struct Count(u64, PortRef<u64>);
wire_message!(Count, "test.count");

struct Counter;
impl Actor for Counter {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Count>();
    }
}
impl Handler<Count> for Counter {
    async fn handle(&mut self, cx: &Instance<Self>, Count(to, port): Count) -> Result<(), ActorFailure> {
        for n in 0..to {
            port.send(cx, n)?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_port_takes_many_values_in_order_from_here_and_from_elsewhere() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    b.proc_.spawn("counter", Counter).unwrap();
    let counter = ActorHandle::<Counter>::attach(&a.proc_, ActorId::new(b.proc_.id().clone(), "counter"));
    let (port, mut numbers) = a.proc_.mailbox().open_port();
    counter.send(&a.proc_.instance(), Count(100, port.bind())).unwrap();
    for n in 0..100 {
        assert_eq!(soon(numbers.recv()).await, Ok(n));
    }
    port.send(7).unwrap();
    port.clone().bind().send(&a.proc_.instance(), 8).unwrap();
    assert_eq!((soon(numbers.recv()).await, soon(numbers.recv()).await), (Ok(7), Ok(8)));
    assert_eq!(a.proc_.open_ports(), 1, "one port, however often it is bound");
    drop(numbers);
    assert_eq!(a.proc_.open_ports(), 0);
    assert_eq!(port.send(9).unwrap_err().message, 9);
    counter.send(&a.proc_.instance(), Count(2, port.bind())).unwrap();
    b.proc_.stop_actors("enough");
    soon(b.proc_.actors_ended()).await;
    assert_eq!((a.proc_.open_ports(), a.proc_.late_answers()), (0, 2));
}

#[tokio::test]
async fn a_port_that_is_bound_after_its_receiver_went_leaves_nothing_behind() {
    let proc_ = lone_proc();
    let (port, numbers) = proc_.mailbox().open_port::<u64>();
    drop(numbers);
    let (first, second) = (port.bind(), port.bind());
    assert_eq!(proc_.open_ports(), 0);
    first.send(&proc_.instance(), 1).unwrap();
    second.send(&proc_.instance(), 2).unwrap();
    assert_eq!(proc_.late_answers(), 2);
}

#[tokio::test]
async fn one_wrong_value_does_not_end_a_port() {
    let proc_ = lone_proc();
    let cx = proc_.instance();
    let (port, mut numbers) = proc_.mailbox().open_port::<u64>();
    let reference = port.bind();
    PortRef::attach(reference.port().clone()).send(&cx, "seven".to_owned()).unwrap();
    reference.send(&cx, 8).unwrap();
    assert!(matches!(soon(numbers.recv()).await, Err(MailboxError::Decode(_))));
    assert_eq!(soon(numbers.recv()).await, Ok(8));
}

#[tokio::test]
async fn a_port_ends_when_nobody_can_send_to_it() {
    let proc_ = lone_proc();
    let (port, mut numbers) = proc_.mailbox().open_port();
    port.send(1u64).unwrap();
    drop(port);
    assert_eq!(soon(numbers.recv()).await, Ok(1));
    assert!(matches!(soon(numbers.recv()).await, Err(MailboxError::Closed(_))));
    // A reference may come from anywhere at any time, so a bound port stays until its node ends.
    let (port, mut numbers) = proc_.mailbox().open_port::<u64>();
    port.bind();
    drop(port);
    proc_.close_ports("over");
    assert_eq!(soon(numbers.recv()).await, Err(MailboxError::Closed("over".to_owned())));
}

#[tokio::test]
async fn a_value_that_cannot_be_sent_is_handed_back() {
    let proc_ = lone_proc();
    let (port, _values) = proc_.mailbox().open_port::<Inside>();
    let refused = port.bind().send(&proc_.instance(), Inside(1)).unwrap_err();
    assert_eq!((refused.kind, refused.message), (SendErrorKind::NoWireForm, Inside(1)));
    let far = PortRef::attach(procession_model::PortId::new(common::proc_id("far"), 0));
    let (reply, answer) = proc_.mailbox().open_once_port();
    let refused = far.send(&proc_.instance(), Keep(reply.bind())).unwrap_err();
    assert!(matches!(refused.kind, SendErrorKind::Unreachable(_)));
    refused.message.0.send(&proc_.instance(), 3).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(3));
}

#[tokio::test]
async fn a_sink_takes_values_until_its_port_is_closed() {
    let proc_ = lone_proc();
    let (tx, rx) = std::sync::mpsc::channel();
    let port = proc_.mailbox().open_sink(move |answer| {
        let Answer::Value { tag, .. } = answer else { panic!("a value was sent") };
        tx.send(tag).unwrap();
    });
    let reference = PortRef::attach(port.clone());
    reference.send(&proc_.instance(), 1u64).unwrap();
    assert_eq!(rx.try_recv().unwrap(), "u64");
    proc_.mailbox().close_port(&port);
    reference.send(&proc_.instance(), 2u64).unwrap();
    assert!(rx.try_recv().is_err());
    assert_eq!((proc_.open_ports(), proc_.late_answers()), (0, 1));
}

#[tokio::test]
async fn ten_thousand_ports_leave_the_table_empty() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (seen, _numbers) = b.proc_.mailbox().open_port();
    b.proc_.spawn("echo", Echo::new(seen)).unwrap();
    let echo = ActorHandle::<Echo>::attach(&a.proc_, ActorId::new(b.proc_.id().clone(), "echo"));
    let cx = a.proc_.instance();
    let (mut unheard, mut waiting) = (Vec::new(), Vec::new());
    for n in 0..10_000u64 {
        let (port, answer) = a.proc_.mailbox().open_once_port();
        let reply = port.bind();
        match n % 5 {
            0 => echo.send(&cx, Ask { value: n, reply }).unwrap(),
            1 => echo.send(&cx, Keep(reply)).unwrap(),
            2 => reply.send(&cx, n * 2).unwrap(),
            3 => drop(reply),
            _ => {
                // Its receiver is gone when it is answered.
                unheard.push(reply);
                continue;
            }
        }
        waiting.push((n, answer));
    }
    for reply in unheard {
        reply.send(&cx, 1).unwrap();
    }
    b.proc_.stop_actors("enough");
    soon(b.proc_.actors_ended()).await;
    for (n, answer) in waiting {
        match soon(answer.recv()).await {
            Ok(answer) => assert!(n % 5 % 2 == 0 && answer == n * 2, "{n}: {answer}"),
            Err(error) => assert!(n % 5 % 2 == 1, "{n}: {error}"),
        }
    }
    assert_eq!((a.proc_.open_ports(), b.proc_.open_ports()), (0, 0));
    assert_eq!(a.proc_.late_answers(), 2_000);
}

#[tokio::test]
async fn nothing_keeps_a_node_alive_once_its_actors_have_ended() {
    /// Holds all that refers to the node.
    struct Hoarder {
        _proc: Proc,
        _own: Option<ActorHandle<Self>>,
        _numbers: PortReceiver<u64>,
        _reference: PortRef<u64>,
        _right: OncePortRef<u64>,
    }
    impl Actor for Hoarder {}
    struct Own(ActorHandle<Hoarder>);
    impl procession_actor::Message for Own {}
    impl Handler<Own> for Hoarder {
        async fn handle(&mut self, _: &Instance<Self>, own: Own) -> Result<(), ActorFailure> {
            self._own = Some(own.0);
            Ok(())
        }
    }

    let hub = Arc::<Hub>::default();
    let node = hub.node("a");
    let weak = node.proc_.downgrade();
    let (port, numbers) = node.proc_.mailbox().open_port();
    let (once, answer) = node.proc_.mailbox().open_once_port();
    let hoarder = node.proc_.spawn(
        "hoarder",
        Hoarder {
            _proc: node.proc_.clone(),
            _own: None,
            _numbers: numbers,
            _reference: port.bind(),
            _right: once.bind(),
        },
    );
    let hoarder = hoarder.unwrap();
    let cx = node.proc_.instance();
    hoarder.send(&cx, Own(hoarder.clone())).unwrap();
    hoarder.stop("enough");
    // Left in the mailbox of an actor that has ended.
    hoarder.send(&cx, Own(hoarder.clone())).unwrap();
    assert_eq!(soon(hoarder.ended()).await, None);
    drop((hoarder, cx, port, answer, node));
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn a_router_may_send_while_it_is_replaced() {
    struct Parting(WeakProc, ProcId);
    impl Router for Parting {
        fn route(&self, _: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
            Err((packet, "parting".to_owned()))
        }
    }
    impl Drop for Parting {
        fn drop(&mut self) {
            let proc_ = self.0.upgrade().unwrap();
            let far = PortRef::attach(procession_model::PortId::new(self.1.clone(), 0));
            assert!(far.send(&proc_.instance(), 1u64).is_ok(), "the new router takes it");
        }
    }

    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    struct Onward(WeakProc);
    impl Router for Onward {
        fn route(&self, _: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
            self.0.upgrade().unwrap().receive(packet);
            Ok(())
        }
    }
    a.proc_.set_router(Arc::new(Parting(a.proc_.downgrade(), b.proc_.id().clone())));
    a.proc_.set_router(Arc::new(Onward(b.proc_.downgrade())));
    assert_eq!(b.proc_.late_answers(), 1);
}
