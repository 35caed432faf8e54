//! The control groups of native procs, and what they are held to.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::*;
use procession_launch::ProcLauncher;
use procession_launch_local::{NativeLauncher, facts, left_behind, sweep_groups};
use procession_model::{Confinement, ProcExitKind, ProcId, Resources, Rlimits};
use procession_sys::{Cgroups, Group, Limits, Owner, Pidfd};

const BOUND: Duration = Duration::from_secs(20);

fn group_of(id: &ProcId) -> Group {
    Cgroups::find().open(&Owner::this_process().group_name(id.launch_id()))
}

/// Whether a group of that launch is left, in any hierarchy.
fn is_gone(id: &ProcId) -> bool {
    group_of(id).place().unwrap().is_none() && group_of(id).entrances().unwrap().is_empty()
}

fn limited(script: &str) -> procession_model::LaunchOptions {
    let mut options = shell(script);
    options.command.confinement.resources = Resources { pids: Some(50), ..Resources::default() };
    options
}

fn enforces_pids() -> bool {
    facts().iter().any(|fact| fact.name == "pids-limit" && fact.holds)
}

#[tokio::test]
async fn a_proc_has_a_group_of_its_own_for_as_long_as_it_lives() {
    if !Cgroups::find().has_unified() {
        println!("skipped: capability: cgroup2");
        return;
    }
    let launcher = NativeLauncher::start().unwrap();
    let mut proc = Running::start(&launcher, shell("echo; exec sleep 1000")).await;
    proc.line().await;
    assert_eq!(group_of(&proc.id).members(), [proc.pid]);
    launcher.kill(&proc.id).await.unwrap();
    assert_eq!(proc.exit().await, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    within(BOUND, "its group is gone", || is_gone(&proc.id));
    launcher.shutdown().await;
}

#[tokio::test]
async fn no_group_is_left_of_a_launch_that_failed_of_one_that_ended_and_of_a_launcher_that_is_gone() {
    let launcher = NativeLauncher::start().unwrap();
    let failed = fresh();
    let mut options = shell("");
    options.command.program = "/".into();
    launcher.launch(&failed, options).await.unwrap_err();
    let mut options = shell("");
    options.command.confinement.security.seccomp = vec![0; 8];
    let refused = fresh();
    launcher.launch(&refused, options).await.unwrap_err();
    let mut ended = Running::start(&launcher, shell("exit 3")).await;
    ended.exit().await;
    let mut left = Running::start(&launcher, shell("echo; exec sleep 1000")).await;
    left.line().await;
    launcher.shutdown().await;
    left.exit().await;
    for id in [&failed, &refused, &ended.id, &left.id] {
        within(BOUND, "its group is gone", || is_gone(id));
    }
}

#[tokio::test]
async fn the_group_of_a_proc_outlives_its_keeper_and_a_kill_empties_it_still() {
    let launcher = NativeLauncher::start().unwrap();
    let script = "(setsid env -i /bin/sh -c 'echo $$; exec sleep 1000' &); exec sleep 1000";
    let options = if enforces_pids() { limited(script) } else { shell(script) };
    let mut proc = Running::start(&launcher, options).await;
    let daemon = procession_sys::Process::look(proc.line().await.parse().unwrap()).unwrap();
    Pidfd::open(keeper_pid()).unwrap().signal(libc::SIGKILL).unwrap();
    assert!(lives(&daemon));
    launcher.kill(&proc.id).await.unwrap();
    assert_eq!(proc.exit().await, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    if Cgroups::find().has_unified() {
        within(BOUND, "the daemon is dead", || !lives(&daemon));
    } else {
        daemon.signal(libc::SIGKILL);
    }
    within(BOUND, "its group is gone", || is_gone(&proc.id));
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_launcher_claims_what_this_machine_enforces_and_refuses_the_rest_by_name() {
    let launcher = NativeLauncher::start().unwrap();
    let claims = launcher.capabilities().confines;
    let holds = |name: &str| facts().iter().any(|fact| fact.name == name && fact.holds);
    assert_eq!(
        [claims.memory, claims.pids, claims.cpu],
        [holds("memory-limit"), holds("pids-limit"), holds("cpu-limit")]
    );
    let above = Rlimits { soft: Some(1 << 40), hard: Some(1 << 40) };
    let confinement =
        Confinement { rlimits: [("nofile".to_owned(), above)].into(), ..Confinement::default() };
    let error = launcher.check(&confinement).unwrap_err().to_string();
    assert!(error.starts_with("rlimits[\"nofile\"] = 1099511627776: "), "{error}");
    let memory = Resources { memory: Some(1 << 26), ..Resources::default() };
    let confinement = Confinement { resources: memory, ..Confinement::default() };
    match launcher.check(&confinement) {
        Ok(()) => assert!(claims.memory),
        Err(error) => {
            assert!(!claims.memory);
            assert!(error.to_string().starts_with("resources[\"memory\"] = 67108864: "), "{error}");
        }
    }
    launcher.shutdown().await;
}

#[tokio::test]
async fn the_word_on_memory_comes_with_the_exit() {
    let launcher = NativeLauncher::start().unwrap();
    let mut options = shell("exit 3");
    options.command.confinement.resources.memory = Some(64 << 20);
    if launcher.check(&options.command.confinement).is_err() {
        println!("skipped: capability: memory-limit");
    } else {
        let mut proc = Running::start(&launcher, options).await;
        let exit = tokio::time::timeout(BOUND, &mut proc.exit).await.unwrap().unwrap();
        assert_eq!((exit.kind, exit.oom), (ProcExitKind::Exited { code: 3 }, Some(false)));
    }
    launcher.shutdown().await;
}

#[test]
fn what_hosts_that_are_gone_left_is_swept_by_name() {
    let groups = Cgroups::find();
    if !groups.has_unified() {
        println!("skipped: capability: cgroup2");
        return;
    }
    let mut host = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let own = Owner::this_process().group_name("left");
    let started = procession_sys::Process::look(host.id()).unwrap().started;
    let namespace = own.split(['-', '.']).nth(1).unwrap();
    let name = format!("procession-{namespace}.{}.{started}-left", host.id());
    let group = groups.make(&name, &Limits::default()).unwrap().unwrap();
    assert!(!left_behind().contains(&name), "its host lives");
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(left_behind().contains(&name));
    // This one only: others are other hosts' business.
    assert_eq!(sweep_groups(std::slice::from_ref(&name)), 1);
    assert!(group.place().is_err() && !left_behind().contains(&name));
}
