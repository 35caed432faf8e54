use std::env;
use std::time::Duration;

use procession_model::{ProcExitKind, ProcExitResult};
use procession_supervise::{Effect, Event, Note, Policy, Readiness, StopHow};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::world::*;

fn cases() -> Config {
    let cases = env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn policies() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(call_back, launcher_reports, os_tells)| Policy {
        readiness: if call_back { Readiness::CallBack } else { Readiness::None },
        launcher_reports,
        os_tells,
        ..Policy::default()
    })
}

fn kinds() -> impl Strategy<Value = ProcExitKind> {
    prop_oneof![
        (-1..4).prop_map(exited),
        (1..32).prop_map(signaled),
        Just(ProcExitKind::Failed { reason: "failed".to_owned() }),
        Just(ProcExitKind::Lost { reason: "lost".to_owned() }),
    ]
}

/// How a process that somebody waited for has ended.
fn statuses() -> impl Strategy<Value = ProcExitKind> {
    prop_oneof![(0..4).prop_map(exited), (1..4).prop_map(signaled)]
}

fn pids() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), Just(Some(PID))]
}

fn answers() -> impl Strategy<Value = Result<(), String>> {
    prop_oneof![Just(Ok(())), Just(Err("no".to_owned()))]
}

fn stops() -> impl Strategy<Value = Event> {
    let how = prop_oneof![Just(StopHow::AgentFirst), Just(StopHow::Terminate), Just(StopHow::Kill)];
    (how, 0..20_u64).prop_map(|(how, grace)| stop(how, grace))
}

/// Everything that does not say that it has ended.
fn signs_of_life() -> impl Strategy<Value = Event> {
    prop_oneof![
        pids().prop_map(|pid| Event::LaunchAcknowledged { pid }),
        pids().prop_map(|pid| Event::CalledBack { pid }),
        (pids(), any::<bool>()).prop_map(|(pid, moved)| Event::Reported {
            pid,
            handle: None,
            progress: moved.then(|| "moved".to_owned()),
        }),
        Just(Event::NotifiedReady),
        answers().prop_map(Event::TerminateAnswered),
        answers().prop_map(Event::KillAnswered),
        Just(Event::KillUnanswered),
        Just(Event::AgentStopFailed),
        Just(unreachable()),
        Just(Event::HeardAgain),
        stops(),
    ]
}

fn ends() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(refused()),
        kinds().prop_map(reported),
        kinds().prop_map(|kind| Event::OsExit(ProcExitResult::new(kind))),
        Just(Event::OsGone),
        Just(Event::OsUntold),
    ]
}

fn moments() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0..40_000_u64).prop_map(Duration::from_millis)]
}

/// How often this was done.
fn count(world: &World, what: impl Fn(&Effect) -> bool) -> usize {
    world.times(what).len()
}

proptest! {
    #![proptest_config(cases())]

    /// The world itself checks the table, the timers and the silence after the exit at every step.
    #[test]
    fn any_order_of_events_with_an_end_in_it_publishes_exactly_once(
        policy in policies(),
        before in prop::collection::vec((signs_of_life(), moments()), 0..12),
        end in ends(),
        after in prop::collection::vec((prop_oneof![signs_of_life(), ends()], moments()), 0..12),
    ) {
        let mut world = World::new(policy);
        for (event, moment) in before {
            world.feed(event);
            world.pass(moment);
        }
        world.feed(end);
        world.pass(Policy::default().report_wait);
        world.ended();
        for (event, moment) in after {
            world.feed(event);
            world.pass(moment);
        }
        world.run_out();
        let publications = count(&world, |effect| matches!(effect, Effect::Publish(_)));
        prop_assert_eq!(publications, 1);
        prop_assert!(world.armed().is_empty());
        prop_assert!(world.ready_failures().len() <= 1);
    }

    #[test]
    fn any_order_of_events_with_a_stop_in_it_ends_within_its_bounds(
        policy in policies(),
        before in prop::collection::vec((signs_of_life(), moments()), 0..8),
        end in stops(),
        after in prop::collection::vec((signs_of_life(), moments()), 0..8),
    ) {
        let mut world = World::new(policy);
        for (event, moment) in before {
            world.feed(event);
            world.pass(moment);
        }
        let asked = world.now;
        world.feed(end);
        for (event, moment) in after {
            world.feed(event);
            world.pass(moment);
        }
        world.run_out();
        world.ended();
        let published = world.times(|effect| matches!(effect, Effect::Publish(_)))[0];
        // Two rungs of at most 20 s, the kill's bound, and once more that bound when the
        // acknowledgement of the launch came after the kill.
        prop_assert!(published <= asked.as_secs_f64() + 40.0 + 60.0, "{published} after {asked:?}");
    }

    #[test]
    fn a_mute_launcher_is_asked_to_kill_no_later_than_the_shortest_request_says(
        agent in any::<bool>(),
        requests in prop::collection::vec((stops(), moments()), 1..6),
    ) {
        let mut world = World::up(Policy {
            readiness: if agent { Readiness::CallBack } else { Readiness::None },
            ..native()
        });
        let mut latest = Duration::MAX;
        for (event, moment) in requests {
            let Event::StopAsked { how, grace, .. } = &event else { unreachable!() };
            let rungs = match how {
                StopHow::AgentFirst if agent => 2,
                StopHow::AgentFirst | StopHow::Terminate => 1,
                StopHow::Kill => 0,
            };
            latest = latest.min(world.now + *grace * rungs);
            world.feed(event);
            world.pass(moment);
        }
        world.run_out();
        world.ended();
        prop_assert!(world.kills()[0] <= latest.as_secs_f64());
    }

    #[test]
    fn readiness_comes_from_the_proc_alone(
        policy in policies(),
        events in prop::collection::vec((signs_of_life(), moments()), 0..16),
    ) {
        let mut world = World::new(policy);
        let mut said = false;
        for (event, moment) in events {
            said |= matches!(event, Event::CalledBack { .. } | Event::NotifiedReady);
            world.feed(event);
            world.pass(moment);
            prop_assert!(said || !world.statuses().contains(&procession_model::ProcStatus::Ready));
        }
    }

    #[test]
    fn the_operating_system_stands_and_whoever_says_otherwise_is_recorded(
        os_tells in any::<bool>(),
        truth in statuses(),
        report in statuses(),
        os_first in any::<bool>(),
        between in 0..200_u64,
        late in prop::collection::vec(ends(), 0..4),
    ) {
        let mut world = World::up(Policy { os_tells, ..Policy::default() });
        let mut both = [os(truth.clone()), reported(report.clone())];
        if !os_first {
            both.reverse();
        }
        let [first, second] = both;
        world.feed(first);
        world.pass(Duration::from_millis(between));
        world.feed(second);
        late.into_iter().for_each(|event| { world.feed(event); });
        world.run_out();
        let ended = world.ended();
        prop_assert_eq!(&ended.kind, &truth);
        prop_assert_eq!(ended.contradictions.len(), usize::from(truth != report));
        let noted = world.notes().iter().filter(|note| matches!(note, Note::Contradiction { .. })).count();
        prop_assert_eq!(noted, ended.contradictions.len());
    }
}
