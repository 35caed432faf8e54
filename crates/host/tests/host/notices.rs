//! Programs without the runtime that say themselves how far they are.

use std::time::Duration;

use procession_host::Readiness;
use procession_model::ProcStatus;

use crate::common::{host, program, script, shut_down, soon, spawn, within};

#[tokio::test]
async fn a_program_can_say_that_it_is_ready_and_how_far_it_is() {
    let host = host().await;
    let mut spec = program("p", "notifier");
    spec.policy.readiness = Readiness::None;
    let proc_ = spawn(&host, spec);
    // It is ready for its waiters when it runs, and says more when it has more to say.
    soon(proc_.ready()).await.unwrap();
    within(Duration::from_secs(10), "its notices are taken", || {
        let status = proc_.status();
        status.status == ProcStatus::Ready && status.progress.as_deref() == Some("all the way")
    })
    .await;
    let exit = soon(proc_.stop("test", None)).await;
    assert!(exit.ready_at.is_some());
    shut_down(host).await;
}

#[tokio::test]
async fn a_program_that_says_nothing_is_ready_when_it_runs() {
    let host = host().await;
    let proc_ = spawn(&host, script("p", "test -S \"$NOTIFY_SOCKET\" || exit 1; exec sleep 300"));
    soon(proc_.ready()).await.unwrap();
    assert_eq!(proc_.status().status, ProcStatus::Running);
    let exit = soon(proc_.terminate(Duration::from_secs(5), "test")).await.map(|()| proc_.clone()).unwrap();
    assert!(soon(exit.ended()).await.verdict.starts_with("stopped by us"));
    shut_down(host).await;
}
