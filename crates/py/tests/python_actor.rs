//! An actor whose messages a thread of the interpreter takes out of an inbox.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{Session, call};
use procession_actor::{ActorHandle, MailboxError, OncePortReceiver, Proc};
use procession_native::{
    EitherPortRef, Inbox, MethodSpecifier, PythonActor, PythonMessage, PythonMessageKind,
};

fn a_call(node: &Proc, method: &str) -> (PythonMessage, OncePortReceiver<PythonMessage>) {
    let (port, answer) = node.mailbox().open_once_port();
    let kind = PythonMessageKind::CallMethod {
        name: MethodSpecifier::ReturnsResponse { name: method.to_owned() },
        response_port: Some(EitherPortRef::Once(port.bind().into())),
    };
    (PythonMessage::new(kind, Vec::new()), answer)
}

fn send(node: &Proc, to: &ActorHandle<PythonActor>, method: &str) -> OncePortReceiver<PythonMessage> {
    let (message, answer) = a_call(node, method);
    to.send(&node.instance(), message).unwrap();
    answer
}

async fn next(inbox: &Arc<Inbox>) -> Option<String> {
    let inbox = Arc::clone(inbox);
    tokio::task::spawn_blocking(move || inbox.next(None).map(|incoming| call(&incoming).0.to_owned()))
        .await
        .unwrap()
}

async fn closed(answer: OncePortReceiver<PythonMessage>) -> String {
    match answer.recv().await {
        Err(MailboxError::Closed(why)) => why,
        other => panic!("nobody answered, and yet: {other:?}"),
    }
}

fn is_readable(inbox: &Inbox) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", inbox.fd().unwrap())).unwrap();
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).unwrap();
    count.trim() != "0"
}

#[tokio::test]
async fn messages_come_out_in_the_order_in_which_they_were_sent() {
    let node = Session::default().join("p");
    let (handle, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let answers: Vec<_> = ["one", "two", "three"].map(|method| send(&node, &handle, method)).into();
    for expected in ["one", "two", "three"] {
        assert_eq!(next(&inbox).await.as_deref(), Some(expected));
    }
    assert!(inbox.next(Some(Duration::ZERO)).is_none());
    assert!(inbox.next(Some(Duration::from_millis(1))).is_none());
    for answer in answers {
        assert!(closed(answer).await.contains("dropped without an answer"));
    }
    inbox.end(None);
    assert_eq!(handle.ended().await, None);
}

#[tokio::test]
async fn the_descriptor_is_readable_while_something_is_queued_or_the_inbox_is_closed() {
    let node = Session::default().join("p");
    let (_, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let sender = node.instance().id().clone();
    let push = || inbox.push(sender.clone(), a_call(&node, "m").0);
    push();
    assert!(is_readable(&inbox), "a descriptor that is made late knows what is queued");
    assert_eq!(inbox.drain().len(), 1);
    assert!(!is_readable(&inbox));
    push();
    push();
    assert!(inbox.next(None).is_some());
    assert!(is_readable(&inbox));
    assert!(inbox.next(None).is_some());
    assert!(!is_readable(&inbox));
    inbox.close("bye");
    assert!(is_readable(&inbox) && inbox.drain().is_empty() && is_readable(&inbox));
}

#[tokio::test]
async fn a_closed_inbox_gives_what_is_queued_and_takes_no_more() {
    let node = Session::default().join("p");
    let (handle, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let sender = node.instance().id().clone();
    let (queued, _answer) = a_call(&node, "queued");
    inbox.push(sender.clone(), queued);
    inbox.close("no more work");
    inbox.close("another reason");
    let (late, answer) = a_call(&node, "late");
    inbox.push(sender, late);
    let why = closed(answer).await;
    assert!(why.contains(&inbox.actor_id().to_string()) && why.ends_with("no more work"), "{why}");
    assert_eq!(next(&inbox).await.as_deref(), Some("queued"));
    assert_eq!(next(&inbox).await, None);
    assert_eq!((inbox.is_closed(), inbox.stop_reason().as_deref()), (true, Some("no more work")));
    inbox.end(None);
    assert_eq!(handle.ended().await, None);
}

#[tokio::test]
async fn a_waiting_thread_wakes_when_the_inbox_closes() {
    let node = Session::default().join("p");
    let (handle, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let (started, waiting) = mpsc::channel();
    let thread = std::thread::spawn({
        let inbox = Arc::clone(&inbox);
        move || {
            started.send(()).unwrap();
            inbox.next(Some(Duration::MAX)).is_none()
        }
    });
    waiting.recv().unwrap();
    handle.stop("the end");
    assert!(tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap());
    assert_eq!(inbox.stop_reason().as_deref(), Some("the end"));
    inbox.end(None);
    handle.ended().await;
}

#[tokio::test]
async fn everything_an_actor_still_held_errs_when_it_fails() {
    let session = Session::default();
    let (node, away) = (session.join("client"), session.join("p"));
    let (here, inbox) = PythonActor::spawn(&away, "trainer").unwrap();
    let handle = ActorHandle::attach(&node, inbox.actor_id().clone());
    let (taken, queued) = (send(&node, &handle, "taken"), send(&node, &handle, "queued"));
    let taken_message = tokio::task::spawn_blocking({
        let inbox = Arc::clone(&inbox);
        move || inbox.next(None).unwrap()
    })
    .await
    .unwrap();
    let (given, given_answer) = node.mailbox().open_once_port::<PythonMessage>();
    let given = given.bind().into_held();
    inbox.track(&given);

    let expected = format!("actor {} failed: ZeroDivisionError", inbox.actor_id());
    inbox.end(Some(&expected));
    inbox.end(None);
    for answer in [taken, queued, given_answer] {
        assert_eq!(closed(answer).await, expected);
    }
    let (_, port, _) = call(&taken_message);
    let nothing = PythonMessage::new(PythonMessageKind::Result { rank: None }, Vec::new());
    let late = port.send(&away, nothing).unwrap_err().to_string();
    assert!(late.contains("PortClosed"), "{late}");
    assert_eq!(here.ended().await.as_ref(), Some(&expected));
    let (port, answer) = node.mailbox().open_once_port::<PythonMessage>();
    inbox.track(&port.bind().into_held());
    assert_eq!(closed(answer).await, expected);
}

#[tokio::test]
async fn an_actor_that_is_stopped_ends_when_its_python_side_has() {
    let node = Session::default().join("p");
    let (handle, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let answer = send(&node, &handle, "last");
    handle.stop("asked");
    assert_eq!(next(&inbox).await.as_deref(), Some("last"));
    assert_eq!(next(&inbox).await, None);
    assert!(PythonActor::spawn(&node, "a").is_err(), "it lives until it has cleaned up");
    inbox.end(Some("cleanup failed"));
    assert_eq!(handle.ended().await.as_deref(), Some("cleanup failed"));
    let (again, inbox) = PythonActor::spawn(&node, "a").unwrap();
    inbox.end(None);
    assert_eq!(again.ended().await, None);
    drop(answer);
    assert_eq!(node.open_ports(), 0);
}

#[tokio::test]
async fn an_inbox_remembers_only_ports_that_can_still_be_answered() {
    let node = Session::default().join("p");
    let (_, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let sender = node.instance().id().clone();
    for _ in 0..10_000 {
        let (message, _answer) = a_call(&node, "m");
        inbox.push(sender.clone(), message);
        drop(inbox.next(None));
    }
    assert!(inbox.ports_handed_out() <= 128, "{}", inbox.ports_handed_out());
    inbox.end(None);
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_is_queued_is_not_given_out() {
    let node = Session::default().join("p");
    let (handle, inbox) = PythonActor::spawn(&node, "a").unwrap();
    let [first, second, third] = ["one", "two", "three"].map(|method| send(&node, &handle, method));
    second.cancel();
    for expected in ["one", "three"] {
        assert_eq!(next(&inbox).await.as_deref(), Some(expected));
    }
    assert_eq!(node.open_ports(), 0, "who waits was told, and whoever does not has no port any more");
    drop((first, third));
    inbox.end(None);
}

#[tokio::test]
async fn an_inbox_tells_of_cancels_from_elsewhere_and_drops_what_they_concern() {
    let session = Session::default();
    let (host, away) = (session.join("host"), session.join("away"));
    let (_, inbox) = PythonActor::spawn(&away, "a").unwrap();
    let to = ActorHandle::<PythonActor>::attach(&host, inbox.actor_id().clone());
    inbox.fd().unwrap();
    assert!(!inbox.take_cancelled());
    let running = send(&host, &to, "runs");
    assert_eq!(next(&inbox).await.as_deref(), Some("runs"));
    let mut answers: Vec<_> = (0..100).map(|_| send(&host, &to, "waits")).collect();
    let kept = answers.split_off(60);
    for answer in answers {
        answer.cancel();
    }
    running.cancel();
    while host.open_ports() > kept.len() {
        tokio::task::yield_now().await;
    }
    while !inbox.take_cancelled() {
        tokio::task::yield_now().await;
    }
    assert_eq!(inbox.drain().len(), kept.len());
    assert!(!inbox.take_cancelled() && !is_readable(&inbox));
    assert_eq!(away.held_ports(), 0);
    drop(kept);
    inbox.end(None);
}
