//! Typed actors in procs, and what becomes of messages to them.

use std::time::Duration;

use procession::{
    Actor, ActorFailure, ActorHandle, ActorId, Handler, Host, Instance, Message, PortHandle, ProcExitKind,
    ProcId, Returned, SendErrorKind,
};

use crate::common::{Add, Block, Leave, Worker, script, shut_down, soon, spawn, worker_in};
use crate::program::worker;

#[tokio::test]
async fn an_actor_in_a_proc_answers_and_ends_with_it() {
    let host = Host::start().await.unwrap();
    let proc_ = spawn(&host, worker("p"));
    soon(proc_.ready()).await.unwrap();
    let (cx, actor) = (host.proc_().instance(), worker_in(&host, &proc_));
    for n in 0..100 {
        let (port, sum) = cx.mailbox().open_once_port();
        actor.send(&cx, Add(n, n, port.bind())).unwrap();
        assert_eq!(soon(sum.recv()).await, Ok(2 * n));
    }
    let exit = soon(proc_.stop("the work is done", None)).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
    assert_eq!(exit.verdict, "stopped by us (stop: the work is done): exit code 0");
    assert_eq!(host.proc_().open_ports(), 0);
    shut_down(host).await;
}

#[tokio::test]
async fn a_message_that_is_sent_before_the_proc_is_ready_is_delivered_after_it() {
    let host = Host::start().await.unwrap();
    let proc_ = spawn(&host, worker("p"));
    let (cx, actor) = (host.proc_().instance(), worker_in(&host, &proc_));
    let answers: Vec<_> = (0..10)
        .map(|n| {
            let (port, sum) = cx.mailbox().open_once_port();
            actor.send(&cx, Add(n, 1, port.bind())).unwrap();
            sum
        })
        .collect();
    assert!(proc_.status().ready_at.is_none());
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(soon(answer.recv()).await, Ok(n as u64 + 1));
    }
    shut_down(host).await;
}

#[tokio::test]
async fn a_message_to_a_proc_that_has_ended_comes_back_with_the_reason() {
    let host = Host::start().await.unwrap();
    let proc_ = spawn(&host, worker("p"));
    soon(proc_.ready()).await.unwrap();
    let (cx, actor) = (host.proc_().instance(), worker_in(&host, &proc_));
    actor.send(&cx, Leave(5)).unwrap();
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 5 });
    let (port, sum) = cx.mailbox().open_once_port();
    let error = actor.send(&cx, Add(1, 2, port.bind())).unwrap_err();
    assert!(matches!(&error.kind, SendErrorKind::Unreachable(why) if why.contains("exit code 5")), "{error}");
    // The port came back too, and can be answered.
    error.message.2.send(&cx, 3).unwrap();
    assert_eq!(soon(sum.recv()).await, Ok(3));
    shut_down(host).await;
}

/// Sends to a worker when it is told to, and tells what came back.
struct Sender(PortHandle<CameBack>);

struct CameBack(Returned);
impl Message for CameBack {}

struct SendTo(ProcId);
impl Message for SendTo {}

impl Actor for Sender {
    async fn undelivered(&mut self, _: &Instance<Self>, returned: Returned) {
        let _test_is_over = self.0.send(CameBack(returned));
    }
}

impl Handler<SendTo> for Sender {
    async fn handle(&mut self, cx: &Instance<Self>, SendTo(proc_id): SendTo) -> Result<(), ActorFailure> {
        ActorHandle::<Worker>::attach(cx.proc_(), ActorId::new(proc_id, "worker")).send(cx, Leave(0))?;
        Ok(())
    }
}

#[tokio::test]
async fn what_waited_for_a_proc_that_never_came_up_comes_back_to_the_actor_that_sent_it() {
    let host = Host::start().await.unwrap();
    let gate = tempfile::tempdir().unwrap();
    let mut spec =
        script("p", &format!("until [ -e {}/open ]; do sleep 0.02; done; exit 9", gate.path().display()));
    spec.policy.readiness = procession::Readiness::CallBack;
    let proc_ = spawn(&host, spec);
    let (returned, mut came_back) = host.proc_().mailbox().open_port();
    let sender = host.proc_().spawn("sender", Sender(returned)).unwrap();
    let cx = host.proc_().instance();
    sender.send(&cx, SendTo(proc_.id().clone())).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), came_back.recv()).await.is_err(), "it waits");
    std::fs::write(gate.path().join("open"), "").unwrap();
    let CameBack(back) = soon(came_back.recv()).await.unwrap();
    assert_eq!((back.tag.as_str(), &back.to.proc_id), ("test.leave", proc_.id()));
    assert!(back.reason.contains("exit code 9"), "{}", back.reason);
    shut_down(host).await;
}

#[tokio::test]
async fn an_actor_that_blocks_its_thread_keeps_nobody_from_stopping_its_proc() {
    let host = Host::start().await.unwrap();
    let proc_ = spawn(&host, worker("p"));
    let (cx, actor) = (host.proc_().instance(), worker_in(&host, &proc_));
    let (port, blocked) = cx.mailbox().open_once_port();
    actor.send(&cx, Block(port.bind())).unwrap();
    soon(blocked.recv()).await.unwrap();
    let exit = soon(proc_.stop("test", Some(Duration::from_millis(100)))).await;
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });
    shut_down(host).await;
}

#[test]
fn a_program_that_no_host_launched_is_told_so() {
    let served = procession::child_main(|_| -> Result<(), String> { panic!("there is nothing to set up") });
    assert!(!served.unwrap());
}
