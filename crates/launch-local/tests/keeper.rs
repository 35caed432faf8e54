//! The keeper: whatever becomes of the host or of the keeper itself, nothing stays.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    Failpoints, Running, exit_of, fresh, guard, keeper_pid, lives, members, open_fds, options, shell, within,
    zombies,
};
use procession_launch::{ProcLauncher, ProcLauncherError};
use procession_launch_local::{LaunchFailure, NativeLauncher};
use procession_model::{BootstrapCommand, ProcExitKind, ProcId};
use procession_sys::{Pidfd, Process};

const SECOND: Duration = Duration::from_secs(1);
const PROCS: usize = 8;
/// What an idle keeper has open: three that are standard, three to listen to, eight in reserve.
const KEEPER_FDS: usize = 14;

/// A leader and a daemon that left it: own session, and its parent is gone when the line comes.
const WITH_DAEMON: &str = "setsid sh -c 'sleep 1000 &'; echo up; exec sleep 1000";

#[test]
#[ignore = "a role that other tests play in a process of its own"]
fn role_of_a_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let launcher = NativeLauncher::start().unwrap();
        println!("keeper {}", keeper_pid());
        println!("guard {}", guard().pid);
        let mut procs = Vec::new();
        for _ in 0..PROCS {
            let script = std::env::var("SCRIPT").unwrap();
            let mut proc = Running::start(&launcher, shell(&script)).await;
            assert_eq!(proc.line().await, "up");
            println!("proc {}", proc.id);
            procs.push(proc);
        }
        println!("ready");
        // Until the test has seen it, and says so by closing this.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        match std::env::var("ROLE").as_deref() {
            Ok("exits") => std::process::exit(3),
            _ => drop(launcher),
        }
    });
}

#[tokio::test]
async fn what_is_asked_for_while_the_keeper_looks_at_all_processes_is_done_with_its_next_look() {
    let failpoints = Failpoints::new();
    let launcher = NativeLauncher::start().unwrap();
    let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done";
    let mut terminated = Running::start(&launcher, shell(script)).await;
    let mut killed = Running::start(&launcher, shell(WITH_DAEMON)).await;
    assert_eq!((terminated.line().await, killed.line().await), ("up".to_owned(), "up".to_owned()));
    failpoints.arm("keeper-looking");
    assert_eq!(exit_of(&launcher, "exit 3").await, ProcExitKind::Exited { code: 3 });
    // It looks for what that one has left.
    assert_eq!(failpoints.reached("keeper-looking").await.pid, keeper_pid());
    let asked = Instant::now();
    let (terminate, kill, ()) =
        tokio::join!(launcher.terminate(&terminated.id, SECOND * 20), launcher.kill(&killed.id), async {
            tokio::task::yield_now().await;
            failpoints.disarm("keeper-looking");
        });
    terminate.unwrap();
    kill.unwrap();
    assert!(asked.elapsed() < SECOND * 5, "{:?}", asked.elapsed());
    assert!(members(&killed.id).is_empty(), "a kill is answered when nothing is left");
    assert_eq!(terminated.exit().await, ProcExitKind::Exited { code: 7 });
    launcher.shutdown().await;
    assert_eq!(zombies(), 0);
}

/// A host in a process of its own, with procs that run.
struct Host {
    child: Child,
    /// Kept open for what the role still has to say.
    _stdout: BufReader<ChildStdout>,
    keeper: Process,
    guard: Process,
    procs: Vec<ProcId>,
}

impl Host {
    fn start(test: &Path, role: &str, user: Option<u32>) -> Self {
        Self::with(test, role, user, WITH_DAEMON)
    }

    fn with(test: &Path, role: &str, user: Option<u32>, script: &str) -> Self {
        let mut command = Command::new(test);
        command.args(["--exact", "role_of_a_host", "--ignored", "--nocapture"]);
        command.env("ROLE", role).env("SCRIPT", script);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut keeper, mut guard) = (None, None);
        let mut procs = Vec::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        for line in stdout.by_ref().lines() {
            let line = line.unwrap();
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("guard", pid) => guard = pid.parse().ok(),
                ("proc", id) => procs.push(id.parse().unwrap()),
                ("ready", _) => break,
                // The test harness's own line may stand before it.
                _ => keeper = keeper.or_else(|| line.rsplit_once("keeper ")?.1.parse().ok()),
            }
        }
        let keeper = Process::look(keeper.expect("the host's keeper")).unwrap();
        let guard = Process::look(guard.expect("the host's guard")).unwrap();
        assert_eq!(procs.len(), PROCS, "the host has started all procs");
        Self { child, _stdout: stdout, keeper, guard, procs }
    }

    fn all_gone(&self) -> bool {
        self.procs.iter().all(|id| members(id).is_empty()) && !lives(&self.keeper) && !lives(&self.guard)
    }
}

/// Who is not is an ordinary user already.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn this_test() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

#[test]
fn nothing_stays_when_the_host_is_killed() {
    let mut host = Host::start(&this_test(), "waits", None);
    host.child.kill().unwrap();
    let took = within(SECOND, "all is gone", || host.all_gone());
    println!("{PROCS} procs with daemons, and the keeper, gone after {took:?}");
    host.child.wait().unwrap();
}

#[test]
fn nothing_stays_when_the_host_is_killed_together_with_its_keeper_or_its_guard() {
    for with in [|host: &Host| host.keeper.clone(), |host: &Host| host.guard.clone()] {
        let mut host = Host::start(&this_test(), "waits", None);
        // Stopped first, so that none of them can do anything about the end of the other.
        let helper = with(&host);
        let own = Process::look(host.child.id()).unwrap();
        for process in [&own, &helper] {
            process.signal(libc::SIGSTOP);
            within(5 * SECOND, "it is stopped", || Process::look(process.pid).unwrap().state == 'T');
        }
        helper.signal(libc::SIGKILL);
        own.signal(libc::SIGKILL);
        within(10 * SECOND, "all is gone", || host.all_gone());
        host.child.wait().unwrap();
    }
}

#[test]
fn nothing_stays_when_the_host_is_killed_while_its_keeper_is_stopped() {
    let mut host = Host::start(&this_test(), "waits", None);
    host.keeper.signal(libc::SIGSTOP);
    within(5 * SECOND, "it is stopped", || Process::look(host.keeper.pid).unwrap().state == 'T');
    host.child.kill().unwrap();
    let took = within(10 * SECOND, "all is gone", || host.all_gone());
    println!("gone after {took:?}, by the guard alone");
    host.child.wait().unwrap();
}

#[test]
fn nothing_stays_when_the_host_is_killed_and_a_fork_of_it_lives() {
    let mut host = Host::start(&this_test(), "waits", None);
    // What a fork of the host would hold on to: every descriptor that it had.
    let pidfd = Pidfd::open(host.child.id()).unwrap();
    let held: Vec<_> = (3..64).filter_map(|number| pidfd.duplicate(number).ok()).collect();
    assert!(held.len() > 3, "the host's descriptors are held");
    host.child.kill().unwrap();
    within(SECOND, "all is gone", || host.all_gone());
    host.child.wait().unwrap();
}

/// This test where an ordinary user may execute it.
fn for_all() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let test = directory.path().join("test");
    std::fs::copy(this_test(), &test).unwrap();
    (directory, test)
}

#[test]
fn nothing_stays_when_an_ordinary_users_host_is_killed() {
    let (_directory, test) = for_all();
    let mut host = Host::start(&test, "waits", is_root().then_some(65534));
    host.child.kill().unwrap();
    within(SECOND, "all is gone", || host.all_gone());
    host.child.wait().unwrap();
}

mod f25 {
    use super::*;

    #[test]
    fn a_program_that_raises_its_privileges_is_killed_with_its_host() {
        let (directory, test) = for_all();
        let sleep = directory.path().join("sleep");
        std::fs::copy("/bin/sleep", &sleep).unwrap();
        let raising = Command::new("setcap").arg("cap_net_bind_service+ep").arg(&sleep).status();
        if !is_root() || !raising.is_ok_and(|status| status.success()) {
            println!("skipped: capability: file-capabilities");
            return;
        }
        let script = format!("echo up; exec {} 1000", sleep.display());
        let mut host = Host::with(&test, "waits", Some(65534), &script);
        let has_raised = |process: &Process| {
            std::fs::read_to_string(format!("/proc/{}/status", process.pid))
                .is_ok_and(|text| text.contains("CapEff:\t0000000000000400\n"))
        };
        within(20 * SECOND, "all have raised their privileges", || {
            host.procs.iter().all(|id| members(id).iter().any(has_raised))
        });
        host.child.kill().unwrap();
        within(10 * SECOND, "all is gone", || host.all_gone());
        host.child.wait().unwrap();
    }
}

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role_of_a_crowded_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let launcher = NativeLauncher::start().unwrap();
        let (mut running, mut refused) = (Vec::new(), 0);
        while refused < 5 {
            let id = fresh();
            match launcher.launch(&id, shell("sleep 1000")).await {
                Ok(started) => running.push((id, started)),
                Err(ProcLauncherError::Launch(error)) => {
                    let failure = error.get_ref().unwrap().downcast_ref::<LaunchFailure>().unwrap();
                    assert_eq!(failure.errno(), libc::EMFILE, "{failure}");
                    assert!(failure.is_retryable() && failure.to_string().contains("ulimit -n"), "{failure}");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(running.len() > 5, "some fit");
        let (id, started) = running.pop().unwrap();
        launcher.kill(&id).await.unwrap();
        assert!(matches!(
            started.exit_rx.await.unwrap().kind,
            ProcExitKind::Signaled { signal: libc::SIGKILL, .. }
        ));
        drop(started.stdio);
        // Its pipes are closed with it, which makes room for another launch.
        drop(running.pop());
        assert_eq!(exit_of(&launcher, "exit 3").await, ProcExitKind::Exited { code: 3 });
        launcher.shutdown().await;
        assert_eq!(zombies(), 0);
    });
}

#[test]
fn without_descriptors_launches_are_refused_and_kills_still_work() {
    let script = "ulimit -n 64; exec \"$0\" --exact role_of_a_crowded_host --ignored --nocapture";
    let role = Command::new("/bin/sh").args(["-c", script]).arg(this_test()).output().unwrap();
    assert!(role.status.success(), "{}", String::from_utf8_lossy(&role.stderr));
}

#[test]
fn nothing_stays_when_the_host_returns_or_exits() {
    for role in ["returns", "exits"] {
        let mut host = Host::start(&this_test(), role, None);
        drop(host.child.stdin.take());
        within(SECOND, "all is gone", || host.all_gone());
        let code = host.child.wait().unwrap().code();
        assert_eq!(code, Some(if role == "exits" { 3 } else { 0 }), "the host's own exit code is unchanged");
    }
}

#[tokio::test]
async fn nothing_stays_when_the_launcher_is_dropped() {
    let launcher = NativeLauncher::start().unwrap();
    let mut proc = Running::start(&launcher, shell(WITH_DAEMON)).await;
    assert_eq!(proc.line().await, "up");
    let guard = guard();
    drop(launcher);
    assert!(matches!(proc.exit().await, ProcExitKind::Signaled { signal: libc::SIGKILL, .. }));
    while guard.is_same_now() {
        tokio::task::yield_now().await;
    }
    assert!(members(&proc.id).is_empty());
    assert_eq!(zombies(), 0);
}

#[tokio::test]
async fn an_exit_that_was_told_before_the_keeper_died_is_not_lost() {
    let launcher = NativeLauncher::start().unwrap();
    let proc = Running::start(&launcher, shell("exit 4")).await;
    // This task keeps the runtime busy until the keeper has told the exit and is dead.
    let leader = Pidfd::open(proc.pid);
    within(5 * SECOND, "the leader is reaped", || {
        leader.as_ref().is_ok_and(|p| p.signal(0).is_err()) || leader.is_err()
    });
    let keeper = Process::look(keeper_pid()).unwrap();
    keeper.signal(libc::SIGKILL);
    within(5 * SECOND, "the keeper is dead", || !lives(&keeper));
    assert_eq!({ proc }.exit().await, ProcExitKind::Exited { code: 4 });
    launcher.shutdown().await;
}

#[tokio::test]
async fn what_ends_a_client_on_its_terminal_does_not_end_the_keeper() {
    let launcher = NativeLauncher::start().unwrap();
    assert_eq!(exit_of(&launcher, "exit 1").await, ProcExitKind::Exited { code: 1 });
    let keeper = Pidfd::open(keeper_pid()).unwrap();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        keeper.signal(signal).unwrap();
    }
    assert_eq!(exit_of(&launcher, "exit 2").await, ProcExitKind::Exited { code: 2 });
    launcher.shutdown().await;
}

#[tokio::test]
async fn the_keeper_holds_nothing_of_the_clients_and_is_known_by_its_name() {
    let leaky = std::fs::File::open("/etc/passwd").unwrap();
    let launcher = NativeLauncher::start().unwrap();
    assert_eq!(exit_of(&launcher, "exit 0").await, ProcExitKind::Exited { code: 0 });
    let pid = keeper_pid();
    let links = || {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        // One that it has just closed is none that it holds.
        let links = fds.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.map(|link| link.display().to_string()).collect::<Vec<_>>()
    };
    // It may still be looking for what is left of the one that has ended.
    let mut held = Vec::new();
    within(SECOND, "the keeper is idle", || {
        held = links();
        held.len() == KEEPER_FDS && !held.iter().any(|link| link.starts_with("/proc"))
    });
    let links = held;
    let mut others: Vec<_> = links.iter().filter(|link| *link != "/dev/null").collect();
    others.sort();
    assert_eq!(others.len(), 3, "{links:?}");
    assert!(others[2].starts_with("socket:") && others[0].contains("pidfd"), "{links:?}");
    assert_eq!(others[1], "anon_inode:[signalfd]", "{links:?}");
    assert!(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"procession-keeper\0"));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    assert_eq!(Process::look(pid).unwrap().session, pid);
    drop(leaky);
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_shut_down_launcher_has_told_every_exit_and_launches_nothing_more() {
    let launcher = NativeLauncher::start().unwrap();
    let mut proc = Running::start(&launcher, shell("sleep 1000")).await;
    launcher.shutdown().await;
    assert!(matches!(
        proc.exit.try_recv().unwrap().kind,
        ProcExitKind::Signaled { signal: libc::SIGKILL, .. }
    ));
    assert_eq!(zombies(), 0);
    launcher.shutdown().await;
    let refused = launcher.launch(&fresh(), shell("exit 1")).await.unwrap_err().to_string();
    assert!(refused.contains("was shut down; start a new one"), "{refused}");
    assert_eq!(zombies(), 0);
}

#[tokio::test]
async fn whoever_asks_for_a_shutdown_that_is_under_way_waits_for_it_too() {
    let launcher = std::sync::Arc::new(NativeLauncher::start().unwrap());
    let proc = Running::start(&launcher, shell("exec sleep 1000")).await;
    let keeper = Pidfd::open(keeper_pid()).unwrap();
    keeper.signal(libc::SIGSTOP).unwrap();
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let launcher = launcher.clone();
            tokio::spawn(async move { launcher.shutdown().await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(asked.iter().all(|task| !task.is_finished()), "a proc still lives");
    keeper.signal(libc::SIGCONT).unwrap();
    for task in asked {
        task.await.unwrap();
        assert!(members(&proc.id).is_empty());
    }
    assert_eq!(zombies(), 0);
}

/// Descriptors on their way to nobody, more than this user may have there.
fn too_many_on_their_way() -> Vec<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    let mut pairs = Vec::new();
    let null = std::fs::File::open("/dev/null").unwrap();
    let eight = [null.as_fd(); 8];
    loop {
        let pair = procession_sys::seqpacket_pair().unwrap();
        let error = std::iter::repeat_with(|| procession_sys::send(pair.0.as_fd(), b"x", &eight))
            .find_map(Result::err)
            .unwrap();
        pairs.push(pair);
        match error.raw_os_error() {
            Some(libc::ETOOMANYREFS) => return pairs,
            _ => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// Lets the runtime's other tasks get as far as they can.
async fn for_a_moment() {
    let start = Instant::now();
    while start.elapsed() < SECOND / 4 {
        tokio::task::yield_now().await;
    }
}

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role_of_a_host_that_may_send_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let launcher = std::sync::Arc::new(NativeLauncher::start().unwrap());
        let spared = Running::start(&launcher, shell("exec sleep 1000")).await;
        let launch = |id: ProcId| {
            let launcher = launcher.clone();
            tokio::spawn(async move { launcher.launch(&id, shell("exec sleep 1000")).await.unwrap() })
        };
        // The host cannot send at first.
        let flood = too_many_on_their_way();
        let first = launch(fresh());
        for_a_moment().await;
        assert!(!first.is_finished());
        drop(flood);
        first.await.unwrap();
        launcher.kill(&spared.id).await.unwrap();
        assert!(members(&spared.id).is_empty());

        // Neither can the keeper, when it has been told.
        let keeper = Pidfd::open(keeper_pid()).unwrap();
        keeper.signal(libc::SIGSTOP).unwrap();
        let id = fresh();
        let second = launch(id.clone());
        for_a_moment().await;
        let flood = too_many_on_their_way();
        keeper.signal(libc::SIGCONT).unwrap();
        within(10 * SECOND, "it is started", || !members(&id).is_empty());
        drop(flood);
        second.await.unwrap();
        assert!(!members(&id).is_empty(), "to be unable to tell is no reason to end anything");
        launcher.shutdown().await;
    });
}

#[test]
fn a_kernel_that_takes_no_descriptors_for_a_while_costs_a_while_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let test = directory.path().join("test");
    std::fs::copy(this_test(), &test).unwrap();
    let script =
        "ulimit -n 64; exec \"$0\" --exact role_of_a_host_that_may_send_nothing --ignored --nocapture";
    let mut role = Command::new("/bin/sh");
    role.args(["-c", script]).arg(test).current_dir("/");
    // The limit is an ordinary user's; the number is one that nobody has.
    if is_root() {
        role.uid(64_999).gid(64_999);
    }
    let role = role.output().unwrap();
    assert!(role.status.success(), "{}", String::from_utf8_lossy(&role.stderr));
}

#[tokio::test]
async fn two_hundred_launches_leak_no_descriptor_and_no_zombie_on_either_side() {
    let launcher = NativeLauncher::start().unwrap();
    let keeper = keeper_pid();
    let keepers = || std::fs::read_dir(format!("/proc/{keeper}/fd")).unwrap().count();
    exit_of(&launcher, "exit 0").await;
    let before = open_fds();
    for round in 0..200 {
        let script = ["exit 0", "setsid sleep 1000 & exit 0", "kill -9 $$"][round % 3];
        exit_of(&launcher, script).await;
        let nothing = options(BootstrapCommand::new("/no/such/program"));
        launcher.launch(&fresh(), nothing).await.unwrap_err();
    }
    let all_reaped = || {
        let all = procession_sys::Snapshot::take().unwrap();
        all.descendants([keeper]).is_empty()
    };
    within(SECOND, "the keeper has no descendant, zombies included", all_reaped);
    assert_eq!(open_fds(), before);
    within(SECOND, "the keeper has no descriptor left over", || keepers() == KEEPER_FDS);
    assert_eq!(zombies(), 0);
    launcher.shutdown().await;
}
