//! Once ports in the hands of procs that die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use procession::{Host, Instance, MailboxError, OncePortReceiver, PortReceiver, PortRef, ProcEvent, ProcRef};

use crate::common::{
    Add, Answer, Ask, Fail, Keep, Leave, PassOn, Worker, shut_down, sigkill, soon, spawn, worker_in,
};
use crate::program::worker;

struct Session {
    host: Host,
    cx: Instance<()>,
    kept: PortRef<u64>,
    has_come: PortReceiver<u64>,
}

impl Session {
    async fn start() -> Self {
        let host = Host::start().await.unwrap();
        let cx = host.proc_().instance();
        let (kept, has_come) = cx.mailbox().open_port();
        Self { host, cx, kept: kept.bind(), has_come }
    }

    async fn proc_(&self, name: &str) -> ProcRef {
        let proc_ = spawn(&self.host, worker(name));
        soon(proc_.ready()).await.unwrap();
        proc_
    }

    async fn kept(&mut self) {
        assert_eq!(soon(self.has_come.recv()).await, Ok(1));
    }

    fn port(&self) -> (Keep, OncePortReceiver<u64>) {
        let (port, answer) = self.cx.mailbox().open_once_port();
        (Keep(port.bind(), self.kept.clone()), answer)
    }
}

fn closed(result: Result<u64, MailboxError>) -> String {
    match result {
        Err(MailboxError::Closed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_port_errs_within_a_tenth_of_a_second_of_its_holders_death_and_says_how_it_died() {
    let mut session = Session::start().await;
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let proc_ = session.proc_(&format!("p{round}")).await;
        let (keep, answer) = session.port();
        worker_in(&session.host, &proc_).send(&session.cx, keep).unwrap();
        session.kept().await;
        let killed = Instant::now();
        sigkill(&proc_);
        let why = closed(soon(answer.recv()).await);
        slowest = slowest.max(killed.elapsed());
        assert!(why.contains("SIGKILL") && why.contains(proc_.id().as_str()), "{why}");
    }
    println!("the slowest of 5 took {slowest:?}");
    // Ten times the figure is a failure.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    shut_down(session.host).await;
}

#[tokio::test]
async fn a_port_that_moved_on_errs_with_the_last_that_held_it() {
    let mut session = Session::start().await;
    let (first, second) = (session.proc_("first").await, session.proc_("second").await);
    let (keep, answer) = session.port();
    let pass_on = PassOn(worker_in(&session.host, &second).id().clone(), keep);
    worker_in(&session.host, &first).send(&session.cx, pass_on).unwrap();
    session.kept().await;

    sigkill(&first);
    soon(first.ended()).await;
    let answer = answer.recv();
    tokio::pin!(answer);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut answer).await.is_err(),
        "it is held by the second"
    );
    sigkill(&second);
    let why = closed(soon(answer).await);
    assert!(why.contains(second.id().as_str()), "{why}");
    shut_down(session.host).await;
}

#[tokio::test]
async fn a_port_that_came_home_to_the_client_outlives_those_who_passed_it_on() {
    let mut session = Session::start().await;
    let (owner, between) = (session.proc_("owner").await, session.proc_("between").await);
    let at_home = session.host.proc_().spawn("worker", Worker::default()).unwrap();
    let (result, mut told) = session.cx.mailbox().open_port::<String>();
    let ask = Ask {
        via: worker_in(&session.host, &between).id().clone(),
        to: at_home.id().clone(),
        kept: session.kept.clone(),
        result: result.bind(),
    };
    worker_in(&session.host, &owner).send(&session.cx, ask).unwrap();
    session.kept().await;
    sigkill(&between);
    soon(between.ended()).await;
    at_home.send(&session.cx, Answer(5)).unwrap();
    assert_eq!(soon(told.recv()).await.as_deref(), Ok("Ok(5)"));
    shut_down(session.host).await;
}

#[tokio::test]
async fn an_answer_that_was_on_its_way_when_its_sender_ended_arrives() {
    let mut session = Session::start().await;
    for round in 0..10 {
        let proc_ = session.proc_(&format!("p{round}")).await;
        let worker = worker_in(&session.host, &proc_);
        let (keep, answer) = session.port();
        worker.send(&session.cx, keep).unwrap();
        session.kept().await;
        // Its last act: some answers, a stop of all actors, and the end.
        worker.send(&session.cx, Answer(round)).unwrap();
        let (exit, answer) = tokio::join!(soon(proc_.stop("test", None)), soon(answer.recv()));
        assert_eq!((answer, exit.verdict.contains("exit code 0")), (Ok(round), true), "{}", exit.verdict);
    }
    shut_down(session.host).await;
}

#[tokio::test]
async fn a_port_in_a_message_that_nobody_reads_any_more_errs() {
    let session = Session::start().await;
    let proc_ = session.proc_("p").await;
    let worker = worker_in(&session.host, &proc_);
    worker.send(&session.cx, Leave(1)).unwrap();
    let answers: Vec<_> = (0..50)
        .map(|n| {
            let (port, answer) = session.cx.mailbox().open_once_port();
            worker.send(&session.cx, Add(n, n, port.bind())).map(|()| answer)
        })
        .collect();
    for answer in answers.into_iter().flatten() {
        let why = closed(soon(answer.recv()).await);
        assert!(why.contains("exit code 1"), "{why}");
    }
    assert_eq!(session.host.proc_().open_ports(), 1, "only the one that tells what has come");
    shut_down(session.host).await;
}

#[tokio::test]
async fn a_failure_in_very_many_words_is_heard_by_all_who_wait() {
    let session = Session::start().await;
    let proc_ = session.proc_("p").await;
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    proc_.watch(Arc::new(move |event| {
        if let ProcEvent::ActorEnded { failure, .. } = event {
            let _test_is_over = ends.send(failure.clone());
        }
    }));
    let worker = worker_in(&session.host, &proc_);
    worker.send(&session.cx, Fail(20_000)).unwrap();
    // This one finds the actor failing, or failed.
    let (port, answer) = session.cx.mailbox().open_once_port();
    worker.send(&session.cx, Add(1, 2, port.bind())).unwrap();
    let why = closed(soon(answer.recv()).await);
    assert!(why.contains("worker failed: word word") && why.ends_with("[…cut]"), "{} bytes", why.len());
    let failure = soon(ended.recv()).await.unwrap().expect("it failed");
    assert!(failure.starts_with("word word") && failure.ends_with("[…cut]"), "{} bytes", failure.len());
    shut_down(session.host).await;
}
