//! Supervising a child of this very process.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{lives, open_fds, within, zombies};
use procession_launch::ProcLauncherError;
use procession_launch_local::supervised::{Stream, Supervised, SupervisedSpec};
use procession_model::ProcExitKind;
use procession_sys::{Pidfd, Process, Snapshot};

const KILLED: ProcExitKind = ProcExitKind::Signaled { signal: libc::SIGKILL, core_dumped: false };
const SECOND: Duration = Duration::from_secs(1);

fn shell(script: &str) -> SupervisedSpec {
    SupervisedSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        tail_lines: 100,
        ..SupervisedSpec::default()
    }
}

/// A child and a receiver of its output, line by line.
async fn start(script: &str) -> (Supervised, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
    let sink = move |stream, bytes: &[u8]| {
        // A shell may say on the other one what ended.
        if stream == Stream::Stderr {
            return;
        }
        for line in String::from_utf8(bytes.to_vec()).unwrap().lines() {
            let _ = sender.send(line.to_owned());
        }
    };
    let child =
        Supervised::spawn(SupervisedSpec { sink: Some(Box::new(sink)), ..shell(script) }).await.unwrap();
    (child, lines)
}

fn children() -> usize {
    Snapshot::take().unwrap().descendants([std::process::id()]).len()
}

#[tokio::test]
async fn its_exit_and_both_tails_arrive_however_many_wait() {
    let child =
        Supervised::spawn(shell("echo one; echo two; echo problem >&2; printf last; exit 3")).await.unwrap();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let child = child.clone();
            tokio::spawn(async move { child.wait().await })
        })
        .collect();
    for waiter in waiting {
        let exit = waiter.await.unwrap();
        assert_eq!(exit.kind, ProcExitKind::Exited { code: 3 });
        assert_eq!(exit.stdout_tail.unwrap(), ["one", "two", "last"]);
        assert_eq!(exit.stderr_tail.unwrap(), ["problem"]);
    }
    assert_eq!(child.wait().await.kind, ProcExitKind::Exited { code: 3 });
    child.kill().await.unwrap();
    child.terminate(SECOND).await.unwrap();
    assert_eq!(children(), 0, "no process and no zombie is left");
}

#[tokio::test]
async fn last_words_are_never_lost() {
    for round in 0..200 {
        let script = format!(
            "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; echo word {round} >&2; kill -9 $$"
        );
        let exit = Supervised::spawn(shell(&script)).await.unwrap().wait().await;
        assert_eq!(exit.kind, KILLED);
        assert_eq!(exit.stderr_tail.unwrap(), [format!("word {round}")]);
        assert_eq!(exit.stdout_tail.unwrap().last().unwrap(), "line 49");
    }
}

#[tokio::test]
async fn the_sink_sees_every_byte_of_a_large_output() {
    let count = Arc::new(Mutex::new(0_usize));
    let seen = count.clone();
    let sink = move |_, bytes: &[u8]| *seen.lock().unwrap() += bytes.len();
    let spec = SupervisedSpec { sink: Some(Box::new(sink)), ..shell("head -c 100000000 /dev/zero; exit 0") };
    let start = Instant::now();
    let exit = Supervised::spawn(spec).await.unwrap().wait().await;
    println!("100 MB in {:?}", start.elapsed());
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
    assert_eq!(*count.lock().unwrap(), 100_000_000);
}

#[tokio::test]
async fn a_sink_that_panics_costs_its_output_and_nothing_else() {
    let sink = |_, _: &[u8]| panic!("a bad sink, on purpose");
    let spec = SupervisedSpec { sink: Some(Box::new(sink)), ..shell("echo one; echo two >&2; exit 2") };
    let exit = Supervised::spawn(spec).await.unwrap().wait().await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 2 });
    assert_eq!(
        (exit.stdout_tail.unwrap(), exit.stderr_tail.unwrap()),
        (vec!["one".to_owned()], vec!["two".to_owned()])
    );
}

#[tokio::test]
async fn a_grandchild_that_holds_and_floods_the_output_delays_nothing_and_is_killed() {
    let (child, mut lines) = start("setsid sh -c 'echo $$; while :; do echo flood; done' & sleep 1000").await;
    let holder = Process::look(lines.recv().await.unwrap().parse().unwrap()).unwrap();
    Pidfd::open(child.pid()).unwrap().signal(libc::SIGTERM).unwrap();
    let start = Instant::now();
    assert!(matches!(child.wait().await.kind, ProcExitKind::Signaled { signal: libc::SIGTERM, .. }));
    while lives(&holder) {
        assert!(start.elapsed() < 10 * SECOND, "the holder is killed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn kill_reaches_daemons_and_leaves_no_zombie_here() {
    let (child, mut lines) =
        start("setsid sh -c 'sleep 1000 & setsid sh -c \"echo $$ && exec sleep 1000\" & exit' ; sleep 1000")
            .await;
    lines.recv().await.unwrap();
    child.kill().await.unwrap();
    assert_eq!(child.wait().await.kind, KILLED);
    assert_eq!(children(), 0, "no process and no zombie is left");
}

#[tokio::test]
async fn terminate_asks_and_escalates_when_its_time_is_over() {
    let (polite, mut lines) = start("trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done").await;
    assert_eq!(lines.recv().await.unwrap(), "up");
    polite.terminate(60 * SECOND).await.unwrap();
    assert_eq!(polite.wait().await.kind, ProcExitKind::Exited { code: 5 });

    let (stubborn, mut lines) = start("trap '' TERM; echo up; while :; do sleep 0.01; done").await;
    assert_eq!(lines.recv().await.unwrap(), "up");
    let start = Instant::now();
    // The earlier deadline of two counts.
    let longer = tokio::spawn({
        let stubborn = stubborn.clone();
        async move { stubborn.terminate(600 * SECOND).await }
    });
    stubborn.terminate(SECOND / 5).await.unwrap();
    assert!(start.elapsed() >= SECOND / 5 && start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
    assert_eq!(stubborn.wait().await.kind, KILLED);
    longer.await.unwrap().unwrap();
    assert_eq!(children(), 0);
}

mod f23 {
    use super::*;

    #[tokio::test]
    async fn a_stolen_status_is_lost_and_never_invented() {
        let child = Supervised::spawn(shell("exit 7")).await.unwrap();
        // Nothing of the runtime runs until this has taken what is not its own.
        within(SECOND, "the status is stolen", || procession_sys::reap_child(child.pid()).unwrap().is_some());
        let ProcExitKind::Lost { reason } = child.wait().await.kind else {
            panic!("nobody can know the status")
        };
        assert!(reason.contains("waitpid(-1)") && reason.contains("SIGCHLD"), "{reason}");
    }

    #[tokio::test]
    async fn an_ignored_sigchld_makes_a_status_lost_and_never_zero() {
        procession_sys::ignore_signal(libc::SIGCHLD).unwrap();
        let exit = Supervised::spawn(shell("exit 7")).await.unwrap().wait().await;
        assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{:?}", exit.kind);
    }
}

#[tokio::test]
async fn children_that_others_wait_for_are_left_alone() {
    let mut other = Command::new("/bin/sh").args(["-c", "exit 9"]).spawn().unwrap();
    let (child, mut lines) = start("echo up; sleep 1000").await;
    lines.recv().await.unwrap();
    child.kill().await.unwrap();
    assert_eq!(other.wait().unwrap().code(), Some(9));
}

#[tokio::test]
async fn what_cannot_run_is_refused_at_once() {
    let spec = SupervisedSpec { program: "/no/such/program".into(), ..shell("") };
    assert!(matches!(Supervised::spawn(spec).await, Err(ProcLauncherError::Launch(_))));
    assert_eq!(children(), 0);
}

#[tokio::test]
async fn a_hundred_children_leave_no_descriptor_and_no_zombie() {
    Supervised::spawn(shell("exit 0")).await.unwrap().kill().await.unwrap();
    let before = open_fds();
    for _ in 0..100 {
        let child = Supervised::spawn(shell("exit 0")).await.unwrap();
        child.wait().await;
        child.kill().await.unwrap();
    }
    assert_eq!(open_fds(), before);
    assert_eq!(zombies(), 0);
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_leaves_nothing() {
    let (mut given_up, mut done) = (0, 0);
    // Given up at every moment of a start: looked up, made, executing.
    for patience in (0..100).map(|step| Duration::from_micros(step * step)) {
        tokio::select! {
            biased;
            child = Supervised::spawn(shell("sleep 1000 & wait")) => {
                child.unwrap().kill().await.unwrap();
                done += 1;
            }
            () = async {
                let start = Instant::now();
                while start.elapsed() < patience {
                    tokio::task::yield_now().await;
                }
            } => given_up += 1,
        }
    }
    println!("{given_up} starts given up, {done} done first");
    // A later start is made after all of them.
    Supervised::spawn(shell("exit 0")).await.unwrap().kill().await.unwrap();
    within(10 * SECOND, "the starts that were given up are gone, zombies too", || children() == 0);
}

#[test]
fn a_child_and_its_group_end_with_the_runtime_that_watches_it_and_leave_no_zombie() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let grandchild = runtime.block_on(async {
        let (_child, mut lines) = start("sleep 1000 & echo $!; wait").await;
        Process::look(lines.recv().await.unwrap().parse().unwrap()).unwrap()
    });
    drop(runtime);
    within(10 * SECOND, "both are killed, and the child is reaped", || !lives(&grandchild) && zombies() == 0);
}

/// All the descriptors that this process may still have.
fn all_descriptors() -> Vec<std::fs::File> {
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role_of_a_crowded_supervisor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // It is asked, though the tree cannot be looked for; and no kill is done while a daemon may live.
        let script =
            "trap 'exit 5' TERM; setsid sh -c 'echo $$; exec sleep 1000' & while :; do sleep 0.01; done";
        let (child, mut lines) = start(script).await;
        let daemon = Process::look(lines.recv().await.unwrap().parse().unwrap()).unwrap();
        let taken = all_descriptors();
        let asked = tokio::spawn({
            let child = child.clone();
            async move { child.terminate(600 * SECOND).await }
        });
        assert_eq!(child.wait().await.kind, ProcExitKind::Exited { code: 5 });
        assert!(!asked.is_finished());
        drop(taken);
        asked.await.unwrap().unwrap();
        assert!(!lives(&daemon));

        // What SIGTERM could not reach for want of a descriptor it reaches later, and its leader once.
        let script = "trap 'echo leader' TERM; \
                      (trap 'echo child; exit' TERM; echo up; while :; do sleep 0.01; done) & \
                      while :; do sleep 0.01; done";
        let (child, mut lines) = start(script).await;
        assert_eq!(lines.recv().await.unwrap(), "up");
        let taken = all_descriptors();
        let asked = tokio::spawn({
            let child = child.clone();
            async move { child.terminate(600 * SECOND).await }
        });
        assert_eq!(lines.recv().await.unwrap(), "leader");
        drop(taken);
        assert_eq!(lines.recv().await.unwrap(), "child");
        child.kill().await.unwrap();
        asked.await.unwrap().unwrap();
        assert_eq!(lines.recv().await, None, "it was asked once");
    });
}

#[test]
fn without_descriptors_a_child_is_still_asked_and_nothing_is_said_to_be_gone() {
    let script = "ulimit -n 64; exec \"$0\" --exact role_of_a_crowded_supervisor --ignored --nocapture";
    let role = Command::new("/bin/sh").args(["-c", script]).arg(std::env::current_exe().unwrap()).output();
    let role = role.unwrap();
    assert!(role.status.success(), "{}", String::from_utf8_lossy(&role.stderr));
}

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role_of_a_supervisor() {
    // The runtime's own threads end before the child may.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let child = runtime.block_on(async { Supervised::spawn(shell("exec sleep 1000")).await.unwrap() });
    println!("child {}", child.pid());
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_child_dies_with_this_process() {
    let mut role = Command::new(std::env::current_exe().unwrap());
    role.args(["--exact", "role_of_a_supervisor", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    let mut supervisor = role.spawn().unwrap();
    let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.rsplit_once("child ")?.1.parse().ok());
    let child = Process::look(pid.expect("the child's pid")).unwrap();
    supervisor.kill().unwrap();
    within(SECOND, "the child is gone", || !lives(&child));
    supervisor.wait().unwrap();
}

#[tokio::test]
async fn it_carries_the_mark_of_the_launch_that_it_is_started_for_beside_its_own() {
    let mut spec = shell("echo $PROCESSION_LAUNCH_ID");
    spec.env.insert("PROCESSION_LAUNCH_ID".into(), "launch:session".into());
    let child = Supervised::spawn(spec).await.unwrap();
    let marks = child.wait().await.stdout_tail.unwrap().pop().unwrap();
    let marks: Vec<&str> = marks.split(':').collect();
    assert!(marks.ends_with(&["launch", "session"]) && marks.len() > 2 && marks[0].len() == 32, "{marks:?}");
}
