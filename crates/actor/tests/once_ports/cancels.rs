//! Ports whose answer nobody waits for any more.

use std::sync::{Arc, Mutex};

use procession_actor::{Actor, ActorFailure, Handler, Handlers, Held, Instance, OncePortRef, PortHandle};
use procession_model::PortId;
use proptest::prelude::*;

use super::common::*;

/// Keeps what it is sent, and says of which of that nobody wants the answer.
struct Keeper {
    cancelled: PortHandle<u64>,
    kept: Arc<Mutex<Vec<OncePortRef<u64>>>>,
}

impl Actor for Keeper {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Keep>();
    }

    async fn cancelled(&mut self, _: &Instance<Self>, port: &PortId) {
        self.cancelled.send(port.index).unwrap();
    }
}

impl Handler<Keep> for Keeper {
    async fn handle(&mut self, _: &Instance<Self>, Keep(port): Keep) -> Result<(), ActorFailure> {
        self.kept.lock().unwrap().push(port);
        Ok(())
    }
}

fn held_of(port: OncePortRef<u64>) -> (OncePortRef<u64>, Arc<Held>) {
    let held = port.into_held();
    (OncePortRef::from_held(Arc::clone(&held)), held)
}

#[tokio::test]
async fn the_actor_that_holds_a_cancelled_port_hears_of_it_behind_the_message_with_it() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (cancelled, mut heard) = b.proc_.mailbox().open_port();
    let kept = Arc::default();
    b.proc_.spawn("echo", Keeper { cancelled, kept: Arc::clone(&kept) }).unwrap();
    let (port, answer) = port_on(&a);
    let index = port.port().index;
    give(&a, &b, port);
    answer.cancel();
    assert_eq!(soon(heard.recv()).await.unwrap(), index);
    let port = kept.lock().unwrap().pop().unwrap();
    assert!(port.is_cancelled());
    assert_eq!(a.proc_.open_ports(), 1, "its holder has it still");
    port.send(&b.proc_.instance(), 7).unwrap();
    assert_eq!((a.proc_.open_ports(), a.proc_.late_answers(), b.proc_.held_ports()), (0, 0, 0));
}

#[tokio::test]
async fn a_cancelled_port_that_is_dropped_leaves_nothing() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    assert!(!held.is_cancelled());
    answer.cancel();
    assert!(held.is_cancelled());
    drop(held);
    assert_eq!((a.proc_.open_ports(), b.proc_.held_ports()), (0, 0));
}

#[tokio::test]
async fn a_port_that_moved_on_is_cancelled_where_it_is() {
    let hub = Arc::<Hub>::default();
    let (a, b, c) = (hub.node("a"), hub.node("b"), hub.node("c"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    let moved = carry(&b, &c, OncePortRef::from_held(held));
    answer.cancel();
    assert!(moved.is_cancelled());
}

#[tokio::test]
async fn a_port_that_moves_on_after_its_cancel_is_cancelled_where_it_comes_to() {
    let hub = Arc::<Hub>::default();
    let (a, b, c) = (hub.node("a"), hub.node("b"), hub.node("c"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    answer.cancel();
    let moved = carry(&b, &c, OncePortRef::from_held(held));
    soon(async {
        while !moved.is_cancelled() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // And at home again.
    let home = carry(&c, &a, OncePortRef::from_held(moved));
    assert!(home.is_cancelled());
    let away = carry(&a, &b, OncePortRef::from_held(home));
    assert!(away.is_cancelled());
    drop(away);
    assert_eq!(a.proc_.open_ports(), 0);
}

#[tokio::test]
async fn a_port_that_never_left_its_process_can_be_cancelled() {
    let a = Arc::<Hub>::default().node("a");
    let (port, answer) = port_on(&a);
    let (port, held) = held_of(port);
    answer.cancel();
    assert!(held.is_cancelled());
    port.send(&a.proc_.instance(), 1).unwrap();
    assert_eq!((a.proc_.open_ports(), a.proc_.late_answers()), (0, 0));
}

#[tokio::test]
async fn a_receiver_that_is_only_dropped_cancels_nothing() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    drop(answer);
    assert!(!held.is_cancelled());
}

#[tokio::test]
async fn an_answer_that_was_given_is_not_cancelled_and_a_second_one_is_refused_as_ever() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    hub.cut(a.proc_.id()); // the answer does not get there before the cancel
    held.spend().unwrap();
    hub.connect(&a.proc_);
    answer.cancel();
    assert!(!held.is_cancelled());
    let (port, answer) = port_on(&a);
    let held = carry(&a, &b, port);
    answer.cancel();
    let cx = b.proc_.instance();
    OncePortRef::<u64>::from_held(Arc::clone(&held)).send(&cx, 1).unwrap();
    let again = OncePortRef::<u64>::from_held(held).send(&cx, 2).unwrap_err();
    assert!(again.to_string().contains("AlreadyReported"), "{again}");
}

#[tokio::test]
async fn the_end_of_a_holder_ends_what_is_cancelled_too() {
    let hub = Arc::<Hub>::default();
    let (a, b) = (hub.node("a"), hub.node("b"));
    let (port, answer) = port_on(&a);
    give(&a, &b, port);
    answer.cancel();
    assert_eq!(a.proc_.open_ports(), 1);
    drop(b);
    assert_eq!(a.proc_.open_ports(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Moves a port through these nodes, its owner the first of three, and cancels it before the move of that number.
    #[test]
    fn wherever_a_port_goes_and_whenever_it_is_cancelled_its_holder_knows(
        way in proptest::collection::vec(0..3_usize, 0..8),
        cancelled_before in 0..9_usize,
        answers: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let hub = Arc::<Hub>::default();
            let nodes = ["a", "b", "c"].map(|name| hub.node(name));
            let (port, answer) = port_on(&nodes[0]);
            let (mut held, mut at, mut answer) = (port.into_held(), 0, Some(answer));
            for step in 0..=way.len() {
                if step == cancelled_before {
                    answer.take().unwrap().cancel();
                }
                if answer.is_none() {
                    soon(async { while !held.is_cancelled() { tokio::task::yield_now().await } }).await;
                } else {
                    assert!(!held.is_cancelled());
                }
                if let Some(&to) = way.get(step).filter(|&&to| to != at) {
                    held = carry(&nodes[at], &nodes[to], OncePortRef::from_held(held));
                    at = to;
                }
            }
            if answers {
                OncePortRef::<u64>::from_held(held).send(&nodes[at].proc_.instance(), 7).unwrap();
                if let Some(answer) = answer {
                    assert_eq!(soon(answer.recv()).await.unwrap(), 7);
                }
            } else {
                drop(held);
                if let Some(answer) = answer {
                    closed(answer).await;
                }
            }
            for node in &nodes {
                assert_eq!((node.proc_.open_ports(), node.proc_.held_ports()), (0, 0));
                assert_eq!(node.proc_.late_answers(), 0);
            }
        });
    }
}
