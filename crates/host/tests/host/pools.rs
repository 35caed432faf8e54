//! Processes that are kept warm, each of which launches one proc.

use std::sync::Arc;

use procession_host::{Host, Pool, ProcRef, SpawnSpec};
use procession_launch::ProcLauncher;
use procession_model::{BootstrapCommand, ProcExitKind, ProcId};
use procession_sys::Snapshot;

use crate::common::{host, members, program, script, shut_down, soon, within};

const WHILE: std::time::Duration = std::time::Duration::from_secs(20);

async fn pair(size: usize) -> (Host, Arc<Pool>) {
    let host = host().await;
    let pool = Pool::new(&host, program("place", "zygote"), host.native_launcher(), size).unwrap();
    (host, pool)
}

fn spawn(host: &Host, pool: &Arc<Pool>, spec: SpawnSpec) -> ProcRef {
    let launcher: Arc<Pool> = Arc::clone(pool);
    host.spawn(spec, launcher).unwrap()
}

fn place_of(pool: &Pool, proc_: &ProcRef) -> ProcId {
    pool.launched_in(proc_.id()).unwrap()
}

#[tokio::test]
async fn each_proc_has_a_place_that_was_there_before_and_ends_with_it() {
    let (host, pool) = pair(2).await;
    soon(pool.warm()).await.unwrap();
    let mut names: Vec<_> = host.live().into_keys().collect();
    names.sort();
    assert_eq!(names, ["place-1", "place-2"]);
    let procs = [3, 4].map(|code| {
        let text = format!("echo it is {code}; read line < /dev/null; exit {code}");
        (code, spawn(&host, &pool, script(&format!("p{code}"), &text)))
    });
    for (code, proc_) in &procs {
        let exit = soon(proc_.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code: *code }, "{}", exit.verdict);
        assert_eq!(exit.stdout_tail, [format!("it is {code}")]);
        assert_eq!(exit.launcher, "pool@native");
        let place = exit.certificate.launched_in.clone().unwrap();
        assert!(["place-1", "place-2"].contains(&place.name()), "{place}");
        assert!(!host.lives(&place), "its end is in the exit");
        pool.kill(proc_.id()).await.unwrap();
    }
    soon(pool.warm()).await.unwrap();
    within(WHILE, "two wait again", || host.live().len() == 2).await;
    soon(pool.close()).await;
    assert!(host.live().is_empty());
    let refused = soon(spawn(&host, &pool, script("late", "exit 0")).ended()).await;
    assert!(refused.verdict.contains("it was closed"), "{}", refused.verdict);
    shut_down(host).await;
}

#[tokio::test]
async fn a_place_whose_launch_never_came_is_had_by_the_next() {
    let (host, pool) = pair(1).await;
    let admission = soon(pool.admit()).await.unwrap();
    let place = "place-1";
    drop(admission);
    let proc_ = spawn(&host, &pool, script("p", "exec sleep 1000"));
    soon(proc_.ready()).await.unwrap();
    assert_eq!(place_of(&pool, &proc_).name(), place);
    soon(proc_.kill("a test")).await.unwrap();
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    shut_down(host).await;
}

#[tokio::test]
async fn no_more_places_wait_than_were_asked_for_however_many_launches_never_came() {
    let (host, pool) = pair(1).await;
    for _ in 0..2 {
        let admissions = [soon(pool.admit()).await.unwrap(), soon(pool.admit()).await.unwrap()];
        drop(admissions);
    }
    let proc_ = spawn(&host, &pool, script("p", "exec sleep 1000"));
    soon(proc_.ready()).await.unwrap();
    within(WHILE, "it has a place, and one waits", || host.live().len() == 3).await;
    shut_down(host).await;
}

#[tokio::test]
async fn a_place_that_has_ended_while_it_waited_is_nobodys() {
    let (host, pool) = pair(1).await;
    soon(pool.warm()).await.unwrap();
    let all = Snapshot::take().unwrap();
    let below = all.descendants([std::process::id()]);
    below.into_iter().filter(|process| process.marker().is_some()).for_each(|process| process.signal(9));
    within(WHILE, "it has ended", || host.live().is_empty()).await;
    let proc_ = spawn(&host, &pool, script("p", "exit 3"));
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 3 }, "{}", exit.verdict);
    assert_eq!(exit.certificate.launched_in.clone().unwrap().name(), "place-2");
    shut_down(host).await;
}

#[tokio::test]
async fn a_place_that_ends_loses_its_proc_and_no_other() {
    let (host, pool) = pair(1).await;
    let [one, other] = ["one", "other"].map(|name| spawn(&host, &pool, script(name, "exec sleep 1000")));
    soon(one.ready()).await.unwrap();
    soon(other.ready()).await.unwrap();
    let place = place_of(&pool, &one);
    assert_ne!(place, place_of(&pool, &other));
    for process in members(&place) {
        process.signal(9);
    }
    let exit = soon(one.ended()).await;
    assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{}", exit.verdict);
    assert!(exit.verdict.contains(&format!("its zygote, {place}, ended")), "{}", exit.verdict);
    assert!(host.lives(other.id()));
    shut_down(host).await;
    assert_eq!(soon(other.ended()).await.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });
}

#[tokio::test]
async fn a_proc_is_stopped_before_its_place_is() {
    let (host, pool) = pair(1).await;
    let text = "trap 'exit 6' TERM; echo up; while :; do sleep 1; done";
    let proc_ = spawn(&host, &pool, script("p", text));
    soon(proc_.ready()).await.unwrap();
    within(WHILE, "it can be asked", || proc_.output_tail(procession_host::Stream::Stdout) == ["up"]).await;
    shut_down(host).await;
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 6 }, "{}", exit.verdict);
}

#[tokio::test]
async fn where_no_place_can_be_started_a_launch_says_why() {
    let host = host().await;
    let nowhere = SpawnSpec::new("place", BootstrapCommand::new("/nowhere/at/all"));
    let pool = Pool::new(&host, nowhere.clone(), host.native_launcher(), 1).unwrap();
    let exit = soon(spawn(&host, &pool, script("p", "exit 0")).ended()).await;
    assert!(exit.verdict.contains("LauncherUnavailable") && exit.verdict.contains("/nowhere/at/all"));
    let refused = Pool::new(&host, nowhere, host.native_launcher(), 0).unwrap_err();
    assert_eq!(refused.field, "size");
    soon(pool.close()).await;
    shut_down(host).await;
}
