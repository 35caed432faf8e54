//! Typed actors in procs that are launched again.

use std::time::Duration;

use procession::{ActorsAfter, Backoff, Host, RestartPolicy, SendErrorKind, Slot};

use crate::common::{Add, Keep, Leave, shut_down, soon, within, worker_in};
use crate::program::worker;

fn slot(host: &Host, actors: ActorsAfter) -> Slot {
    let backoff = Backoff { first: Duration::from_millis(1), ..RestartPolicy::default().backoff };
    let policy = RestartPolicy { backoff, actors, ..RestartPolicy::on_failure() };
    host.spawn_group(vec![worker("p")], &host.native_launcher(), policy, Vec::new()).unwrap().remove(0)
}

#[tokio::test]
async fn a_reference_leads_to_the_actor_of_that_name_in_each_further_launch() {
    let host = Host::start().await.unwrap();
    let slot = slot(&host, ActorsAfter::Respawn);
    let cx = host.proc_().instance();
    let actor = worker_in(&host, &slot.current());
    for incarnation in 1..=3 {
        // Sent before it is ready, except for the first time: what is sent after an end waits.
        let (port, sum) = cx.mailbox().open_once_port();
        actor.send(&cx, Add(incarnation, 1, port.bind())).unwrap();
        assert_eq!(soon(sum.recv()).await, Ok(incarnation + 1));
        assert_eq!(u64::from(slot.current().incarnation()), incarnation);
        let ended = slot.current();
        let (port, unanswered) = cx.mailbox().open_once_port();
        let (kept, mut has_come) = cx.mailbox().open_port();
        actor.send(&cx, Keep(port.bind(), kept.bind())).unwrap();
        soon(has_come.recv()).await.unwrap();
        actor.send(&cx, Leave(5)).unwrap();
        let text = soon(unanswered.recv()).await.unwrap_err().to_string();
        assert!(text.contains("exit code 5"), "{text}");
        soon(ended.ended()).await;
    }
    shut_down(host).await;
}

#[tokio::test]
async fn a_reference_fails_and_names_the_new_launch_where_it_is_not_to_follow() {
    let host = Host::start().await.unwrap();
    let slot = slot(&host, ActorsAfter::Fail);
    let cx = host.proc_().instance();
    let actor = worker_in(&host, &slot.current());
    soon(slot.ready()).await.unwrap();
    actor.send(&cx, Leave(5)).unwrap();
    within_second_launch(&slot).await;
    let (port, _) = cx.mailbox().open_once_port();
    let error = actor.send(&cx, Add(1, 2, port.bind())).unwrap_err();
    let SendErrorKind::Unreachable(why) = &error.kind else { panic!("{error}") };
    assert!(why.contains("exit code 5") && why.contains("incarnation 2 was launched in its place"), "{why}");
    let (port, sum) = cx.mailbox().open_once_port();
    worker_in(&host, &slot.current()).send(&cx, Add(1, 2, port.bind())).unwrap();
    assert_eq!(soon(sum.recv()).await, Ok(3));
    shut_down(host).await;
}

async fn within_second_launch(slot: &Slot) {
    let slot = slot.clone();
    let wait = move || {
        within(Duration::from_secs(30), "a second launch", || slot.current().incarnation() == 2);
    };
    tokio::task::spawn_blocking(wait).await.unwrap();
}
