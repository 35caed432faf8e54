//! Procs that are no processes, by a clock that is stopped: the lifecycle is the real one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_host::{Backoff, Host, Readiness, RestartPolicy, RestartWhen, Slot, SpawnSpec, VirtualTime};
use procession_launch::{
    Chaos, ChaosRates, FakeEnd, FakeLauncher, FakeStep, ProcLauncher, Retry, Script, Terminated,
};
use procession_model::{BootstrapCommand, ProcExit, ProcExitKind, ProcStatus};

use crate::common::host;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn specs(count: usize) -> Vec<SpawnSpec> {
    let spec = |rank| {
        let mut spec = SpawnSpec::new(format!("w-{rank}"), BootstrapCommand::new("/bin/worker"));
        spec.rank = rank;
        spec
    };
    (0..count).map(spec).collect()
}

fn spawn(
    host: &Host,
    specs: Vec<SpawnSpec>,
    launcher: Arc<dyn ProcLauncher>,
    restart: RestartPolicy,
) -> Vec<Slot> {
    host.spawn_group(specs, &launcher, restart, Vec::new()).unwrap()
}

fn fake(scripts: impl Fn(&str, u32) -> Script + Send + Sync + 'static) -> Arc<FakeLauncher> {
    Arc::new(FakeLauncher::new(move |proc_id, number| scripts(proc_id.name(), number)))
}

/// Timers go by milliseconds, and none is early.
fn passed(time: &VirtualTime) -> u64 {
    time.elapsed().as_secs()
}

async fn end(host: Host, time: VirtualTime) {
    host.stop_procs("the test is over", SECOND).await;
    drop(time);
    host.shutdown(SECOND).await;
}

/// How many seconds it took from the launch to the end, in the words of its exit.
fn lived(exit: &ProcExit) -> u64 {
    exit.ended_at.duration_since(exit.started_at).unwrap().as_secs()
}

#[tokio::test]
async fn ten_thousand_procs_boot_for_minutes_and_end_in_moments() {
    let host = host().await;
    let time = VirtualTime::begin(&host).unwrap();
    let launcher = fake(|name, _| match name {
        "w-17" => Script::boots(seconds(540)).then(seconds(3), FakeStep::Ends(FakeEnd::Oom)),
        _ => Script::boots(SECOND),
    });
    let mut all = specs(10_000);
    all.iter_mut().for_each(|spec| spec.policy.ready_timeout = seconds(600));
    let start = Instant::now();
    let slots = spawn(&host, all, launcher, RestartPolicy::default());
    for slot in &slots {
        slot.ready().await.unwrap();
    }
    assert_eq!(passed(&time), 540);
    let exit = slots[17].ended().await;
    assert_eq!(
        (exit.oom, &exit.kind),
        (Some(true), &ProcExitKind::Signaled { signal: 9, core_dumped: false })
    );
    assert_eq!(lived(&exit), 543);
    for slot in &slots {
        slot.current().kill("enough").await.unwrap();
    }
    for slot in &slots {
        slot.ended().await;
    }
    let took = start.elapsed();
    assert!(took < seconds(60), "{took:?}");
    end(host, time).await;
}

#[tokio::test]
async fn who_never_boots_is_ended_at_its_deadline_and_who_ignores_terminate_is_killed() {
    let host = host().await;
    let time = VirtualTime::begin(&host).unwrap();
    let deaf = Script::default().when_terminated(Terminated::Ignores);
    let mut all = specs(1);
    (all[0].policy.ready_timeout, all[0].policy.stop_grace) = (seconds(300), seconds(20));
    let slots = spawn(&host, all, fake(move |_, _| deaf.clone()), RestartPolicy::default());
    let why = slots[0].ready().await.unwrap_err();
    assert!(why.contains("not ready"), "{why}");
    assert_eq!(passed(&time), 300);
    let exit = slots[0].ended().await;
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    assert_eq!(lived(&exit), 320, "{}", exit.verdict);
    end(host, time).await;
}

#[tokio::test]
async fn a_policy_launches_again_after_pauses_that_double_until_it_gives_up() {
    let host = host().await;
    let time = VirtualTime::begin(&host).unwrap();
    let launcher = fake(|_, _| Script::boots(SECOND).then(SECOND, FakeStep::Ends(FakeEnd::Exits(3))));
    let backoff = Backoff { first: seconds(10), most: seconds(1000), factor: 2.0, jitter: 0.0 };
    let policy = RestartPolicy {
        when: RestartWhen::OnFailure,
        intensity: 3,
        period: seconds(3600),
        backoff,
        ..RestartPolicy::default()
    };
    let slots = spawn(&host, specs(1), Arc::clone(&launcher) as _, policy);
    let exit = slots[0].ended().await;
    assert_eq!(exit.incarnation, 4);
    assert_eq!(launcher.launches("w-0"), 4);
    // Four lives of two seconds, and pauses of 10, 20 and 40.
    assert_eq!(passed(&time), 4 * 2 + 70, "{}", exit.verdict);
    end(host, time).await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_unknown_and_comes_back_or_is_lost_after_its_budget() {
    let host = host().await;
    let time = VirtualTime::begin(&host).unwrap();
    let launcher = fake(|name, _| {
        let gap = if name == "w-0" { 50 } else { 90 };
        Script::boots(SECOND).then(SECOND, FakeStep::Unreachable(seconds(gap), "no route".to_owned()))
    });
    let slots = spawn(&host, specs(2), launcher, RestartPolicy::default());
    slots[0].ready().await.unwrap();
    time.pass(seconds(30)).await;
    assert!(slots.iter().all(|slot| slot.current().status().status == ProcStatus::Unknown));
    let exit = slots[1].ended().await;
    assert!(matches!(&exit.kind, ProcExitKind::Lost { reason } if reason.contains("no route")), "{exit:?}");
    assert_eq!(passed(&time), 62);
    assert_eq!(slots[0].current().status().status, ProcStatus::Ready);
    end(host, time).await;
}

#[tokio::test]
async fn no_time_passes_while_somebody_holds_it() {
    let host = host().await;
    let time = VirtualTime::begin(&host).unwrap();
    let held = time.stand_still();
    let slots = spawn(&host, specs(1), fake(|_, _| Script::boots(seconds(5))), RestartPolicy::default());
    let real = Instant::now();
    while real.elapsed() < Duration::from_millis(50) {
        tokio::task::yield_now().await;
    }
    assert_eq!(time.elapsed(), Duration::ZERO);
    drop(held);
    slots[0].ready().await.unwrap();
    assert_eq!(passed(&time), 5);
    end(host, time).await;
}

#[tokio::test]
async fn sixty_four_procs_through_a_retry_over_chaos_have_one_exit_each() {
    let host = host().await;
    let time = VirtualTime::begin(&host).unwrap();
    let rates =
        ChaosRates { launch_fails: 0.4, exits_early: 0.3, early_within: seconds(9), delay: seconds(2) };
    let chaos = Chaos::new(fake(|_, _| Script::boots(SECOND)), 11, rates).unwrap();
    let retry = Arc::new(Retry::new(Arc::new(chaos), 8, Duration::from_millis(100)));
    let slots = spawn(&host, specs(64), retry, RestartPolicy::default());
    time.pass(seconds(25)).await;
    let dead = slots.iter().filter(|slot| slot.ended_now().is_some()).count();
    assert!((8..40).contains(&dead), "{dead} of 64 were killed");
    for slot in &slots {
        slot.current().stop("enough", None).await;
    }
    for slot in &slots {
        let exit = slot.ended().await;
        assert!(matches!(exit.kind, ProcExitKind::Signaled { .. }), "{}", exit.verdict);
        assert_eq!(slot.history().exits.len(), 1);
    }
    end(host, time).await;
}

#[tokio::test]
async fn a_clock_is_not_stopped_while_a_proc_is_started_by_it_and_what_runs_goes_on() {
    let host = host().await;
    let mut all = specs(2);
    all[1].policy.readiness = Readiness::None;
    let steady = host.spawn(all.remove(1), fake(|_, _| Script::default())).unwrap();
    steady.ready().await.unwrap();
    let starts = host.spawn(all.remove(0), fake(|_, _| Script::default())).unwrap();
    let refused = VirtualTime::begin(&host).unwrap_err().to_string();
    assert!(refused.contains("w-0") && refused.contains("wait for it first"), "{refused}");
    starts.kill("the test goes on").await.unwrap();
    starts.ended().await;

    let time = VirtualTime::begin(&host).unwrap();
    let other = spawn(&host, specs(1), fake(|_, _| Script::boots(SECOND)), RestartPolicy::default());
    other[0].ready().await.unwrap();
    time.end().await;
    assert!(matches!(other[0].ended().await.kind, ProcExitKind::Signaled { signal: 9, .. }));
    assert_eq!(steady.status().status, ProcStatus::Running);
    steady.kill("the test is over").await.unwrap();
    steady.ended().await;
    host.shutdown(SECOND).await;
}
