//! Procs that outlive their host: their output, their ends, and the next host that takes them over.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{Failpoints, Running, fresh, lives, members, shell, within};
use procession_launch::{LaunchResult, ProcLauncher, StdioHandling};
use procession_launch_local::NativeLauncher;
use procession_model::{InvalidArgument, LaunchOptions, OutputFiles, ProcExitKind, ProcId};
use procession_sys::{self as sys, LogFile, Pidfd, Process, Rotation, Snapshot};
use tokio::net::unix::pipe::Receiver;

const BOUND: Duration = Duration::from_secs(30);
const KILLED: ProcExitKind = ProcExitKind::Signaled { signal: libc::SIGKILL, core_dumped: false };
/// Leaves a daemon in a session of its own, and waits for a file called `go`.
const DAEMON: &str = "setsid sh -c 'sleep 1000 &'; ";
const WAITS: &str = "touch up; while [ ! -e go ]; do sleep 0.01; done; ";

/// A state directory, in which procs work too; nothing of it outlives the test.
struct State(tempfile::TempDir);

impl State {
    fn new() -> Self {
        let state = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o700)).unwrap();
        state
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn has(&self, name: &str) {
        within(BOUND, name, || self.path().join(name).exists());
    }

    fn put(&self, name: &str) {
        fs::write(self.path().join(name), "").unwrap();
    }

    /// Its keepers and guards that live, by name.
    fn helpers(&self, name: &str) -> Vec<Process> {
        let ours = |p: &&Process| {
            let line = fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            let mut words = line.split(|&byte| byte == 0);
            words.next() == Some(name.as_bytes())
                && words.any(|word| word == self.path().as_os_str().as_encoded_bytes())
        };
        Snapshot::take().unwrap().all().iter().filter(|p| p.is_alive()).filter(ours).cloned().collect()
    }

    fn helper(&self, name: &str) -> Process {
        let mut found = Vec::new();
        within(BOUND, name, || {
            found = self.helpers(name);
            !found.is_empty()
        });
        found.remove(0)
    }

    fn keeper(&self) -> Process {
        self.helper("procession-keeper")
    }

    fn guard(&self) -> Process {
        self.helper("procession-guard")
    }

    fn has_no_helpers(&self) {
        within(BOUND, "keeper and guard have ended", || {
            self.helpers("procession-keeper").is_empty() && self.helpers("procession-guard").is_empty()
        });
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join("logs").join(name)
    }

    /// A detached launch that works in this directory.
    fn detached(&self, script: &str, rotation: Rotation) -> LaunchOptions {
        let mut options = shell(script);
        options.command.cwd = Some(self.path().to_owned());
        options.detach = true;
        let Rotation { max_bytes, keep } = rotation;
        options.output =
            Some(OutputFiles { stdout: self.file("out"), stderr: self.file("err"), max_bytes, keep });
        options
    }

    fn simple(&self, script: &str) -> LaunchOptions {
        self.detached(script, Rotation { max_bytes: None, keep: 0 })
    }

    /// All of stdout, the earlier files first.
    fn stdout(&self, keep: u32) -> Vec<u8> {
        let earlier = (1..=keep).rev().map(|number| self.file(&format!("out.{number}")));
        earlier.chain([self.file("out")]).filter_map(|path| fs::read(path).ok()).flatten().collect()
    }

    fn launcher(&self) -> NativeLauncher {
        NativeLauncher::start_in(self.path(), |_| ()).unwrap()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for name in ["procession-guard", "procession-keeper"] {
            self.helpers(name).iter().for_each(|helper| {
                let all = Snapshot::take().unwrap();
                all.descendants([helper.pid]).iter().for_each(|process| process.signal(libc::SIGKILL));
                helper.signal(libc::SIGKILL);
            });
        }
    }
}

/// What a host does with the output of a proc with files.
fn splice(path: PathBuf, rotation: Rotation, pipe: Receiver) -> std::thread::JoinHandle<()> {
    let pipe = pipe.into_nonblocking_fd().unwrap();
    std::thread::spawn(move || {
        let (mut log, mut buffer) = (LogFile::new(path, rotation), vec![0; 1 << 16]);
        loop {
            sys::poll(&mut [sys::Watch::readable(pipe.as_fd())], None).unwrap();
            match log.take(pipe.as_fd(), &mut buffer) {
                Ok(taken) if taken.bytes == 0 => return,
                Ok(taken) => assert!(taken.failure.is_none()),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    })
}

fn pipes(stdio: StdioHandling) -> [Receiver; 2] {
    let StdioHandling::Pipes { stdout, stderr } = stdio else { panic!("there are no pipes") };
    [stdout, stderr]
}

async fn end(launched: LaunchResult) -> procession_model::ProcExitResult {
    tokio::time::timeout(BOUND, launched.exit_rx).await.expect("an exit in time").expect("one exit")
}

#[test]
#[ignore = "a role that other tests play in a process of its own"]
fn role_of_a_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options: LaunchOptions = options_of(&std::env::var("OPTIONS").unwrap());
    let directory = PathBuf::from(std::env::var("DIRECTORY").unwrap());
    runtime.block_on(async {
        let launcher = NativeLauncher::start_in(&directory, |_| ()).unwrap();
        let mut sibling = Running::start(&launcher, shell("echo up; sleep 1000")).await;
        sibling.line().await;
        let id = fresh();
        let OutputFiles { stdout, max_bytes, keep, .. } = options.output.clone().unwrap();
        let launched = launcher.launch(&id, options).await.unwrap();
        println!("\nsibling {}", sibling.id);
        println!("pid {}", launched.pid.unwrap());
        println!("proc {id}");
        let [out, _err] = pipes(launched.stdio);
        splice(stdout, Rotation { max_bytes, keep }, out);
        let _until_the_test_says_so = std::io::stdin().read_to_end(&mut Vec::new());
        drop(launcher);
    });
}

/// Plain words, so that no format is needed: the script, the directory, the rotation.
fn words_of(options: &LaunchOptions) -> String {
    let output = options.output.as_ref().unwrap();
    format!("{}\n{}\n{}", output.keep, output.max_bytes.unwrap_or(0), options.command.args[1])
}

fn options_of(words: &str) -> LaunchOptions {
    let mut parts = words.splitn(3, '\n');
    let keep = parts.next().unwrap().parse().unwrap();
    let max_bytes = Some(parts.next().unwrap().parse().unwrap()).filter(|&max| max > 0);
    let mut options = shell(parts.next().unwrap());
    let directory = PathBuf::from(std::env::var("DIRECTORY").unwrap());
    let file = |name: &str| directory.join("logs").join(name);
    options.output = Some(OutputFiles { stdout: file("out"), stderr: file("err"), max_bytes, keep });
    options.command.cwd = Some(directory);
    options.detach = true;
    options
}

/// A host in a process of its own that has launched one detached proc, and one that is not.
struct Host {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    id: ProcId,
    sibling: ProcId,
    leader: Process,
}

impl Host {
    fn start(state: &State, options: &LaunchOptions) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "role_of_a_host", "--ignored", "--nocapture"])
            .env("OPTIONS", words_of(options))
            .env("DIRECTORY", state.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut sibling, mut pid, mut id) = (None, None, None);
        for line in stdout.by_ref().lines() {
            let line = line.unwrap();
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("sibling", text) => sibling = text.parse().ok(),
                ("pid", text) => pid = text.parse().ok(),
                ("proc", text) => {
                    id = text.parse().ok();
                    break;
                }
                _ => {}
            }
        }
        let leader = Process::look(pid.expect("the host has launched")).unwrap();
        Self { child, _stdout: stdout, id: id.unwrap(), sibling: sibling.unwrap(), leader }
    }

    /// SIGKILL; returns when all is gone that is not detached.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        within(BOUND, "what is not detached is gone", || members(&self.sibling).is_empty());
    }

    fn leader(&self) -> Option<(u32, u64)> {
        Some((self.leader.pid, self.leader.started))
    }
}

fn numbers(to: u64) -> Vec<u8> {
    (0..=to).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[tokio::test]
async fn output_is_whole_though_the_host_is_killed_in_the_middle_of_a_flood_and_another_takes_over() {
    let state = State::new();
    let options = state.simple(
        "seq 0 400000; touch written; while [ ! -e go ]; do sleep 0.01; done; seq 400001 400100; exit 7",
    );
    let mut host = Host::start(&state, &options);
    within(BOUND, "the flood has begun", || {
        fs::metadata(state.file("out")).is_ok_and(|meta| meta.len() > 100_000)
    });
    host.kill();
    assert!(lives(&host.leader), "what is detached lives on");
    state.has("written");
    let launcher = state.launcher();
    let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
    assert_eq!(adopted.pid, Some(host.leader.pid));
    assert!(adopted.started_at.elapsed().unwrap() < Duration::from_secs(120));
    let [out, _err] = pipes(adopted.stdio);
    let reader = splice(state.file("out"), Rotation { max_bytes: None, keep: 0 }, out);
    state.put("go");
    let exit = tokio::time::timeout(BOUND, adopted.exit_rx).await.unwrap().unwrap();
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 7 });
    reader.join().unwrap();
    assert!(state.stdout(0) == numbers(400_100), "every line once, in order");
    launcher.shutdown().await;
    state.has_no_helpers();
}

#[tokio::test]
async fn files_are_rotated_while_no_host_lives_as_before() {
    let state = State::new();
    let rotation = Rotation { max_bytes: Some(4000), keep: 100 };
    let options = state
        .detached(&format!("seq 0 1000; {WAITS} seq 1001 20000; touch written; exec sleep 1000"), rotation);
    let mut host = Host::start(&state, &options);
    state.has("up");
    host.kill();
    state.put("go");
    state.has("written");
    within(BOUND, "it is all in the files", || state.stdout(100).len() == numbers(20_000).len());
    assert!(state.stdout(100) == numbers(20_000), "every line once, in order");
    assert!((0..=9).all(|number| {
        fs::metadata(state.file(&format!("out.{}", number + 1))).is_ok_and(|meta| meta.len() == 4000)
    }));
    state.launcher().shutdown().await;
    assert!(members(&host.id).is_empty(), "a shutdown ends what is detached too");
    state.has_no_helpers();
}

#[tokio::test]
async fn how_a_proc_ended_is_known_that_died_while_no_host_lived() {
    for (last, kind) in [
        ("exit 3", ProcExitKind::Exited { code: 3 }),
        ("kill -USR1 $$", ProcExitKind::Signaled { signal: libc::SIGUSR1, core_dumped: false }),
    ] {
        let state = State::new();
        let options = state.simple(&format!("{DAEMON}{WAITS} echo last; {last}"));
        let mut host = Host::start(&state, &options);
        state.has("up");
        host.kill();
        let before = SystemTime::now();
        state.put("go");
        state.has_no_helpers();
        let after = SystemTime::now();
        assert!(members(&host.id).is_empty(), "what it left is ended");
        assert_eq!(state.stdout(0), b"last\n");
        let mode = fs::metadata(state.path().join("exits")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let launcher = state.launcher();
        let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
        assert_eq!(adopted.pid, Some(host.leader.pid));
        let exit = end(adopted).await;
        assert_eq!(exit.kind, kind);
        assert!((before..=after).contains(&exit.ended_at.unwrap()));
        assert_ne!(exit.oom, Some(true));
        launcher.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_end_is_written_down_also_while_a_host_lives() {
    let state = State::new();
    let launcher = state.launcher();
    let id = fresh();
    let launched = launcher.launch(&id, state.simple("exit 5")).await.unwrap();
    let pid = launched.pid;
    assert_eq!(end(launched).await.kind, ProcExitKind::Exited { code: 5 });
    drop(launcher);
    state.has_no_helpers();
    let launcher = state.launcher();
    let adopted = launcher.adopt(&id, &state.simple("exit 5"), None).await.unwrap();
    assert_eq!(adopted.pid, pid);
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 5 });
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_proc_that_was_taken_over_is_terminated_and_killed_with_its_tree() {
    for kill in [false, true] {
        let state = State::new();
        let options = state.simple(&format!("trap 'exit 9' TERM; {DAEMON}{WAITS}"));
        let mut host = Host::start(&state, &options);
        state.has("up");
        host.kill();
        let launcher = state.launcher();
        let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
        assert!(members(&host.id).len() >= 2, "its daemon lives too");
        if kill {
            launcher.kill(&host.id).await.unwrap();
            assert!(members(&host.id).is_empty());
        } else {
            launcher.terminate(&host.id, BOUND).await.unwrap();
        }
        let expected = if kill { KILLED } else { ProcExitKind::Exited { code: 9 } };
        assert_eq!(end(adopted).await.kind, expected);
        within(BOUND, "nothing of it is left", || members(&host.id).is_empty());
        let again = fresh();
        let launched = launcher.launch(&again, state.simple("exit 4")).await.unwrap();
        assert_eq!(
            end(launched).await.kind,
            ProcExitKind::Exited { code: 4 },
            "its keeper launches as before"
        );
        launcher.shutdown().await;
        state.has_no_helpers();
    }
}

#[tokio::test]
async fn a_guard_goes_on_for_a_keeper_that_dies_while_no_host_lives() {
    let state = State::new();
    let options = state.simple(&format!("{DAEMON} seq 0 1000; {WAITS} seq 1001 2000; touch written; while [ ! -e end ]; do sleep 0.01; done; exit 6"));
    let mut host = Host::start(&state, &options);
    state.has("up");
    let (keeper, guard) = (state.keeper(), state.guard());
    host.kill();
    keeper.signal(libc::SIGKILL);
    within(BOUND, "the proc is the guard's", || Process::look(host.leader.pid).unwrap().parent == guard.pid);
    state.put("go");
    state.has("written");
    within(BOUND, "it is all in the file", || state.stdout(0).len() == numbers(2000).len());
    assert!(state.stdout(0) == numbers(2000));
    let launcher = state.launcher();
    let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
    state.put("end");
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 6 });
    within(BOUND, "nothing of it is left", || members(&host.id).is_empty());
    let launched = launcher.launch(&fresh(), state.simple("exit 4")).await.unwrap();
    assert_eq!(end(launched).await.kind, ProcExitKind::Exited { code: 4 });
    launcher.shutdown().await;
    state.has_no_helpers();
}

#[tokio::test]
async fn a_keeper_that_dies_under_the_host_that_took_over_is_replaced_and_the_next_host_finds_its_guard() {
    let state = State::new();
    let options = state.simple(&format!("{DAEMON}{WAITS} exit 6"));
    let mut host = Host::start(&state, &options);
    state.has("up");
    host.kill();
    let launcher = state.launcher();
    let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
    let guard = state.guard();
    state.keeper().signal(libc::SIGKILL);
    within(BOUND, "the proc is the guard's", || Process::look(host.leader.pid).unwrap().parent == guard.pid);
    let launched = launcher.launch(&fresh(), state.simple("exit 4")).await;
    if let Ok(launched) = launched {
        assert_eq!(end(launched).await.kind, ProcExitKind::Exited { code: 4 });
    }
    drop((launcher, adopted));
    assert!(members(&host.id).len() >= 2, "neither it nor its daemon was touched");
    // The one that is dropped has let go when the guard has seen it.
    let mut launcher = NativeLauncher::start_in(state.path(), |_| ());
    let start = std::time::Instant::now();
    while launcher.is_err() && start.elapsed() < BOUND {
        tokio::time::sleep(Duration::from_millis(5)).await;
        launcher = NativeLauncher::start_in(state.path(), |_| ());
    }
    let launcher = launcher.unwrap();
    let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
    state.put("go");
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 6 });
    launcher.shutdown().await;
    state.has_no_helpers();
}

#[tokio::test]
async fn a_proc_that_lost_its_host_its_keeper_and_its_guard_is_still_found_and_ended() {
    for known in [true, false] {
        let state = State::new();
        let options = state.simple(&format!("{DAEMON}{WAITS}"));
        let mut host = Host::start(&state, &options);
        state.has("up");
        let (keeper, guard) = (state.keeper(), state.guard());
        guard.signal(libc::SIGSTOP);
        within(BOUND, "it is stopped", || Process::look(guard.pid).unwrap().state == 'T');
        host.kill();
        keeper.signal(libc::SIGKILL);
        guard.signal(libc::SIGKILL);
        within(BOUND, "both are gone", || !lives(&keeper) && !lives(&guard));
        let launcher = state.launcher();
        let pid = host.leader().filter(|_| known);
        let adopted = launcher.adopt(&host.id, &options, pid).await.unwrap();
        assert_eq!(adopted.pid, Some(host.leader.pid));
        launcher.kill(&host.id).await.unwrap();
        assert!(members(&host.id).is_empty());
        let kind = end(adopted).await.kind;
        assert!(kind == KILLED || matches!(kind, ProcExitKind::Lost { .. }), "{kind:?}");
        launcher.shutdown().await;
        state.has_no_helpers();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proc_that_loses_its_keeper_and_its_guard_while_its_host_lives_outlives_that_too() {
    let state = State::new();
    let launcher = state.launcher();
    let (options, id) = (state.simple(&format!("{DAEMON}{WAITS}")), fresh());
    let launched = launcher.launch(&id, options.clone()).await.unwrap();
    state.has("up");
    let leader = Process::look(launched.pid.unwrap()).unwrap();
    let (keeper, guard) = (state.keeper(), state.guard());
    guard.signal(libc::SIGSTOP);
    within(BOUND, "it is stopped", || Process::look(guard.pid).unwrap().state == 'T');
    keeper.signal(libc::SIGKILL);
    guard.signal(libc::SIGKILL);
    within(BOUND, "both are gone", || !lives(&keeper) && !lives(&guard));
    let mut other = launcher.launch(&fresh(), state.simple("exit 4")).await;
    let start = std::time::Instant::now();
    // Until the host has seen that they are gone it is told to try again.
    while other.is_err() && start.elapsed() < BOUND {
        tokio::time::sleep(Duration::from_millis(5)).await;
        other = launcher.launch(&fresh(), state.simple("exit 4")).await;
    }
    assert_eq!(end(other.unwrap()).await.kind, ProcExitKind::Exited { code: 4 });
    drop((launcher, launched));
    state.has_no_helpers();
    assert!(members(&id).len() >= 2, "neither it nor its daemon was touched");
    let launcher = state.launcher();
    let adopted = launcher.adopt(&id, &options, Some((leader.pid, leader.started))).await.unwrap();
    launcher.shutdown().await;
    assert!(members(&id).is_empty(), "a shutdown ends it as any other");
    assert!(!matches!(end(adopted).await.kind, ProcExitKind::Exited { .. }));
    state.has_no_helpers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_end_is_known_wherever_its_keeper_dies_over_it_while_no_host_lives() {
    for at in ["keeper-before-telling", "keeper-before-reaping", "keeper-after-reaping"] {
        let failpoints = Failpoints::new();
        let state = State::new();
        let launcher = state.launcher();
        let (options, id) = (state.simple(&format!("{DAEMON}{WAITS} exit 7")), fresh());
        let launched = launcher.launch(&id, options.clone()).await.unwrap();
        let pid = launched.pid;
        state.has("up");
        failpoints.arm(at);
        drop((launcher, launched));
        state.put("go");
        failpoints.reached(at).await.signal(libc::SIGKILL);
        failpoints.disarm(at);
        state.has_no_helpers();
        assert!(members(&id).is_empty(), "{at}: what it left is ended");
        let launcher = state.launcher();
        let adopted = launcher.adopt(&id, &options, None).await.unwrap();
        assert_eq!(adopted.pid, pid);
        assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 7 }, "{at}");
        launcher.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_of_many_procs_are_handed_over() {
    let state = State::new();
    let launcher = state.launcher();
    let options = state.simple("exec sleep 1000");
    let mut procs = Vec::new();
    for _ in 0..100 {
        let id = fresh();
        let launched = launcher.launch(&id, options.clone()).await.unwrap();
        procs.push((id, launched.pid));
    }
    drop(launcher);
    let start = std::time::Instant::now();
    let mut launcher = NativeLauncher::start_in(state.path(), |_| ());
    while launcher.is_err() && start.elapsed() < BOUND {
        launcher = NativeLauncher::start_in(state.path(), |_| ());
    }
    let launcher = launcher.unwrap();
    for (id, pid) in &procs {
        let adopted = launcher.adopt(id, &options, None).await.unwrap();
        assert_eq!(adopted.pid, *pid);
        let [_stdout, _stderr] = pipes(adopted.stdio);
    }
    println!("{} procs taken over within {:?}", procs.len(), start.elapsed());
    launcher.shutdown().await;
    assert!(procs.iter().all(|(id, _)| members(id).is_empty()));
    state.has_no_helpers();
}

mod f20 {
    use super::*;

    #[tokio::test]
    async fn a_process_that_has_the_pid_by_now_is_not_taken_over_and_not_touched() {
        let state = State::new();
        let launcher = state.launcher();
        let stranger = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        let found = Process::look(stranger.id()).unwrap();
        let id = fresh();
        let earlier = Some((found.pid, found.started - 1));
        let adopted = launcher.adopt(&id, &state.simple("exit 0"), earlier).await.unwrap();
        let kind = end(adopted).await.kind;
        assert!(
            matches!(&kind, ProcExitKind::Lost { reason } if reason.contains("another process")),
            "{kind:?}"
        );
        assert!(launcher.kill(&id).await.is_err(), "it is not known, and so cannot be killed by mistake");
        launcher.shutdown().await;
        assert!(lives(&found), "the stranger was not touched");
        Pidfd::open(found.pid).unwrap().signal(libc::SIGKILL).unwrap();
        { stranger }.wait().unwrap();
    }
}

#[tokio::test]
async fn a_second_host_is_refused_while_the_first_one_lives() {
    let state = State::new();
    let options = state.simple(&format!("{WAITS} exit 2"));
    let mut host = Host::start(&state, &options);
    state.has("up");
    let refused = NativeLauncher::start_in(state.path(), |_| ()).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert!(refused.to_string().contains("another host is the owner"), "{refused}");
    host.kill();
    let launcher = state.launcher();
    let adopted = launcher.adopt(&host.id, &options, host.leader()).await.unwrap();
    state.put("go");
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 2 });
    launcher.shutdown().await;
    state.has_no_helpers();
}

#[test]
#[ignore = "a role that other tests play in a process of its own"]
fn role_of_a_stranger() {
    let socket = PathBuf::from(std::env::var("DIRECTORY").unwrap()).join("keeper");
    let socket = sys::connect_seqpacket(&socket).unwrap();
    sys::poll(&mut [sys::Watch::readable(socket.as_fd())], Some(BOUND)).unwrap();
    assert_eq!(sys::receive(socket.as_fd(), &mut [0; 64]).unwrap().length, 0, "the keeper hangs up");
}

#[tokio::test]
async fn another_user_is_refused_even_where_the_directory_lets_it_in() {
    if sys::own_ids().0 != 0 {
        return;
    }
    let state = State::new();
    let launcher = state.launcher();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let test = state.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    open(&test, 0o755);
    open(state.path(), 0o755);
    open(&state.path().join("keeper"), 0o777);
    let output = Command::new(&test)
        .args(["--exact", "role_of_a_stranger", "--ignored", "--nocapture"])
        .env("DIRECTORY", state.path())
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let refused = NativeLauncher::start_in(state.path(), |_| ()).err().unwrap();
    assert!(refused.to_string().contains("chmod 0700"), "{refused}");
    launcher.shutdown().await;
    state.has_no_helpers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_disk_holds_up_nothing_and_what_fits_again_is_written_again() {
    let state = State::new();
    let logs = state.path().join("logs");
    // A file where the directory has to be is as good as a disk without room.
    fs::write(&logs, "").unwrap();
    let script = format!(
        "{WAITS} seq 0 100000; touch written; while [ ! -e room ]; do sleep 0.01; done; echo again; exit 1"
    );
    let options = state.simple(&script);
    let launcher = state.launcher();
    let id = fresh();
    let launched = launcher.launch(&id, options.clone()).await.unwrap();
    let pid = launched.pid;
    drop((launcher, launched));
    state.put("go");
    state.has("written");
    fs::remove_file(&logs).unwrap();
    state.put("room");
    state.has_no_helpers();
    assert!(state.stdout(0).ends_with(b"again\n"));
    let launcher = state.launcher();
    let adopted = launcher.adopt(&id, &options, None).await.unwrap();
    assert_eq!(adopted.pid, pid);
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 1 });
    launcher.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_detached_is_refused_before_anything_starts() {
    let state = State::new();
    let text = |error: procession_launch::ProcLauncherError| {
        let procession_launch::ProcLauncherError::Launch(error) = error else { panic!("{error}") };
        let inner = error.into_inner().unwrap();
        inner.downcast_ref::<InvalidArgument>().unwrap().to_string()
    };
    let homeless = NativeLauncher::start().unwrap();
    assert!(!homeless.capabilities().adopt);
    let id = fresh();
    let refused = text(homeless.launch(&id, state.simple("exit 0")).await.unwrap_err());
    assert!(refused.contains("detach") && refused.contains("state directory"), "{refused}");
    let refused = homeless.adopt(&id, &state.simple("exit 0"), None).await.unwrap_err().to_string();
    assert!(refused.contains("state directory"), "{refused}");
    homeless.shutdown().await;
    let launcher = state.launcher();
    assert!(launcher.capabilities().adopt);
    let without = LaunchOptions { output: None, ..state.simple("exit 0") };
    let refused = text(launcher.launch(&id, without).await.unwrap_err());
    assert!(refused.contains("output"), "{refused}");
    launcher.shutdown().await;
    for (path, word) in
        [(state.path().join("none"), "make it first"), (state.path().join("keeper"), "not a directory")]
    {
        let refused = NativeLauncher::start_in(&path, |_| ()).err().unwrap().to_string();
        assert!(refused.contains(word), "{refused}");
    }
}
