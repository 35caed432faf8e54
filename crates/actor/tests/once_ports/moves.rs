//! Who holds a once port, and what becomes of its receiver when nobody does any more.

use std::sync::Arc;

use procession_actor::{ActorHandle, Moves, OncePortRef, SendErrorKind};
use procession_model::{Head, Packet};
use serde::{Deserialize, Serialize};

use crate::common::{Ask, Echo, Forget, Hub, Keep, carry, closed, echo, give, port_on, soon};

#[tokio::test]
async fn dropping_the_sending_end_unsent_errs_the_receiver() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let (port, answer) = a.proc_.mailbox().open_once_port();
    drop(port);
    assert!(closed(answer).await.contains("dropped"));
    let (port, answer) = port_on(&a);
    drop(port);
    assert!(closed(answer).await.contains("dropped"));
    assert_eq!(a.proc_.open_ports(), 0);
}

#[tokio::test]
async fn dropping_it_after_it_has_travelled_errs_the_receiver() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    give(&a, &b, port);
    echo(&a, &b).send(&a.proc_.instance(), Forget).unwrap();
    assert!(closed(answer).await.contains("dropped"));
}

#[tokio::test]
async fn the_death_of_the_process_that_holds_it_errs_the_receiver() {
    let hub = Arc::<Hub>::default();
    let (a, b, c) = (hub.node("a"), hub.node("b"), hub.node("c"));
    let (given, answer) = port_on(&a);
    let (elsewhere, other) = port_on(&a);
    let (kept, own) = port_on(&a);
    give(&a, &b, given);
    give(&a, &c, elsewhere);
    drop(b);
    assert_eq!(closed(answer).await, "killed by signal 9");
    // Ports that others hold are none of its business.
    echo(&a, &c).send(&a.proc_.instance(), Forget).unwrap();
    assert!(closed(other).await.contains("dropped"));
    kept.send(&a.proc_.instance(), 1).unwrap();
    assert_eq!(soon(own.recv()).await, Ok(1));
}

/// Loses all packets on the way.
struct BlackHole;

impl procession_actor::Router for BlackHole {
    fn route(&self, _: &procession_model::ProcId, _: Packet) -> Result<(), (Packet, String)> {
        Ok(())
    }
}

#[tokio::test]
async fn the_owner_knows_the_first_holder_without_being_told() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let there = echo(&a, &b);
    a.proc_.set_router(Arc::new(BlackHole));
    let (port, answer) = port_on(&a);
    there.send(&a.proc_.instance(), Keep(port)).unwrap();
    drop(b);
    assert_eq!(closed(answer).await, "killed by signal 9");
}

#[tokio::test]
async fn after_a_second_move_only_the_last_holders_death_counts() {
    let hub = Arc::<Hub>::default();
    let (a, b, c) = (hub.node("a"), hub.node("b"), hub.node("c"));
    let (port, answer) = port_on(&a);
    // Taken off the wire by hand, so that the test holds it in the name of b.
    let held = carry(&a, &b, port);
    give(&b, &c, OncePortRef::from_held(held));
    drop(b);
    // Were the death of b taken for the holder's, the port would be closed by now.
    assert_eq!(a.proc_.open_ports(), 1);
    drop(c);
    assert_eq!(closed(answer).await, "killed by signal 9");
}

#[tokio::test]
async fn a_port_that_comes_home_does_not_die_with_those_who_had_it() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let abroad = carry(&a, &b, port);
    let home = carry(&b, &a, OncePortRef::from_held(abroad));
    drop(b);
    OncePortRef::from_held(home).send(&a.proc_.instance(), 11u64).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(11));
}

#[tokio::test]
async fn ports_in_the_mailbox_of_an_actor_that_ends_err_their_receivers() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let there = echo(&a, &b);
    // On this runtime the actor does not run before the first await: all of these are in its mailbox.
    b.proc_.stop_actor("echo", "enough");
    let (behind_stop, first) = port_on(&a);
    give(&a, &b, behind_stop);
    let (local, second) = b.proc_.mailbox().open_once_port::<u64>();
    ActorHandle::<Echo>::attach(&b.proc_, there.id().clone())
        .send(&b.proc_.instance(), Keep(local.bind()))
        .unwrap();
    soon(b.proc_.actors_ended()).await;
    assert!(closed(first).await.ends_with("has ended: enough"));
    assert!(closed(second).await.ends_with("has ended: enough"));
}

#[tokio::test]
async fn a_port_that_a_message_names_but_nobody_decodes_errs_its_receiver() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    let to = echo(&b, &b).id().clone();
    held.spend().unwrap();
    // A `test.forget` decodes to nothing: the port that comes with it stays in the claims.
    let head = Head::Deliver {
        to,
        from: b.proc_.instance().id().clone(),
        tag: "test.forget".to_owned(),
        ports: vec![held.port().clone()],
        answered: false,
    };
    b.proc_.receive(Packet { head, parts: vec![rmp_serde::to_vec_named(&Forget).unwrap().into()] });
    assert!(closed(answer).await.contains("dropped"));
}

#[tokio::test]
async fn a_port_that_was_given_up_in_a_message_that_was_not_sent_errs_its_receiver() {
    let hub = Arc::<Hub>::default();
    let a = hub.node("a");
    let (port, answer) = port_on(&a);
    let held = port.into_held();
    let mut moves = Moves::new();
    moves.add(&held).unwrap();
    held.close("nobody wants it");
    held.close("a second time");
    assert_eq!(a.proc_.open_ports(), 1, "it may still be on its way to somebody");
    moves.undo();
    assert_eq!(held.check(), Err("PortClosed"));
    assert_eq!(closed(answer).await, "nobody wants it");
}

#[tokio::test]
async fn a_reason_without_measure_is_cut_before_it_travels() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let long = "x".repeat(100_000);
    let (port, answer) = port_on(&a);
    carry(&a, &b, port).close(&long);
    let (queued, other) = port_on(&a);
    let there = echo(&a, &b);
    soon(async {
        b.proc_.stop_actor("echo", &long);
        there.send(&a.proc_.instance(), Keep(queued)).unwrap();
        b.proc_.actors_ended().await;
    })
    .await;
    let (late, third) = port_on(&a);
    there.send(&a.proc_.instance(), Keep(late)).unwrap();
    for answer in [answer, other, third] {
        let reason = closed(answer).await;
        assert!(reason.len() < 10_000 && reason.ends_with("[…cut]"), "{} bytes", reason.len());
    }
}

#[tokio::test]
async fn the_senders_copy_is_spent_once_it_has_moved() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Twins(OncePortRef<u64>, OncePortRef<u64>);
    procession_actor::wire_message!(Twins, "test.twins");
    impl procession_actor::Handler<Twins> for Echo {
        async fn handle(
            &mut self,
            _: &procession_actor::Instance<Self>,
            _: Twins,
        ) -> Result<(), procession_actor::ActorFailure> {
            Ok(())
        }
    }

    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let cx = a.proc_.instance();
    let (port, answer) = port_on(&a);
    let held = port.into_held();
    give(&a, &b, OncePortRef::from_held(Arc::clone(&held)));
    let used = OncePortRef::from_held(Arc::clone(&held)).send(&cx, 1u64).unwrap_err();
    assert_eq!(used.kind, SendErrorKind::Spent("AlreadyMoved"));
    let sent = echo(&a, &b).send(&cx, Keep(OncePortRef::from_held(held))).unwrap_err();
    assert!(sent.to_string().contains("AlreadyMoved"), "{sent}");
    assert_eq!(a.proc_.open_ports(), 1, "what was refused has closed the port");
    drop(b);
    closed(answer).await;

    // Twice in one message is refused as a whole, and the port is still here.
    let c = hub.node("c");
    let (port, answer) = port_on(&a);
    let held = port.into_held();
    let twins = Twins(OncePortRef::from_held(Arc::clone(&held)), OncePortRef::from_held(held));
    let refused = echo(&a, &c).send(&cx, twins).unwrap_err();
    assert!(refused.to_string().contains("AlreadyMoved"), "{refused}");
    refused.message.1.send(&cx, 2).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(2));
}

#[tokio::test]
async fn a_move_is_undone_when_the_send_fails() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let cx = a.proc_.instance();
    let there = echo(&a, &b);
    let (port, answer) = port_on(&a);
    hub.cut(a.proc_.id());
    let refused = there.send(&cx, Ask { value: 1, reply: port }).unwrap_err();
    assert!(matches!(refused.kind, SendErrorKind::Unreachable(_)));
    hub.connect(&a.proc_);
    // The death of the process that it did not get to is nothing to it any more.
    drop(b);
    refused.message.reply.send(&cx, 7).unwrap();
    assert_eq!(soon(answer.recv()).await, Ok(7));
}

#[tokio::test]
async fn closing_the_ports_of_a_process_errs_all_who_wait_in_it() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (given, answer) = port_on(&a);
    let (_kept, own) = port_on(&a);
    give(&a, &b, given);
    a.proc_.close_ports("the host is gone");
    assert_eq!(closed(answer).await, "the host is gone");
    assert_eq!(closed(own).await, "the host is gone");
    assert_eq!(a.proc_.open_ports(), 0);
}
