//! The end of a host, however it comes: nothing is left, and everybody learns it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use procession_host::Stream;
use procession_model::{ProcExitKind, ProcId, Verdict};
use procession_sys::{Process, Snapshot};

use crate::common::{
    Record, host, line, lives, members, program, run_dirs, script, short, shut_down, soon, spawn, within,
};
use crate::puppet::puppet;

fn children() -> Vec<Process> {
    let all = Snapshot::take().unwrap();
    all.all().iter().filter(|process| process.parent == std::process::id()).cloned().collect()
}

async fn nothing_is_left(procs: &[&ProcId]) {
    for id in procs {
        within(Duration::from_secs(5), "the proc is gone", || members(id).is_empty()).await;
    }
    within(Duration::from_secs(5), "the keeper is gone, and reaped", || children().is_empty()).await;
    assert_eq!(run_dirs(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_shutdown_leaves_no_process_no_socket_and_no_directory() {
    let host = host().await;
    let polite = spawn(&host, program("polite", "proc"));
    let stubborn =
        spawn(&host, script("stubborn", "trap '' TERM; echo armed; echo; while :; do sleep 0.1; done"));
    soon(polite.ready()).await.unwrap();
    assert_eq!(line(&stubborn, 0).await, "armed");
    assert_eq!((run_dirs().len(), children().len()), (1, 1));
    soon(host.shutdown(Duration::from_secs(2))).await;
    assert_eq!(soon(polite.ended()).await.kind, ProcExitKind::Exited { code: 0 });
    assert_eq!(soon(stubborn.ended()).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    nothing_is_left(&[polite.id(), stubborn.id()]).await;

    let late = spawn(&host, script("late", "exit 0"));
    let exit = soon(late.ended()).await;
    assert!(matches!(&exit.kind, ProcExitKind::Failed { reason } if reason.starts_with("ShuttingDown")));
    soon(host.shutdown(Duration::from_secs(2))).await;
    nothing_is_left(&[]).await;
}

#[tokio::test]
async fn two_shutdowns_at_once_are_one() {
    let host = host().await;
    let proc_ = spawn(&host, program("p", "proc"));
    soon(proc_.ready()).await.unwrap();
    let other = host.clone();
    let (first, second) = (host.shutdown(Duration::from_secs(5)), other.shutdown(Duration::from_secs(5)));
    soon(async { tokio::join!(first, second) }).await;
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 0 });
    nothing_is_left(&[proc_.id()]).await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever_for_what_cannot_be_killed() {
    let host = host().await;
    let (launcher, strings) = puppet();
    let proc_ = host.spawn(script("p", "exit 0"), launcher).unwrap();
    let _never_reported = strings.accept(None).await;
    soon(proc_.ready()).await.unwrap();
    let start = Instant::now();
    soon(host.shutdown(Duration::from_millis(200))).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    nothing_is_left(&[]).await;
}

#[tokio::test]
async fn a_host_that_is_dropped_takes_its_procs_and_its_directory_with_it() {
    let host = host().await;
    let proc_ = spawn(&host, script("p", "setsid sleep 300 & echo up; echo; wait"));
    line(&proc_, 0).await;
    drop(host);
    assert_eq!(run_dirs(), Vec::<PathBuf>::new());
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.verdict, "stopped by us (host: it was dropped without a shutdown): signal 9 (SIGKILL)");
    nothing_is_left(&[proc_.id()]).await;
}

#[test]
fn a_runtime_that_ends_ends_the_procs_and_all_who_wait_learn_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let record = Record::default();
    let (host, proc_) = runtime.block_on(async {
        let host = host().await;
        let spec = script("p", "echo up; echo; exec sleep 300");
        let proc_ = host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap();
        line(&proc_, 0).await;
        (host, proc_)
    });
    drop(runtime);
    let exit = proc_.exit().expect("the end of the runtime is its end");
    assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{}", exit.kind);
    assert_eq!(exit.certificate.verdict, Verdict::HostLost);
    assert!(exit.verdict.starts_with("host lost: "), "{}", exit.verdict);
    assert_eq!(record.exits(), 1);
    // From any runtime, and after the fact.
    let another = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(another.block_on(proc_.ended()), exit);
    another.block_on(proc_.kill("late")).unwrap();
    assert!(!proc_.output_tail(Stream::Stdout).is_empty());
    drop(host);
    another.block_on(nothing_is_left(&[proc_.id()]));
}

#[test]
fn a_host_may_be_dropped_where_there_is_no_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (host, proc_) = runtime.block_on(async {
        let host = host().await;
        let proc_ = spawn(&host, script("p", "exec sleep 300"));
        soon(proc_.ready()).await.unwrap();
        (host, proc_)
    });
    drop(host);
    assert_eq!(run_dirs(), Vec::<PathBuf>::new());
    let exit = runtime.block_on(soon(proc_.ended()));
    assert!(exit.verdict.starts_with("stopped by us (host"), "{}", exit.verdict);
    runtime.block_on(nothing_is_left(&[proc_.id()]));
}

#[tokio::test]
async fn what_a_dead_host_left_is_taken_away_by_the_next_and_what_a_live_one_has_is_not() {
    let live = host().await;
    let dead = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dead = dead.join(format!("procession-{}", &procession_model::LaunchId::fresh().to_string()[..16]));
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("lock"), "").unwrap();
    let next = host().await;
    assert!(!dead.exists());
    assert_eq!(run_dirs().len(), 2);
    let proc_ = spawn(&live, program("p", "proc"));
    soon(proc_.ready()).await.unwrap();
    shut_down(live).await;
    shut_down(next).await;
    nothing_is_left(&[proc_.id()]).await;
}

mod f34 {
    use super::*;

    #[tokio::test]
    async fn five_hundred_procs_come_and_go() {
        let host = host().await;
        let start = Instant::now();
        let procs: Vec<_> =
            (0..500).map(|n| spawn(&host, script(&format!("p{n}"), "exec sleep 300"))).collect();
        for proc_ in &procs {
            tokio::time::timeout(Duration::from_secs(60), proc_.ready()).await.unwrap().unwrap();
        }
        let started = start.elapsed();
        let pids: Vec<_> = procs.iter().map(|proc_| proc_.status().pid.unwrap()).collect();
        tokio::time::timeout(Duration::from_secs(60), host.shutdown(Duration::from_secs(20))).await.unwrap();
        println!("500 started in {started:?}, ended in {:?}", start.elapsed() - started);
        for proc_ in &procs {
            let exit = proc_.exit().unwrap();
            assert!(exit.verdict.starts_with("stopped by us"), "{}", exit.verdict);
        }
        assert!(!pids.into_iter().any(lives));
        nothing_is_left(&[]).await;
    }
}

#[tokio::test]
async fn a_launcher_that_hangs_keeps_no_host_alive() {
    let host = host().await;
    let (launcher, strings) = puppet();
    let mut spec = script("p", "exit 0");
    short(&mut spec.policy);
    let proc_ = host.spawn(spec, launcher).unwrap();
    let (_, _never_answered) = strings.launch().await;
    drop(host);
    let exit = soon(proc_.ended()).await;
    assert!(matches!(exit.kind, ProcExitKind::Failed { .. } | ProcExitKind::Lost { .. }), "{}", exit.kind);
    nothing_is_left(&[]).await;
}
