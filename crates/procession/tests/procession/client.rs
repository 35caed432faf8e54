//! Clients that die, and clients that stand still.

use std::io::{BufRead, BufReader, Lines};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use procession_sys::{Pidfd, Process, Snapshot};

use procession::{Host, ProcExitKind};

use crate::common::{Add, shut_down, soon, within, worker_in};
use crate::program::client;

/// A client in a process of its own.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(role: &str, gate: Option<&Path>) -> Self {
        let mut child = client(role, gate).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing that it says.
    fn said(&mut self) -> String {
        let said = |line: String| line.split_once("## ").map(|(_, said)| said.to_owned());
        self.lines.by_ref().map(Result::unwrap).find_map(said).expect("the client says something")
    }

    /// What it says until it is up.
    fn said_until_up(&mut self) -> Vec<String> {
        std::iter::from_fn(|| Some(self.said()).filter(|said| said != "up")).collect()
    }

    fn signal(&self, signal: i32) {
        Process::look(self.child.id()).unwrap().signal(signal);
    }

    /// The guard, and the keeper below it.
    fn helpers(&self) -> Vec<Process> {
        let all = Snapshot::take().unwrap();
        let named = |p: &&Process| {
            let line = std::fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            [&b"procession-guard\0"[..], b"procession-keeper\0"].iter().any(|name| line.starts_with(name))
        };
        all.descendants([self.child.id()]).into_iter().filter(named).cloned().collect()
    }

    /// All that it has open: to hold them is what a fork of it does.
    fn fork_of_its_descriptors(&self) -> Vec<OwnedFd> {
        let pidfd = Pidfd::open(self.child.id()).unwrap();
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let numbers = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
        numbers.filter(|&number| number > 2).map(|number| pidfd.duplicate(number).unwrap()).collect()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn lives(process: &Process) -> bool {
    Process::look(process.pid).is_ok_and(|now| now.started == process.started && now.is_alive())
}

/// What lives of launches, wherever it went.
fn members(launches: &[String]) -> usize {
    let all = Snapshot::take().unwrap();
    let ours = |p: &&Process| p.is_alive() && launches.iter().any(|launch| p.belongs_to(launch));
    all.all().iter().filter(ours).count()
}

fn nothing_outlives_a_killed_client(forked: bool) {
    let mut client = Client::start("native client", None);
    let launches: Vec<_> =
        client.said_until_up().iter().map(|said| said.strip_prefix("launch ").unwrap().to_owned()).collect();
    assert_eq!(launches.len(), 2);
    within(Duration::from_secs(10), "both trees are complete", || members(&launches) >= 6);
    let helpers = client.helpers();
    assert_eq!(helpers.len(), 2);
    let fork = if forked { client.fork_of_its_descriptors() } else { Vec::new() };
    assert_eq!(fork.is_empty(), !forked);
    client.kill();
    let took = within(Duration::from_secs(10), "the trees are gone", || members(&launches) == 0);
    within(Duration::from_secs(10), "keeper and guard are gone", || !helpers.iter().any(lives));
    println!("all gone after {took:?}");
}

#[test]
fn nothing_outlives_a_client_that_is_killed() {
    nothing_outlives_a_killed_client(false);
}

#[test]
fn nothing_outlives_a_client_that_is_killed_when_it_has_forked() {
    nothing_outlives_a_killed_client(true);
}

fn an_unkept_proc_ends_itself(forked: bool) {
    let mut client = Client::start("claiming client", None);
    let pid = client.said_until_up()[0].strip_prefix("pid ").unwrap().parse().unwrap();
    let proc_ = Process::look(pid).unwrap();
    let _fork = if forked { client.fork_of_its_descriptors() } else { Vec::new() };
    assert!(lives(&proc_));
    client.kill();
    let took = within(Duration::from_secs(10), "the proc ends itself", || !lives(&proc_));
    println!("gone after {took:?}");
}

#[test]
fn a_proc_that_nobody_keeps_ends_itself_with_its_client_whatever_its_actors_do() {
    an_unkept_proc_ends_itself(false);
}

#[test]
fn a_proc_that_nobody_keeps_ends_itself_when_its_client_has_forked() {
    an_unkept_proc_ends_itself(true);
}

#[tokio::test]
async fn the_next_host_of_a_directory_finds_the_procs_that_outlived_the_last_one_and_their_actors() {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let directory = place.path().join("host");
    let mut client = Client::start("leaving client", Some(&directory));
    let before = client.said_until_up()[0].strip_prefix("proc ").unwrap().to_owned();
    client.kill();

    let (host, inherited) = Host::start_in(&directory).await.unwrap();
    let [slot] = &inherited.groups.concat()[..] else { panic!("{:?}", inherited.groups) };
    let proc_ = slot.current();
    assert_eq!((proc_.id().to_string(), inherited.ended.len()), (before, 0));
    let cx = host.proc_().instance();
    let (port, sum) = cx.mailbox().open_once_port();
    // It waits until the proc has found this host.
    worker_in(&host, &proc_).send(&cx, Add(1, 2, port.bind())).unwrap();
    assert_eq!(soon(sum.recv()).await.unwrap(), 3);
    soon(slot.ready()).await.unwrap();
    let exit = soon(slot.stop("the test is over", None)).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 }, "{exit:?}");
    shut_down(host).await;
    let left: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_common =
        |name: &std::ffi::OsString| name.to_str().unwrap().starts_with(['l', 'f', 'n']) && name != "lock";
    assert!(!left.iter().any(is_common), "{left:?}");
}

#[test]
fn a_client_that_stood_still_does_not_blame_its_procs() {
    let place = tempfile::tempdir().unwrap();
    let gate = place.path().join("open");
    let mut client = Client::start("slow client", Some(&gate));
    assert!(client.said_until_up().is_empty());
    client.signal(19);
    std::fs::write(&gate, "").unwrap();
    // Longer than the ready deadline, from any moment at which it can have begun.
    let stopped = Instant::now();
    within(Duration::from_secs(10), "the deadline passes", || {
        stopped.elapsed() > Duration::from_millis(4500)
    });
    client.signal(18);
    assert_eq!(client.said(), "ready");
    assert_eq!(client.said(), "done");
    client.kill();
}
