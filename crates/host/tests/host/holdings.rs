//! Procs that belong to another proc, and end with it.

use std::time::Duration;

use procession_host::{Backoff, Host, OwnerLoss, Ownership, ProcRef, RestartPolicy, Slot, SpawnSpec};
use procession_model::{InvalidArgument, ProcExitKind};

use crate::common::{host, script, shut_down, soon, spawn, within};

fn owner(proc_: &ProcRef) -> Ownership {
    Ownership { proc_id: proc_.id().clone(), who: "actor x".to_owned() }
}

fn owned(
    host: &Host,
    proc_: &ProcRef,
    spec: SpawnSpec,
    policy: RestartPolicy,
) -> Result<Slot, InvalidArgument> {
    let launcher = host.native_launcher();
    host.spawn_owned(&owner(proc_), vec![spec], &launcher, policy, Vec::new())
        .map(|mut slots| slots.remove(0))
}

#[tokio::test]
async fn what_belongs_to_a_proc_is_stopped_when_that_ends_and_says_so() {
    let host = host().await;
    let (boss, other) =
        (spawn(&host, script("boss", "sleep 300")), spawn(&host, script("other", "sleep 300")));
    let of_boss = owned(&host, &boss, script("a", "sleep 300"), RestartPolicy::default()).unwrap();
    let of_other = owned(&host, &other, script("b", "sleep 300"), RestartPolicy::default()).unwrap();
    soon(boss.kill("test")).await.unwrap();
    let exit = soon(of_boss.ended()).await;
    let request = exit.requested.clone().expect("somebody asked for it");
    assert_eq!((request.by.as_str(), request.why.as_str()), ("host", "its owner, actor x, ended"));
    assert!(of_other.exit().is_none());
    shut_down(host).await;
}

#[tokio::test]
async fn the_end_of_its_owner_ends_restarts_too_also_during_a_back_off() {
    let host = host().await;
    let boss = spawn(&host, script("boss", "sleep 300"));
    let first = Duration::from_secs(3600);
    let backoff = Backoff { first, most: first, ..RestartPolicy::default().backoff };
    let policy = RestartPolicy { backoff, ..RestartPolicy::on_failure() };
    let slot = owned(&host, &boss, script("a", "exit 1"), policy).unwrap();
    within(Duration::from_secs(20), "a back-off", || slot.status().next_launch_at.is_some()).await;
    soon(boss.kill("test")).await.unwrap();
    assert_eq!(soon(slot.ended()).await.kind, ProcExitKind::Exited { code: 1 });
    assert!(!host.live().contains_key("a"));
    shut_down(host).await;
}

#[tokio::test]
async fn nothing_is_launched_for_a_proc_that_has_ended_or_to_outlive_one() {
    let host = host().await;
    let boss = spawn(&host, script("boss", "sleep 300"));
    let mut lasting = script("a", "sleep 300");
    lasting.on_owner_loss = OwnerLoss::Detach;
    let refused = owned(&host, &boss, lasting, RestartPolicy::default()).unwrap_err();
    assert!(refused.to_string().contains("ends with it"), "{refused}");
    soon(boss.stop("test", None)).await;
    assert!(!host.lives(boss.id()));
    let refused = owned(&host, &boss, script("a", "sleep 300"), RestartPolicy::default()).unwrap_err();
    assert!(refused.to_string().contains("it has ended"), "{refused}");
    assert!(host.live().is_empty());
    shut_down(host).await;
}

#[tokio::test]
async fn the_end_of_an_owner_reaches_what_belongs_to_what_belonged_to_it() {
    let host = host().await;
    let top = spawn(&host, script("top", "sleep 300"));
    let middle = owned(&host, &top, script("middle", "sleep 300"), RestartPolicy::default()).unwrap();
    let lowest =
        owned(&host, &middle.current(), script("lowest", "sleep 300"), RestartPolicy::default()).unwrap();
    soon(top.kill("test")).await.unwrap();
    soon(middle.ended()).await;
    soon(lowest.ended()).await;
    shut_down(host).await;
}
