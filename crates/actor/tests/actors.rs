//! What an actor may rely on, and what its end does.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Burst, Echo, Fail, Forget, Inside, Keep, Note, lone_proc, proc_id, soon};
use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Instance, MailboxError, Message, PortHandle, PortReceiver,
    Proc, SendErrorKind, StopCause,
};
use tokio::sync::Semaphore;

/// Holds the actor inside a handler until the test lets it go.
struct Wait(Arc<Semaphore>);
impl Message for Wait {}

impl Handler<Wait> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, Wait(gate): Wait) -> Result<(), ActorFailure> {
        gate.acquire().await?.forget();
        Ok(())
    }
}

fn spawn_echo(proc_: &Proc) -> (ActorHandle<Echo>, PortReceiver<u64>) {
    let (seen, numbers) = proc_.mailbox().open_port();
    (proc_.spawn("echo", Echo::new(seen)).unwrap(), numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_actor_handles_one_message_at_a_time() {
    struct Alone {
        busy: Arc<AtomicBool>,
        done: PortHandle<u64>,
    }
    impl Actor for Alone {}
    impl Handler<Inside> for Alone {
        async fn handle(&mut self, _: &Instance<Self>, Inside(value): Inside) -> Result<(), ActorFailure> {
            assert!(!self.busy.swap(true, Ordering::SeqCst), "two messages at once");
            tokio::task::yield_now().await;
            self.busy.store(false, Ordering::SeqCst);
            Ok(self.done.send(value)?)
        }
    }

    let proc_ = lone_proc();
    let (done, mut numbers) = proc_.mailbox().open_port();
    let actor = proc_.spawn("alone", Alone { busy: Arc::default(), done }).unwrap();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (actor, cx) = (actor.clone(), proc_.instance());
            tokio::spawn(async move { (0..200).for_each(|n| actor.send(&cx, Inside(n)).unwrap()) })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    for _ in 0..8 * 200 {
        soon(numbers.recv()).await.unwrap();
    }
    actor.stop("the test is over");
    assert_eq!(soon(actor.ended()).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_messages_of_each_sender_arrive_in_the_order_sent() {
    struct Ordered(PortHandle<String>);
    impl Actor for Ordered {}
    impl Handler<Inside> for Ordered {
        async fn handle(&mut self, cx: &Instance<Self>, Inside(value): Inside) -> Result<(), ActorFailure> {
            Ok(self.0.send(format!("{} {value}", cx.sender().unwrap().name))?)
        }
    }

    let proc_ = lone_proc();
    let (seen, mut lines) = proc_.mailbox().open_port();
    let actor = proc_.spawn("ordered", Ordered(seen)).unwrap();
    for _ in 0..4 {
        let (actor, cx) = (actor.clone(), proc_.instance());
        tokio::spawn(async move {
            for n in 0..500 {
                actor.send(&cx, Inside(n)).unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    let mut next = std::collections::HashMap::<String, u64>::new();
    for _ in 0..4 * 500 {
        let line = soon(lines.recv()).await.unwrap();
        let (sender, value) = line.split_once(' ').unwrap();
        let expected = next.entry(sender.to_owned()).or_default();
        assert_eq!(value, expected.to_string(), "out of order from {sender}");
        *expected += 1;
    }
    assert_eq!(next.len(), 4);
}

#[tokio::test]
async fn a_panic_ends_one_actor_alone_and_closes_what_it_held() {
    let proc_ = lone_proc();
    let cx = proc_.instance();
    let (echo, _) = spawn_echo(&proc_);
    let (seen, mut numbers) = proc_.mailbox().open_port();
    let bystander = proc_.spawn("bystander", Echo::new(seen)).unwrap();
    let (kept, kept_rx) = proc_.mailbox().open_once_port();
    let (queued, queued_rx) = proc_.mailbox().open_once_port();
    echo.send(&cx, Keep(kept.bind())).unwrap();
    echo.send(&cx, Burst).unwrap();
    echo.send(&cx, Keep(queued.bind())).unwrap();

    assert_eq!(soon(echo.ended()).await.as_deref(), Some("panicked: burst on demand"));
    for port in [kept_rx, queued_rx] {
        assert!(matches!(soon(port.recv()).await, Err(MailboxError::Closed(_))));
    }
    bystander.send(&cx, Note(7)).unwrap();
    assert_eq!(soon(numbers.recv()).await, Ok(7));
    assert_eq!(proc_.open_ports(), 0);
}

#[tokio::test]
async fn an_error_ends_the_actor_after_its_last_words() {
    struct Last(PortHandle<String>);
    impl Actor for Last {
        async fn stopped(&mut self, _: &Instance<Self>, why: &StopCause) -> Result<(), ActorFailure> {
            self.0.send(format!("{why:?}"))?;
            Err("and once more".into())
        }
    }
    impl Handler<Fail> for Last {
        async fn handle(&mut self, _: &Instance<Self>, _: Fail) -> Result<(), ActorFailure> {
            Err("failed on demand".into())
        }
    }

    let proc_ = lone_proc();
    let (words, mut heard) = proc_.mailbox().open_port();
    let actor = proc_.spawn("last", Last(words.clone())).unwrap();
    actor.send(&proc_.instance(), Fail).unwrap();
    assert_eq!(soon(actor.ended()).await.as_deref(), Some("failed on demand"));
    assert_eq!(soon(heard.recv()).await.unwrap(), "Failed(\"failed on demand\")");

    // Only a regular end becomes a failure by what `stopped` returns.
    let actor = proc_.spawn("last", Last(words)).unwrap();
    actor.stop("enough");
    assert_eq!(soon(actor.ended()).await.as_deref(), Some("and once more"));
    assert_eq!(soon(heard.recv()).await.unwrap(), "Asked(\"enough\")");
}

#[tokio::test]
async fn an_actor_that_cannot_start_ends_before_its_first_message() {
    struct Stillborn;
    impl Actor for Stillborn {
        async fn started(&mut self, _: &Instance<Self>) -> Result<(), ActorFailure> {
            Err("no device".into())
        }
    }
    impl Handler<Inside> for Stillborn {
        async fn handle(&mut self, _: &Instance<Self>, _: Inside) -> Result<(), ActorFailure> {
            unreachable!("it never started")
        }
    }

    let proc_ = lone_proc();
    let actor = proc_.spawn("stillborn", Stillborn).unwrap();
    actor.send(&proc_.instance(), Inside(1)).unwrap();
    assert_eq!(soon(actor.ended()).await.as_deref(), Some("no device"));
}

#[tokio::test]
async fn stop_lets_what_is_queued_before_it_run_and_drops_what_comes_after() {
    let proc_ = lone_proc();
    let cx = proc_.instance();
    let (echo, mut numbers) = spawn_echo(&proc_);
    let (late, late_rx) = proc_.mailbox().open_once_port();
    let gate = Arc::new(Semaphore::new(0));
    echo.send(&cx, Wait(Arc::clone(&gate))).unwrap();
    for n in 0..10 {
        echo.send(&cx, Note(n)).unwrap();
    }
    echo.stop("enough");
    echo.send(&cx, Keep(late.bind())).unwrap();
    echo.send(&cx, Note(99)).unwrap();
    gate.add_permits(1);

    assert_eq!(soon(echo.ended()).await, None);
    for n in 0..10 {
        assert_eq!(soon(numbers.recv()).await, Ok(n));
    }
    assert!(matches!(soon(numbers.recv()).await, Err(MailboxError::Closed(_))), "99 was handled");
    assert!(matches!(soon(late_rx.recv()).await, Err(MailboxError::Closed(_))));
}

/// A message that cannot even be dropped in peace.
struct Bomb;
impl Message for Bomb {}
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("burst on drop");
    }
}

impl Handler<Bomb> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, _: Bomb) -> Result<(), ActorFailure> {
        unreachable!("it stays in the mailbox")
    }
}

#[tokio::test]
async fn messages_that_panic_when_dropped_cost_the_others_in_the_mailbox_nothing() {
    let proc_ = lone_proc();
    let cx = proc_.instance();
    let (echo, _) = spawn_echo(&proc_);
    let (queued, queued_rx) = proc_.mailbox().open_once_port();
    // On this runtime the actor does not run before the first await: all of these are in its mailbox.
    echo.stop("enough");
    for _ in 0..3 {
        echo.send(&cx, Bomb).unwrap();
    }
    echo.send(&cx, Keep(queued.bind())).unwrap();

    assert_eq!(soon(echo.ended()).await.as_deref(), Some("panicked: burst on drop"));
    let why = soon(queued_rx.recv()).await.unwrap_err().to_string();
    assert!(why.ends_with("/echo failed: panicked: burst on drop"), "{why}");
    // What this thread drops from now on is none of that actor's business.
    let (other, other_rx) = proc_.mailbox().open_once_port::<u64>();
    drop(other.bind());
    let why = soon(other_rx.recv()).await.unwrap_err().to_string();
    assert_eq!(why, "the port was dropped without an answer");
}

#[tokio::test]
async fn a_reason_in_which_the_actors_name_occurs_is_still_told_with_its_id() {
    let proc_ = lone_proc();
    let (seen, _) = proc_.mailbox().open_port();
    let actor = proc_.spawn("e", Echo::new(seen)).unwrap();
    actor.stop("we have seen enough");
    soon(actor.ended()).await;
    let refused = actor.send(&proc_.instance(), Note(1)).unwrap_err().to_string();
    assert_eq!(refused, format!("actor {} has ended: we have seen enough", actor.id()));
}

#[tokio::test]
async fn a_name_belongs_to_one_living_actor() {
    let proc_ = lone_proc();
    let (first, _) = spawn_echo(&proc_);
    let refused = proc_.spawn("echo", Echo::blind(&proc_)).unwrap_err().to_string();
    assert!(refused.contains("AlreadyExists") && refused.contains("\"echo\""), "{refused}");
    assert!(proc_.spawn("no/slash", Echo::blind(&proc_)).is_err());

    // The refusal has not unseated the first.
    first.send(&proc_.instance(), Forget).unwrap();
    assert!(proc_.stop_actor("echo", "enough"));
    assert_eq!(soon(first.ended()).await, None);
    assert!(!proc_.stop_actor("echo", "enough"));
    let (second, mut numbers) = spawn_echo(&proc_);
    second.send(&proc_.instance(), Note(1)).unwrap();
    assert_eq!(soon(numbers.recv()).await, Ok(1));
    assert!(matches!(
        first.send(&proc_.instance(), Note(2)).unwrap_err().kind,
        SendErrorKind::Unreachable(_)
    ));
}

#[tokio::test]
async fn every_end_is_told_to_the_observer_once() {
    let proc_ = lone_proc();
    let cx = proc_.instance();
    let (ends, mut ended) = proc_.mailbox().open_port();
    proc_.on_actor_end(move |actor, failure| {
        ends.send(format!("{} {}", actor.name, failure.unwrap_or("regular"))).unwrap();
    });
    for name in ["stopped", "failed", "burst"] {
        proc_.spawn(name, Echo::blind(&proc_)).unwrap();
    }
    let attach =
        |name| ActorHandle::<Echo>::attach(&proc_, procession_model::ActorId::new(proc_.id().clone(), name));
    attach("stopped").stop("enough");
    attach("failed").send(&cx, Fail).unwrap();
    attach("burst").send(&cx, Burst).unwrap();
    soon(proc_.actors_ended()).await;

    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(soon(ended.recv()).await.unwrap());
    }
    heard.sort();
    assert_eq!(heard, ["burst panicked: burst on demand", "failed failed on demand", "stopped regular"]);
    proc_.on_actor_end(|_, _| {});
    assert!(matches!(soon(ended.recv()).await, Err(MailboxError::Closed(_))), "a fourth end was told");
}

#[tokio::test]
async fn an_observer_may_use_the_node_that_calls_it() {
    let proc_ = lone_proc();
    let (done, mut heard) = proc_.mailbox().open_port();
    let weak = proc_.downgrade();
    proc_.on_actor_end(move |_, _| {
        let proc_ = weak.upgrade().unwrap();
        proc_.spawn("successor", Echo::blind(&proc_)).unwrap();
        proc_.on_actor_end(|_, _| {});
        done.send(proc_.stop_actor("successor", "enough") as u64).unwrap();
    });
    let (echo, _) = spawn_echo(&proc_);
    echo.stop("enough");
    assert_eq!(soon(heard.recv()).await, Ok(1));
    soon(proc_.actors_ended()).await;
}

#[test]
fn a_runtime_that_is_shut_down_ends_its_actors_with_a_report() {
    let ends = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let proc_ = Proc::new(proc_id("lone"), runtime.handle().clone());
    let counter = Arc::clone(&ends);
    proc_.on_actor_end(move |_, failure| {
        assert_eq!(failure, Some("the runtime was shut down"));
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let (echo, _) = spawn_echo(&proc_);
    let (kept, kept_rx) = proc_.mailbox().open_once_port();
    echo.send(&proc_.instance(), Keep(kept.bind())).unwrap();
    drop(runtime);

    assert_eq!(ends.load(Ordering::SeqCst), 1);
    let refused = echo.send(&proc_.instance(), Note(5)).unwrap_err();
    assert_eq!(refused.message, Note(5));
    assert!(refused.to_string().ends_with("/echo has ended: the runtime was shut down"), "{refused}");
    // An actor that is spawned now has a report too, and leaves its name free.
    for _ in 0..2 {
        spawn_echo(&proc_);
    }
    assert_eq!(ends.load(Ordering::SeqCst), 3);

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(echo.ended().await.as_deref(), Some("the runtime was shut down"));
        assert!(matches!(kept_rx.recv().await, Err(MailboxError::Closed(_))));
    });
}

#[tokio::test]
#[should_panic(expected = "share the tag")]
async fn two_messages_with_one_tag_are_refused_when_the_actor_is_spawned() {
    struct Twice;
    impl Actor for Twice {
        fn handlers(table: &mut procession_actor::Handlers<Self>) {
            table.add::<Note>();
            table.add::<Note>();
        }
    }
    impl Handler<Note> for Twice {
        async fn handle(&mut self, _: &Instance<Self>, _: Note) -> Result<(), ActorFailure> {
            Ok(())
        }
    }
    let _refused = lone_proc().spawn("twice", Twice);
}
