//! Processes that launchers without parenthood start: watched by the kernel, swept by the host.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use procession_host::{Host, ProcRef};
use procession_model::ProcExitKind;

use crate::common::{Record, host, lives, script, short, shut_down, soon, within};
use crate::puppet::{Strings, exited, puppet};

/// A process of the test's own, reaped at the end.
struct Own(Child);

impl Own {
    /// Runs `text`, and waits for the numbers of processes that it prints.
    fn run(text: &str, count: usize) -> (Self, Vec<u32>) {
        let mut child =
            Command::new("setsid").args(["-w", "sh", "-c", text]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pids = lines.take(count).map(|line| line.unwrap().trim().parse().unwrap()).collect();
        (Self(child), pids)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        self.0.wait().unwrap();
    }
}

fn launch(host: &Host, name: &str) -> (ProcRef, Strings, Record) {
    let (launcher, strings) = puppet();
    let record = Record::default();
    let mut spec = script(name, "exit 0");
    short(&mut spec.policy);
    (host.spawn_watched(spec, launcher, Some(record.observer())).unwrap(), strings, record)
}

#[tokio::test]
async fn the_end_of_a_watched_process_is_seen_without_a_report() {
    let host = host().await;
    let (proc_, strings, _) = launch(&host, "p");
    let (_own, pids) = Own::run("echo $$; exec sleep 300", 1);
    let _never_reported = strings.accept(Some(pids[0])).await;
    soon(proc_.ready()).await.unwrap();
    assert_eq!(proc_.status().pid, Some(pids[0]));
    procession_sys::Process::look(pids[0]).unwrap().signal(9);
    let exit = soon(proc_.ended()).await;
    // Until its parent takes it away its zombie tells how it ended.
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    shut_down(host).await;
}

#[tokio::test]
async fn a_report_of_a_process_that_still_lives_kills_it() {
    let host = host().await;
    let (proc_, strings, record) = launch(&host, "p");
    let (_own, pids) = Own::run("echo $$; sleep 300 & echo $!; wait", 2);
    strings.accept(Some(pids[0])).await.send(exited(0)).unwrap();
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
    within(Duration::from_secs(5), "it and its child are killed", || pids.iter().all(|&pid| !lives(pid)))
        .await;
    assert!(record.notes().iter().any(|note| note.starts_with("early exit: ")), "{:?}", record.notes());
    shut_down(host).await;
}

#[tokio::test]
async fn what_an_ended_leader_left_in_its_session_is_swept() {
    let host = host().await;
    let (proc_, strings, _) = launch(&host, "p");
    let (_own, pids) = Own::run("echo $$; sleep 300 & echo $!; exec sleep 300", 2);
    let exit = strings.accept(Some(pids[0])).await;
    soon(proc_.ready()).await.unwrap();
    procession_sys::Process::look(pids[0]).unwrap().signal(9);
    within(Duration::from_secs(5), "the leader ends", || !lives(pids[0])).await;
    exit.send(exited(137)).unwrap();
    let killed = ProcExitKind::Signaled { signal: 9, core_dumped: false };
    assert_eq!(soon(proc_.ended()).await.kind, killed, "the kernel is believed");
    within(Duration::from_secs(5), "its child is killed", || !lives(pids[1])).await;
    shut_down(host).await;
}

#[test]
fn a_sweep_leaves_the_neighbours_in_the_same_session_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_own, neighbour) = runtime.block_on(first_of_two_is_killed());
    // It ends when all sweeps have.
    drop(runtime);
    assert!(lives(neighbour), "the neighbour was killed too");
    procession_sys::Process::look(neighbour).unwrap().signal(9);
}

/// What owns both, and the second, which nobody asked to kill.
async fn first_of_two_is_killed() -> (Own, u32) {
    let host = host().await;
    let (first, strings, _) = launch(&host, "first");
    // A launcher that gives its procs no session of their own.
    let (own, pids) = Own::run("sleep 300 & echo $!; sleep 300 & echo $!; wait", 2);
    let exit = strings.accept(Some(pids[0])).await;
    soon(first.ready()).await.unwrap();
    let asking = first.clone();
    let asked = tokio::spawn(async move { asking.kill("test").await });
    // The launcher does nothing: only the host's own sweep does.
    strings.kill().await.send(Ok(())).unwrap();
    soon(asked).await.unwrap().unwrap();
    within(Duration::from_secs(5), "the first is killed", || !lives(pids[0])).await;
    exit.send(exited(137)).unwrap();
    soon(first.ended()).await;
    shut_down(host).await;
    (own, pids[1])
}

#[tokio::test]
async fn a_number_that_cannot_be_the_procs_is_not_believed() {
    let host = host().await;
    let (first, first_strings, _) = launch(&host, "first");
    let (_own, pids) = Own::run("echo $$; exec sleep 300", 1);
    let first_exit = first_strings.accept(Some(pids[0])).await;
    soon(first.ready()).await.unwrap();

    let (second, strings, _) = launch(&host, "second");
    let exit = strings.accept(Some(std::process::id())).await;
    soon(second.ready()).await.unwrap();
    host.report(second.id(), Some(1), None, None);
    host.report(second.id(), Some(pids[0]), Some("seen".into()), None);
    within(Duration::from_secs(5), "the reports are taken", || second.status().handle.is_some()).await;
    assert_eq!(second.status().pid, None);
    exit.send(exited(0)).unwrap();
    soon(second.ended()).await;
    assert!(lives(pids[0]), "another proc's process is left alone");
    first_exit.send(exited(0)).unwrap();
    soon(first.ended()).await;
    shut_down(host).await;
}
