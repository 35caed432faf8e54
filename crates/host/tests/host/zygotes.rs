//! Procs that one process launches, which another launcher has started.

use std::sync::Arc;

use procession_host::{Host, ProcRef, SpawnSpec, Zygote};
use procession_launch::ProcLauncher;
use procession_model::{BootstrapCommand, ProcExitKind};
use procession_sys::Process;

use crate::common::{host, members, program, script, shut_down, soon, within};

const WHILE: std::time::Duration = std::time::Duration::from_secs(20);

/// A host with a zygote, which the native launcher starts.
async fn pair(zygote: SpawnSpec) -> (Host, Arc<Zygote>) {
    let host = host().await;
    let launcher = Zygote::new(&host, zygote, host.native_launcher()).unwrap();
    (host, launcher)
}

fn spawn(host: &Host, zygote: &Arc<Zygote>, spec: SpawnSpec) -> ProcRef {
    let launcher: Arc<Zygote> = Arc::clone(zygote);
    host.spawn(spec, launcher).unwrap()
}

/// The process that the launcher has started, without its keeper.
fn process_of(zygote: &Arc<Zygote>) -> Process {
    let all = members(&zygote.own_proc().unwrap());
    let is_child = |process: &&Process| all.iter().any(|other| other.pid == process.parent);
    all.iter().find(|process| !is_child(process)).unwrap().clone()
}

#[tokio::test]
async fn nothing_is_started_before_the_first_launch_and_one_process_launches_all() {
    let (host, zygote) = pair(program("zygote", "zygote")).await;
    assert!(zygote.own_proc().is_none());
    let ends = [3, 4].map(|code| {
        let text = format!("echo it is {code}; echo more >&2; exit {code}");
        spawn(&host, &zygote, script(&format!("p{code}"), &text))
    });
    for (proc_, code) in ends.iter().zip([3, 4]) {
        let exit = soon(proc_.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code });
        assert_eq!(exit.stdout_tail, [format!("it is {code}")]);
        assert_eq!(exit.stderr_tail, ["more"]);
        assert_eq!(exit.launcher, "zygote@native");
        assert_eq!(exit.certificate.launched_in, zygote.own_proc());
    }
    assert_eq!(host.live().into_keys().collect::<Vec<_>>(), ["zygote"]);
    shut_down(host).await;
}

#[tokio::test]
async fn one_is_killed_alone_with_its_tree() {
    let (host, zygote) = pair(program("zygote", "zygote")).await;
    let [one, other] = ["one", "other"]
        .map(|name| spawn(&host, &zygote, script(name, "setsid sleep 1000 & exec sleep 1000")));
    soon(one.ready()).await.unwrap();
    soon(other.ready()).await.unwrap();
    within(WHILE, "both trees", || members(one.id()).len() == 2 && members(other.id()).len() == 2).await;
    soon(one.kill("a test")).await.unwrap();
    assert_eq!(soon(one.ended()).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    assert!(members(one.id()).is_empty());
    assert_eq!(members(other.id()).len(), 2);
    soon(other.terminate(WHILE, "a test")).await.unwrap();
    assert_eq!(soon(other.ended()).await.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });
    shut_down(host).await;
}

#[tokio::test]
async fn with_the_process_all_that_it_has_launched_ends_and_the_next_launch_starts_another() {
    let (host, zygote) = pair(program("zygote", "zygote")).await;
    let procs = ["one", "other"].map(|name| spawn(&host, &zygote, script(name, "exec sleep 1000")));
    for proc_ in &procs {
        soon(proc_.ready()).await.unwrap();
    }
    let first = zygote.own_proc().unwrap();
    process_of(&zygote).signal(9);
    for proc_ in &procs {
        let exit = soon(proc_.ended()).await;
        assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{}", exit.verdict);
        assert!(exit.verdict.contains(&format!("its zygote, {first}, ended: killed: signal 9")));
        within(WHILE, "it is gone", || members(proc_.id()).is_empty()).await;
    }
    let next = spawn(&host, &zygote, script("next", "exit 5"));
    assert_eq!(soon(next.ended()).await.kind, ProcExitKind::Exited { code: 5 });
    assert_ne!(zygote.own_proc().unwrap(), first);
    shut_down(host).await;
}

#[tokio::test]
async fn one_that_is_closed_ends_when_nothing_runs_there_and_takes_nothing_meanwhile() {
    let (host, zygote) = pair(program("zygote", "zygote")).await;
    let proc_ = spawn(&host, &zygote, script("p", "exec sleep 1000"));
    soon(proc_.ready()).await.unwrap();
    let first = zygote.own_proc().unwrap();
    let closing = tokio::spawn({
        let zygote = Arc::clone(&zygote);
        async move { zygote.close().await }
    });
    tokio::task::yield_now().await;
    let other = spawn(&host, &zygote, script("other", "exit 0"));
    soon(other.ended()).await;
    assert_ne!(zygote.own_proc().unwrap(), first);
    assert!(host.lives(&first));
    assert!(!closing.is_finished());
    soon(proc_.kill("a test")).await.unwrap();
    soon(closing).await.unwrap();
    assert!(!host.lives(&first));
    drop((zygote, proc_, other));
    within(WHILE, "the other one ends with the last reference", || host.live().is_empty()).await;
    shut_down(host).await;
}

#[tokio::test]
async fn what_is_no_zygote_fails_what_waits_for_it_and_says_why() {
    for (spec, why) in [
        (program("zygote", "proc"), "worker"),
        (SpawnSpec::new("zygote", BootstrapCommand::new("/nowhere/at/all")), "/nowhere/at/all"),
    ] {
        let (host, zygote) = pair(spec).await;
        let exit = soon(spawn(&host, &zygote, script("p", "exit 0")).ended()).await;
        assert!(matches!(exit.kind, ProcExitKind::Failed { .. }));
        assert!(exit.verdict.contains("LauncherUnavailable: zygote@native"), "{}", exit.verdict);
        assert!(exit.verdict.contains(why), "{}", exit.verdict);
        within(WHILE, "it is ended", || host.live().is_empty()).await;
        shut_down(host).await;
    }
    let host = host().await;
    let refused = Zygote::new(&host, script("zygote", "exit 0"), host.native_launcher()).unwrap_err();
    assert!(refused.to_string().starts_with("policy.readiness = None"), "{refused}");
    shut_down(host).await;
}

#[tokio::test]
async fn what_it_has_launched_is_stopped_before_it_is() {
    let (host, zygote) = pair(program("zygote", "zygote")).await;
    let proc_ = spawn(
        &host,
        &zygote,
        script("p", "trap 'echo asked; exit 6' TERM; echo up; while :; do sleep 1; done"),
    );
    soon(proc_.ready()).await.unwrap();
    within(WHILE, "it can be asked", || proc_.output_tail(procession_host::Stream::Stdout) == ["up"]).await;
    shut_down(host).await;
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 6 }, "{}", exit.verdict);
}
