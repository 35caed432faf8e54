//! Messages to actors here and elsewhere, and what becomes of those that do not arrive.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::Arc;

use common::{Ask, Burst, Echo, Hub, Inside, Keep, Node, Note, Stranger, lone_proc, proc_id, soon};
use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, MailboxError, OncePortRef, PortReceiver,
    SendErrorKind, wire_message,
};
use procession_model::{ActorId, Head, Packet, PortId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::Barrier;

fn echo_on(node: &Node) -> (ActorHandle<Echo>, PortReceiver<u64>) {
    let (seen, numbers) = node.proc_.mailbox().open_port();
    (node.proc_.spawn("echo", Echo::new(seen)).unwrap(), numbers)
}

fn attached(from: &Node, to: &Node, name: &str) -> ActorHandle<Echo> {
    ActorHandle::attach(&from.proc_, ActorId::new(to.proc_.id().clone(), name))
}

#[tokio::test]
async fn one_handle_type_sends_to_actors_here_and_elsewhere() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (here, mut numbers) = echo_on(&b);
    let there = attached(&a, &b, "echo");
    for (cx, handle) in [(b.proc_.instance(), here), (a.proc_.instance(), there)] {
        handle.send(&cx, Note(21)).unwrap();
        assert_eq!(soon(numbers.recv()).await, Ok(21));
        let (reply, answer) = cx.mailbox().open_once_port();
        handle.send(&cx, Ask { value: 21, reply: reply.bind() }).unwrap();
        assert_eq!(soon(answer.recv()).await, Ok(42));
    }
    assert_eq!((a.proc_.open_ports(), b.proc_.open_ports()), (0, 0));
}

#[tokio::test]
async fn what_comes_to_an_actor_that_is_fed_is_taken_at_once_and_what_cannot_be_decoded_comes_back() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (seen, _numbers) = b.proc_.mailbox().open_port();
    let (fed_tx, mut fed) = tokio::sync::mpsc::unbounded_channel();
    let feed = move |from: ActorId, Note(number)| fed_tx.send((from, number)).unwrap();
    b.proc_.spawn_fed("echo", Echo::new(seen), feed).unwrap();
    let (cx, there) = (a.proc_.instance(), attached(&a, &b, "echo"));
    there.send(&cx, Note(7)).unwrap();
    assert_eq!(soon(fed.recv()).await, Some((cx.id().clone(), 7)));
    // Other types go the usual way.
    let (reply, answer) = cx.mailbox().open_once_port();
    there.send(&cx, Ask { value: 21, reply: reply.bind() }).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(42));
    let (to, from) = (ActorId::new(b.proc_.id().clone(), "echo"), cx.id().clone());
    let tag = <Note as procession_actor::Message>::TAG.unwrap().to_owned();
    let head = Head::Deliver { to, from, tag, ports: Vec::new(), answered: false };
    let (packet, why) = b.proc_.post(Packet::bare(head)).unwrap_err();
    assert!(packet.parts.is_empty() && why.contains("could not decode"), "{why}");
}

#[tokio::test]
async fn a_message_without_a_wire_form_is_handed_back_when_the_actor_is_elsewhere() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (here, mut numbers) = echo_on(&b);
    here.send(&b.proc_.instance(), Inside(1)).unwrap();
    assert_eq!(soon(numbers.recv()).await, Ok(1));
    let refused = attached(&a, &b, "echo").send(&a.proc_.instance(), Inside(2)).unwrap_err();
    assert_eq!((refused.kind.clone(), &refused.message), (SendErrorKind::NoWireForm, &Inside(2)));
    assert!(refused.to_string().contains("wire_message!"), "{refused}");
}

#[tokio::test]
async fn a_message_to_an_actor_that_has_ended_is_handed_back() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let cx = a.proc_.instance();
    let (echo, _) = echo_on(&a);
    echo.stop("enough");
    soon(echo.ended()).await;

    let refused = echo.send(&cx, Note(3)).unwrap_err();
    assert_eq!(refused.message, Note(3));
    assert!(refused.to_string().ends_with("/echo has ended: enough"), "{refused}");
    // The same through the wire form, with a port that stays usable.
    let (reply, answer) = cx.mailbox().open_once_port();
    let refused = attached(&a, &a, "echo").send(&cx, Ask { value: 1, reply: reply.bind() }).unwrap_err();
    assert!(
        matches!(&refused.kind, SendErrorKind::Unreachable(why) if why.ends_with("/echo has ended: enough"))
    );
    refused.message.reply.send(&cx, 5).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(5));
}

#[tokio::test]
async fn a_message_that_its_receiver_does_not_take_is_handed_back_with_its_ports() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let cx = a.proc_.instance();
    let (_echo, _numbers) = echo_on(&a);
    let (reply, answer) = cx.mailbox().open_once_port();
    let refused = attached(&a, &a, "echo").send(&cx, Stranger(reply.bind())).unwrap_err();
    assert!(matches!(&refused.kind, SendErrorKind::Unreachable(why) if why.contains("\"test.stranger\"")));
    refused.message.0.send(&cx, 6).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(6));
}

#[tokio::test]
async fn an_undeliverable_message_comes_back_to_its_sender_and_closes_its_ports() {
    /// Sends when told so, and reports what comes back.
    struct Teller(ActorHandle<Echo>);
    impl Actor for Teller {
        async fn undelivered(&mut self, cx: &Instance<Self>, returned: procession_actor::Returned) {
            let back = Keep::from_parts(&returned.parts);
            assert!(back.is_err(), "the ports of a returned message are closed: {back:?}");
            assert_eq!(returned.to.name.as_ref(), "nobody");
            cx.proc_().stop_actor("teller", "enough");
        }
    }
    impl Handler<Keep> for Teller {
        async fn handle(&mut self, cx: &Instance<Self>, keep: Keep) -> Result<(), ActorFailure> {
            Ok(self.0.send(cx, keep)?)
        }
    }
    trait FromParts: Sized {
        fn from_parts(parts: &[bytes::Bytes]) -> Result<Self, String>;
    }
    impl FromParts for Keep {
        fn from_parts(parts: &[bytes::Bytes]) -> Result<Self, String> {
            procession_actor::decode_serde(parts, &mut procession_actor::Claims::default())
        }
    }

    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let teller = a.proc_.spawn("teller", Teller(attached(&a, &b, "nobody"))).unwrap();
    let (reply, answer) = a.proc_.mailbox().open_once_port::<u64>();
    teller.send(&a.proc_.instance(), Keep(reply.bind())).unwrap();
    let closed = soon(answer.recv()).await.unwrap_err().to_string();
    assert!(closed.contains("no actor \"nobody\" lives in proc b."), "{closed}");
    assert_eq!(soon(teller.ended()).await, None);
}

#[tokio::test]
async fn a_message_that_is_not_taken_or_not_understood_elsewhere_comes_back() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (_echo, mut numbers) = echo_on(&b);
    let (returned, mut back) = a.proc_.mailbox().open_port();
    let sender = Echo { returned: Some(returned), ..Echo::blind(&a.proc_) };
    let sender = a.proc_.spawn("sender", sender).unwrap();
    let deliver = |tag: &str, ports: Vec<PortId>| {
        let (to, from) = (ActorId::new(b.proc_.id().clone(), "echo"), sender.id().clone());
        let head = Head::Deliver { to, from, tag: tag.to_owned(), ports, answered: false };
        a.proc_.post(Packet { head, parts: vec![vec![0xc1].into()] }).unwrap();
    };
    let (reply, answer) = a.proc_.mailbox().open_once_port::<u64>();
    let held = reply.bind().into_held();
    deliver("test.stranger", Vec::new());
    assert!(soon(back.recv()).await.unwrap().starts_with("test.stranger: actor "));
    held.spend().unwrap();
    deliver("test.note", vec![held.port().clone()]);
    assert!(soon(back.recv()).await.unwrap().contains("could not decode a \"test.note\""));
    let closed = soon(answer.recv()).await.unwrap_err().to_string();
    assert!(closed.contains("could not decode"), "{closed}");
    // The receiver is none the worse.
    attached(&a, &b, "echo").send(&a.proc_.instance(), Note(8)).unwrap();
    assert_eq!(soon(numbers.recv()).await, Ok(8));
}

/// A message whose own code panics on the way, with a once port already in the hands of the kernel.
#[derive(Debug)]
struct Trap {
    port: OncePortRef<u64>,
    when_encoded: bool,
}
wire_message!(Trap, "test.trap");

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let done = self.port.serialize(serializer);
        assert!(!self.when_encoded, "a trap in the encoding");
        done
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let _port = OncePortRef::<u64>::deserialize(deserializer)?;
        panic!("a trap in the decoding")
    }
}

struct Trapped;
impl Actor for Trapped {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Trap>();
    }
}
impl Handler<Trap> for Trapped {
    async fn handle(&mut self, _: &Instance<Self>, _: Trap) -> Result<(), ActorFailure> {
        unreachable!("a trap never arrives")
    }
}

#[tokio::test]
async fn a_panic_in_a_messages_own_code_closes_its_ports_and_leaves_the_kernel_whole() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let cx = a.proc_.instance();
    b.proc_.spawn("trapped", Trapped).unwrap();
    for (to, when_encoded) in [(&b, true), (&b, false), (&a, true)] {
        let there = ActorHandle::<Trapped>::attach(&a.proc_, ActorId::new(to.proc_.id().clone(), "trapped"));
        let (port, answer) = a.proc_.mailbox().open_once_port::<u64>();
        let trap = Trap { port: port.bind(), when_encoded };
        let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| there.send(&cx, trap)));
        assert_eq!(sent.is_err(), when_encoded, "only an encoding panics at the sender");
        assert!(matches!(soon(answer.recv()).await, Err(MailboxError::Closed(_))));

        let (port, _answer) = a.proc_.mailbox().open_once_port::<u64>();
        let outside = Trap { port: port.bind(), when_encoded: false };
        assert!(rmp_serde::to_vec_named(&outside).is_err(), "a port was serialised outside of a message");
    }
    assert_eq!(a.proc_.open_ports(), 0);

    // Handed back from the own process, the port stays usable.
    let own = a.proc_.spawn("trapped", Trapped).unwrap();
    let there = ActorHandle::<Trapped>::attach(&a.proc_, own.id().clone());
    let (port, answer) = a.proc_.mailbox().open_once_port::<u64>();
    let refused = there.send(&cx, Trap { port: port.bind(), when_encoded: false }).unwrap_err();
    assert!(refused.to_string().contains("panicked: a trap in the decoding"), "{refused}");
    refused.message.port.send(&cx, 9).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(9));
}

#[tokio::test]
async fn a_packet_for_another_incarnation_touches_nothing_here() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (_echo, mut numbers) = echo_on(&b);
    let earlier = proc_id("b");
    let (port, answer) = b.proc_.mailbox().open_once_port::<u64>();
    let reference = port.bind();
    let index = reference.port().index;
    let cx = b.proc_.instance();

    let (to, from) = (ActorId::new(earlier.clone(), "echo"), a.proc_.instance().id().clone());
    let parts = vec![rmp_serde::to_vec_named(&Note(1)).unwrap().into()];
    let head = Head::Deliver { to, from, tag: "test.note".to_owned(), ports: Vec::new(), answered: false };
    b.proc_.receive(Packet { head, parts });
    let port = PortId::new(earlier, index);
    b.proc_.receive(Packet::bare(Head::PortClosed { port, reason: "of old".to_owned() }));

    reference.send(&cx, 4).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(4));
    attached(&a, &b, "echo").send(&a.proc_.instance(), Note(2)).unwrap();
    assert_eq!(soon(numbers.recv()).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_keep_their_order_across_processes() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (_echo, mut numbers) = echo_on(&b);
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (handle, cx) = (attached(&a, &b, "echo"), a.proc_.instance());
            tokio::spawn(async move {
                for n in 0..500 {
                    handle.send(&cx, Note(sender * 1000 + n)).unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    for _ in 0..4 * 500 {
        let number = soon(numbers.recv()).await.unwrap();
        let sender = (number / 1000) as usize;
        assert_eq!(number % 1000, next[sender], "out of order from sender {sender}");
        next[sender] += 1;
    }
    for sender in senders {
        sender.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_races_with_the_actors_end_is_handled_handed_back_or_closed() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    for round in 0..60 {
        let (here, _numbers) = echo_on(&b);
        let start = Arc::new(Barrier::new(5));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                // The handles outlive the actor, as those of a client do.
                let (handle, cx) = if sender % 2 == 0 {
                    (here.clone(), b.proc_.instance())
                } else {
                    (attached(&a, &b, "echo"), a.proc_.instance())
                };
                let start = Arc::clone(&start);
                tokio::spawn(async move {
                    start.wait().await;
                    let mut waiting = Vec::new();
                    for value in 0..50 {
                        let (reply, answer) = cx.mailbox().open_once_port();
                        match handle.send(&cx, Ask { value, reply: reply.bind() }) {
                            Ok(()) => waiting.push((value, answer)),
                            Err(refused) => {
                                assert_eq!(refused.message.value, value);
                                refused.message.reply.send(&cx, value * 2).unwrap();
                                assert_eq!(soon(answer.recv()).await, Ok(value * 2));
                            }
                        }
                    }
                    for (value, answer) in waiting {
                        match soon(answer.recv()).await {
                            Ok(answer) => assert_eq!(answer, value * 2),
                            Err(error) => assert!(matches!(error, MailboxError::Closed(_)), "{error}"),
                        }
                    }
                    handle
                })
            })
            .collect();
        start.wait().await;
        if round % 2 == 0 {
            here.stop("enough");
        } else {
            here.send(&b.proc_.instance(), Burst).unwrap();
        }
        soon(here.ended()).await;
        for sender in senders {
            drop(sender.await.unwrap());
        }
    }
    assert_eq!((a.proc_.open_ports(), b.proc_.open_ports()), (0, 0));
}

#[tokio::test]
async fn a_lone_process_says_that_it_has_no_connection() {
    let proc_ = lone_proc();
    let far = ActorHandle::<Echo>::attach(&proc_, ActorId::new(proc_id("far"), "echo"));
    let refused = far.send(&proc_.instance(), Note(1)).unwrap_err();
    assert_eq!(refused.message, Note(1));
    assert!(refused.to_string().contains("far."), "{refused}");
}
