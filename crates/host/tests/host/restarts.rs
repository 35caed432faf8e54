//! Groups whose procs are launched again by a policy, and what ends that.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use procession_host::{
    Backoff, Budgets, Host, ProcEvent, RestartPolicy, RestartStrategy, RestartWhen, Slot, SlotObserver,
    SpawnSpec, Stream,
};
use procession_model::{BootstrapCommand, ProcExitKind, ProcStatus};

use crate::common::{booting_script, host, lives, members, script, shut_down, soon, spawn, within};

fn policy(first: Duration) -> RestartPolicy {
    let backoff =
        Backoff { first, most: first.max(Duration::from_secs(30)), ..RestartPolicy::default().backoff };
    RestartPolicy { backoff, ..RestartPolicy::on_failure() }
}

/// Back-offs that nobody waits for.
fn at_once() -> RestartPolicy {
    policy(Duration::from_millis(1))
}

/// A back-off that outlasts every test.
fn much_later() -> RestartPolicy {
    policy(Duration::from_secs(3600))
}

fn group(host: &Host, specs: Vec<SpawnSpec>, policy: RestartPolicy) -> Vec<Slot> {
    host.spawn_group(specs, &host.native_launcher(), policy, Vec::new()).unwrap()
}

fn one(host: &Host, spec: SpawnSpec, policy: RestartPolicy) -> Slot {
    group(host, vec![spec], policy).remove(0)
}

/// What is told of a slot, each with the number of the launch.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<(u32, ProcEvent)>>>);

impl Record {
    fn observer(&self) -> SlotObserver {
        let events = Arc::clone(&self.0);
        Arc::new(move |launch, event| events.lock().unwrap().push((launch.incarnation, event.clone())))
    }

    /// The ends, and what follows from them.
    fn told(&self) -> Vec<String> {
        let text = |(incarnation, event): &(u32, ProcEvent)| match event {
            ProcEvent::Exit(exit) => Some(format!("{incarnation} exit of {}", exit.incarnation)),
            ProcEvent::Restarting { incarnation: next, attempt, .. } => {
                Some(format!("{incarnation} restarting as {next}, {attempt:?}"))
            }
            ProcEvent::RestartLimit(limit) => Some(format!("{incarnation} {limit}")),
            ProcEvent::Settled => Some(format!("{incarnation} settled")),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(text).collect()
    }
}

async fn waits_for_its_launch(slot: &Slot) {
    within(Duration::from_secs(20), "a back-off", || slot.status().next_launch_at.is_some()).await;
}

async fn incarnation(slot: &Slot, number: u32) -> u32 {
    within(Duration::from_secs(20), "a new incarnation with a process", || {
        let current = slot.current();
        current.incarnation() == number && current.status().pid.is_some()
    })
    .await;
    slot.current().status().pid.unwrap()
}

fn signal_kill(pid: u32) {
    std::process::Command::new("/bin/kill").args(["-9", &pid.to_string()]).status().unwrap();
}

mod f35 {
    use super::*;

    #[tokio::test]
    async fn a_crash_loop_is_given_up_and_its_last_exit_says_so() {
        let host = host().await;
        let record = Record::default();
        let slot = host
            .spawn_group(
                vec![script("p", "echo last words; exit 7")],
                &host.native_launcher(),
                at_once(),
                vec![record.observer()],
            )
            .unwrap()
            .remove(0);
        let exit = soon(slot.ended()).await;
        assert_eq!(exit.verdict, "app error: exit code 7; not restarted: RestartLimit 3 in 60 s");
        let history = slot.history();
        let all: Vec<_> =
            history.exits.iter().map(|exit| (exit.incarnation, exit.verdict.as_str())).collect();
        assert_eq!(&all[..3], [1, 2, 3].map(|number| (number, "app error: exit code 7")));
        assert_eq!((all.len(), history.dropped), (4, 0));
        let ids: std::collections::BTreeSet<_> = history.exits.iter().map(|exit| &exit.proc_id).collect();
        assert_eq!(ids.len(), 4, "each launch has an id of its own");
        assert_eq!(slot.status().restarts, 3);
        assert_eq!(slot.output_tail(Stream::Stdout), ["last words"]);
        assert_eq!(
            record.told(),
            [
                "1 exit of 1",
                "1 restarting as 2, Some((1, 3))",
                "2 exit of 2",
                "2 restarting as 3, Some((2, 3))",
                "3 exit of 3",
                "3 restarting as 4, Some((3, 3))",
                "4 exit of 4",
                "4 RestartLimit 3 in 60 s",
                "4 settled"
            ]
        );
        shut_down(host).await;
    }

    #[tokio::test]
    async fn of_many_exits_the_last_are_kept_and_the_others_counted() {
        let host = host().await;
        let slot =
            one(&host, script("p", "exit 1"), RestartPolicy { intensity: 40, ..policy(Duration::ZERO) });
        soon(slot.ended()).await;
        let history = slot.history();
        assert_eq!((history.exits.len(), history.dropped), (32, 9));
        assert_eq!((history.exits[0].incarnation, history.exits[31].incarnation), (10, 41));
        shut_down(host).await;
    }
}

mod f21 {
    use super::*;

    #[tokio::test]
    async fn the_escalation_of_an_earlier_launch_does_not_reach_the_next_of_its_name() {
        let host = host().await;
        let slot = one(&host, script("slot", "exec sleep 300"), at_once());
        let old = incarnation(&slot, 1).await;
        let escalates = Duration::from_millis(300);
        let asked = Instant::now();
        soon(slot.terminate(escalates, "test")).await.unwrap();
        soon(slot.ended()).await;
        slot.respawn(None).unwrap();
        let new = incarnation(&slot, 2).await;
        assert!(new != old && !lives(old));
        // Whoever escalates does it within this time, and nothing but time shows that nobody does.
        while asked.elapsed() < escalates + Duration::from_millis(700) {
            assert!(lives(new) && slot.exit().is_none());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        soon(slot.kill("test")).await.unwrap();
        assert_eq!(soon(slot.ended()).await.incarnation, 2);
        shut_down(host).await;
    }
}

mod p13 {
    use super::*;

    #[tokio::test]
    async fn a_stop_of_any_kind_during_the_back_off_ends_it() {
        let host = host().await;
        for how in ["stop", "terminate", "kill", "the launch itself"] {
            let slot = one(&host, script(&how.replace(' ', "-"), "exit 1"), much_later());
            waits_for_its_launch(&slot).await;
            assert_eq!(slot.status().launch.status, ProcStatus::Exited);
            assert!(slot.exit().is_some() && slot.ended_now().is_none());
            match how {
                "stop" => drop(soon(slot.stop("test", None)).await),
                "terminate" => soon(slot.terminate(Duration::from_secs(5), "test")).await.unwrap(),
                "kill" => soon(slot.kill("test")).await.unwrap(),
                _ => drop(slot.stay_ended()),
            }
            let exit = soon(slot.ended()).await;
            assert_eq!((exit.verdict.as_str(), exit.incarnation), ("app error: exit code 1", 1));
            assert_eq!((slot.status().next_launch_at, slot.status().restarts), (None, 0));
        }
        assert!(host.live().is_empty());
        shut_down(host).await;
    }

    #[tokio::test]
    async fn a_stop_wins_whenever_it_comes_while_a_proc_is_launched_again_and_again() {
        let host = host().await;
        let always = RestartPolicy { when: RestartWhen::Always, intensity: 10_000, ..policy(Duration::ZERO) };
        for round in 0..40_u32 {
            let record = Record::default();
            let (specs, launcher) = (vec![script("p", "exit 0")], host.native_launcher());
            let slot = host.spawn_group(specs, &launcher, always.clone(), vec![record.observer()]);
            let slot = slot.unwrap().remove(0);
            // A different moment of the cycle each time.
            within(Duration::from_secs(20), "some launches", || slot.current().incarnation() > round % 4)
                .await;
            tokio::time::sleep(Duration::from_micros(u64::from(round) * 171)).await;
            let exit = soon(slot.stop("test", None)).await;
            let told = record.told();
            assert_eq!(told.iter().filter(|text| text.ends_with("settled")).count(), 1, "{told:?}");
            assert_eq!(told.last().unwrap(), &format!("{} settled", exit.incarnation));
            assert_eq!(host.live().len(), 0, "nothing of it is left, or will be");
            assert!(members(&exit.proc_id).is_empty());
            assert_eq!(slot.current().id(), &exit.proc_id);
        }
        shut_down(host).await;
    }

    #[tokio::test]
    async fn the_end_of_the_host_ends_what_waits_for_its_next_launch() {
        let host = host().await;
        let waiting = one(&host, script("p", "exit 1"), much_later());
        let looping = one(
            &host,
            script("q", "exit 0"),
            RestartPolicy { when: RestartWhen::Always, intensity: 10_000, ..policy(Duration::ZERO) },
        );
        waits_for_its_launch(&waiting).await;
        shut_down(host.clone()).await;
        soon(waiting.ended()).await;
        soon(looping.ended()).await;
        assert!(host.live().is_empty());
    }
}

#[tokio::test]
async fn a_name_is_kept_for_its_slot_during_the_back_off_and_free_after_a_stop() {
    let host = host().await;
    let slot = one(&host, script("p", "exit 1"), much_later());
    waits_for_its_launch(&slot).await;
    assert_eq!(host.live().get("p"), Some(&2));
    let refused = host.spawn(script("p", "exit 0"), host.native_launcher()).unwrap_err();
    assert!(refused.rule.starts_with("AlreadyExists: incarnation 2 of this name is about"), "{refused}");
    let by_hand = slot.respawn(None).unwrap_err();
    assert!(by_hand.rule.ends_with("its restart policy launches it again"), "{by_hand}");
    soon(slot.stop("test", None)).await;
    assert_eq!(soon(spawn(&host, script("p", "exit 0")).ended()).await.incarnation, 2);
    slot.respawn(None).unwrap();
    waits_for_its_launch(&slot).await;
    assert_eq!(slot.exit().unwrap().incarnation, 3);
    shut_down(host).await;
}

#[tokio::test]
async fn one_for_all_stops_the_others_and_launches_all_of_them_once() {
    let host = host().await;
    let specs = (0..3).map(|n| {
        let mut spec = script(&format!("p{n}"), "exec sleep 300");
        spec.rank = n;
        spec
    });
    let slots =
        group(&host, specs.collect(), RestartPolicy { strategy: RestartStrategy::OneForAll, ..at_once() });
    let mut pids = Vec::new();
    for slot in &slots {
        pids.push(incarnation(slot, 1).await);
    }
    signal_kill(pids[1]);
    for slot in &slots {
        let new = incarnation(slot, 2).await;
        assert!(lives(new) && slot.status().restarts == 1);
    }
    assert!(pids.iter().all(|pid| !lives(*pid)));
    for (index, slot) in slots.iter().enumerate() {
        let first = Arc::clone(&slot.history().exits[0]);
        match &first.requested {
            None => assert_eq!((index, &first.verdict[..7]), (1, "killed:")),
            Some(request) => {
                assert_eq!(request.by, "restart");
                assert!(request.why.starts_with("rank 1 ended: killed: signal 9"), "{request}");
            }
        }
    }
    // One that somebody stops stays away, and takes nobody along.
    soon(slots[0].stop("test", None)).await;
    signal_kill(incarnation(&slots[2], 2).await);
    for slot in &slots[1..] {
        incarnation(slot, 3).await;
    }
    assert_eq!(slots[0].current().incarnation(), 2);
    shut_down(host).await;
}

#[tokio::test]
async fn who_is_given_up_ends_those_that_are_of_no_use_without_it() {
    let host = host().await;
    let policy = RestartPolicy {
        strategy: RestartStrategy::RestForOne,
        budgets: Budgets { app: Some(0), ..Budgets::default() },
        ..at_once()
    };
    let gate = tempfile::tempdir().unwrap();
    let ends = format!("until [ -e {}/open ]; do sleep 0.01; done; exit 1", gate.path().display());
    let specs = ["exec sleep 300", &ends, "exec sleep 300"];
    let specs = specs.iter().enumerate().map(|(n, text)| script(&format!("p{n}"), text)).collect();
    let slots = group(&host, specs, policy);
    for slot in &slots {
        incarnation(slot, 1).await;
    }
    std::fs::write(gate.path().join("open"), "").unwrap();
    let failed = soon(slots[1].ended()).await;
    assert!(failed.verdict.ends_with("; not restarted: RestartLimit 0 for app"), "{}", failed.verdict);
    let along = soon(slots[2].ended()).await;
    assert_eq!(along.requested.as_ref().unwrap().by, "restart");
    assert_eq!(along.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });
    assert!(slots[0].exit().is_none());
    shut_down(host).await;
}

#[tokio::test]
async fn ends_of_each_class_have_a_budget_of_their_own() {
    let host = host().await;
    let budgets = Budgets { app: Some(2), boot: Some(1), launcher: Some(0), ..Budgets::default() };
    let policy = RestartPolicy { budgets, ..at_once() };
    let missing = SpawnSpec::new("p", BootstrapCommand::new("/no/such/program"));
    let mut late = booting_script("p", "exec sleep 300");
    late.policy.ready_timeout = Duration::from_millis(50);
    for (spec, limit) in [
        (script("p", "exit 1"), "RestartLimit 2 for app"),
        (booting_script("p", "exit 0"), "RestartLimit 1 for boot"),
        (late, "RestartLimit 1 for boot"),
        (missing, "RestartLimit 0 for launcher"),
    ] {
        let slot = one(&host, spec, policy.clone());
        let exit = soon(slot.ended()).await;
        assert!(exit.verdict.ends_with(&format!("; not restarted: {limit}")), "{}", exit.verdict);
    }
    shut_down(host).await;
}

#[tokio::test]
async fn whoever_waits_for_readiness_waits_for_the_launch_that_gets_there() {
    let host = host().await;
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("second");
    let exe = std::env::current_exe().unwrap();
    let mut spec = crate::common::program("p", "proc");
    let again =
        format!("[ -e {0} ] || {{ touch {0}; exit 1; }}; exec {1} \"$@\"", flag.display(), exe.display());
    spec.command.program = Path::new("/bin/sh").into();
    let args = std::mem::take(&mut spec.command.args);
    spec.command.args = vec!["-c".into(), again, "sh".into()];
    spec.command.args.extend(args);
    let slot = one(&host, spec, at_once());
    soon(slot.ready()).await.unwrap();
    assert_eq!((slot.current().incarnation(), slot.ready_now()), (2, Some(Ok(()))));
    let hopeless = one(&host, booting_script("q", "echo why >&2; exit 1"), at_once());
    let text = soon(hopeless.ready()).await.unwrap_err();
    assert!(text.contains("ended before it was ready") && text.contains("why"), "{text}");
    assert_eq!(hopeless.ready_now().unwrap().unwrap_err(), text);
    shut_down(host).await;
}

#[tokio::test]
async fn a_group_with_a_name_that_is_taken_launches_nothing() {
    let host = host().await;
    let taken = spawn(&host, script("b", "exec sleep 300"));
    let specs = vec![script("a", "exit 0"), script("b", "exit 0")];
    let refused = host.spawn_group(specs, &host.native_launcher(), at_once(), Vec::new()).unwrap_err();
    assert_eq!(refused.field, "name");
    assert_eq!(host.live().into_keys().collect::<Vec<_>>(), ["b"]);
    let zero = RestartPolicy { period: Duration::ZERO, ..at_once() };
    let refused = host.spawn_group(vec![script("a", "exit 0")], &host.native_launcher(), zero, Vec::new());
    assert_eq!(refused.unwrap_err().field, "period");
    soon(taken.kill("test")).await.unwrap();
    shut_down(host).await;
}

#[tokio::test]
async fn an_observer_hears_of_all_launches_and_whoever_comes_between_two_hears_how_the_last_one_ended() {
    let host = host().await;
    let slot = one(&host, script("p", "echo said; exit 1"), much_later());
    waits_for_its_launch(&slot).await;
    let record = Record::default();
    let [past, _] = slot.watch_with_past(record.observer(), None);
    assert_eq!((past, record.told()), (vec!["said".to_owned()], vec!["1 exit of 1".to_owned()]));
    soon(slot.stop("test", None)).await;
    slot.respawn(None).unwrap();
    waits_for_its_launch(&slot).await;
    let told = record.told();
    assert_eq!(
        told[1..],
        ["1 settled", "1 restarting as 2, None", "2 exit of 2", "2 restarting as 3, Some((1, 3))"]
    );
    let lines = record
        .0
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, event)| matches!(event, ProcEvent::Output { .. }))
        .count();
    assert_eq!(lines, 1, "of the second launch");
    shut_down(host).await;
}
