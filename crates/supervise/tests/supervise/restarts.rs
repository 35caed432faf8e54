//! Restart policies, case by case.

use std::time::Duration;

use procession_model::ExitClass;
use procession_supervise::{
    Backoff, Budgets, GroupEffect as Effect, GroupEvent as Event, GroupState, GroupTimer, RestartLimit,
    RestartPolicy, RestartStrategy, RestartWhen,
};

fn policy() -> RestartPolicy {
    let backoff = Backoff { jitter: 0.0, ..RestartPolicy::default().backoff };
    RestartPolicy { backoff, ..RestartPolicy::on_failure() }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn failed(slot: usize) -> Event {
    Event::Ended { slot, class: ExitClass::App, requested: false }
}

fn timer(effects: &[Effect]) -> GroupTimer {
    let arm = |effect: &Effect| if let Effect::Arm(timer, _) = effect { Some(*timer) } else { None };
    effects.iter().find_map(arm).expect("a timer was armed")
}

/// How long each of these waits says that it takes.
fn waits(effects: &[Effect]) -> Vec<Duration> {
    let after =
        |effect: &Effect| if let Effect::Restarting { after, .. } = effect { Some(*after) } else { None };
    effects.iter().filter_map(after).collect()
}

fn launched(effects: &[Effect]) -> Vec<usize> {
    let slot = |effect: &Effect| if let Effect::Launch { slot } = effect { Some(*slot) } else { None };
    effects.iter().filter_map(slot).collect()
}

/// Lets the slot fail, and waits for its next launch.
fn fail_and_launch(group: &mut GroupState, slot: usize, at: Duration) -> Duration {
    let effects = group.step(failed(slot), at);
    let after = waits(&effects)[0];
    let effects = group.step(Event::TimerFired { timer: timer(&effects) }, at + after);
    assert_eq!(launched(&effects), [slot]);
    after
}

mod p13 {
    use super::*;

    #[test]
    fn a_crash_loop_is_given_up_at_the_limit_and_says_the_numbers() {
        let mut group = GroupState::new(policy(), 1, 0);
        let mut now = Duration::ZERO;
        for wait in [0.1, 0.2, 0.4] {
            assert_eq!(fail_and_launch(&mut group, 0, now), seconds(wait));
            now += seconds(wait);
        }
        let limit = RestartLimit::Intensity { count: 3, period: seconds(60.0) };
        assert_eq!(limit.to_string(), "RestartLimit 3 in 60 s");
        let effects = group.step(failed(0), now);
        assert_eq!(effects, [Effect::GiveUp { slot: 0, limit }, Effect::Settled { slot: 0 }]);
    }

    #[test]
    fn restarts_that_are_longer_ago_than_the_period_count_no_more() {
        let mut group = GroupState::new(policy(), 1, 0);
        for now in [0.0, 30.0, 59.0, 61.0, 100.0] {
            fail_and_launch(&mut group, 0, seconds(now));
        }
        assert!(matches!(group.step(failed(0), seconds(120.0))[0], Effect::Restarting { attempt: 3, .. }));
    }

    #[test]
    fn the_back_off_starts_anew_after_a_healthy_time_and_the_limit_holds_all_the_same() {
        let mut group = GroupState::new(RestartPolicy { healthy_after: seconds(5.0), ..policy() }, 1, 0);
        assert_eq!(fail_and_launch(&mut group, 0, seconds(0.0)), seconds(0.1));
        assert_eq!(fail_and_launch(&mut group, 0, seconds(1.0)), seconds(0.2));
        group.step(Event::Ready { slot: 0 }, seconds(2.0));
        assert_eq!(fail_and_launch(&mut group, 0, seconds(7.0)), seconds(0.1));
        group.step(Event::Ready { slot: 0 }, seconds(8.0));
        assert!(matches!(group.step(failed(0), seconds(20.0))[0], Effect::GiveUp { .. }));
    }

    #[test]
    fn a_requested_stop_beats_a_restart_that_waits_and_one_that_was_not_decided_yet() {
        let mut group = GroupState::new(policy(), 2, 0);
        let effects = group.step(failed(0), Duration::ZERO);
        let due = timer(&effects);
        let effects = group.step(Event::StopRequested { slots: vec![0, 1] }, seconds(0.05));
        assert_eq!(effects, [Effect::Settled { slot: 0 }]);
        assert_eq!(group.step(Event::TimerFired { timer: due }, seconds(0.1)), []);
        assert_eq!(group.step(failed(1), seconds(0.2)), [Effect::Settled { slot: 1 }]);
    }

    #[test]
    fn jitter_shortens_waits_and_no_two_seeds_agree() {
        let policy = RestartPolicy { intensity: 100, ..RestartPolicy::on_failure() };
        let waits = |seed| {
            let mut group = GroupState::new(policy.clone(), 1, seed);
            (0..12).map(|n| fail_and_launch(&mut group, 0, seconds(f64::from(n) * 40.0))).collect::<Vec<_>>()
        };
        let (one, other) = (waits(1), waits(2));
        assert_ne!(one, other);
        for (n, wait) in one.iter().chain(&other).enumerate() {
            let full = (0.1 * 2_f64.powi(n as i32 % 12)).min(30.0);
            assert!(*wait <= seconds(full) && *wait >= seconds(full * 0.8), "{n}: {wait:?}");
        }
    }
}

#[test]
fn only_what_the_policy_names_is_restarted() {
    for (when, clean, app) in [
        (RestartWhen::Never, false, false),
        (RestartWhen::OnFailure, false, true),
        (RestartWhen::Always, true, true),
    ] {
        for (class, restarted) in [(ExitClass::Clean, clean), (ExitClass::App, app)] {
            let mut group = GroupState::new(RestartPolicy { when, ..policy() }, 1, 0);
            let effects = group.step(Event::Ended { slot: 0, class, requested: false }, Duration::ZERO);
            assert_eq!(!waits(&effects).is_empty(), restarted, "{when:?} after {class}");
            assert_eq!(effects.contains(&Effect::Settled { slot: 0 }), !restarted);
        }
    }
    let mut none = GroupState::new(RestartPolicy { intensity: 0, ..policy() }, 1, 0);
    assert_eq!(none.step(failed(0), Duration::ZERO), [Effect::Settled { slot: 0 }]);
}

#[test]
fn a_budget_limits_ends_of_its_class_alone() {
    let budgets = Budgets { oom: Some(1), boot: Some(0), ..Budgets::default() };
    let end = |class| Event::Ended { slot: 0, class, requested: false };
    let mut group = GroupState::new(RestartPolicy { budgets, ..policy() }, 1, 0);
    let effects = group.step(end(ExitClass::Oom), Duration::ZERO);
    group.step(Event::TimerFired { timer: timer(&effects) }, seconds(0.1));
    fail_and_launch(&mut group, 0, seconds(1.0));
    let limit = RestartLimit::Budget { class: ExitClass::Oom, count: 1 };
    assert_eq!(limit.to_string(), "RestartLimit 1 for oom");
    assert_eq!(group.step(end(ExitClass::Oom), seconds(2.0))[0], Effect::GiveUp { slot: 0, limit });
    let mut group = GroupState::new(RestartPolicy { budgets, ..policy() }, 1, 0);
    assert!(matches!(group.step(end(ExitClass::Boot), Duration::ZERO)[0], Effect::GiveUp { .. }));
}

#[test]
fn a_budget_is_whole_again_after_a_healthy_time_and_not_before() {
    let budgets = Budgets { app: Some(1), ..Budgets::default() };
    let healthy_after = seconds(5.0);
    let mut group = GroupState::new(RestartPolicy { budgets, healthy_after, ..policy() }, 1, 0);
    fail_and_launch(&mut group, 0, seconds(0.0));
    group.step(Event::Ready { slot: 0 }, seconds(1.0));
    fail_and_launch(&mut group, 0, seconds(6.0));
    group.step(Event::Ready { slot: 0 }, seconds(7.0));
    let limit = RestartLimit::Budget { class: ExitClass::App, count: 1 };
    assert_eq!(group.step(failed(0), seconds(11.9))[0], Effect::GiveUp { slot: 0, limit });
}

#[test]
fn one_for_all_ends_the_others_and_launches_all_when_the_last_has_ended() {
    let policy = RestartPolicy { strategy: RestartStrategy::OneForAll, ..policy() };
    let mut group = GroupState::new(policy, 3, 0);
    let clean = Event::Ended { slot: 0, class: ExitClass::Clean, requested: false };
    assert_eq!(group.step(clean, Duration::ZERO), [], "another may still take it along");
    let effects = group.step(failed(2), seconds(1.0));
    assert_eq!(effects[2], Effect::Stop { slots: vec![1], because_of: 2 });
    let due = timer(&effects);
    assert_eq!(group.step(Event::TimerFired { timer: due }, seconds(1.1)), []);
    let effects = group.step(failed(1), seconds(5.0));
    assert_eq!(launched(&effects), [0, 1, 2]);
    assert_eq!(effects.len(), 3, "an end on the way counts for nothing");
}

#[test]
fn rest_for_one_leaves_earlier_slots_alone() {
    let policy = RestartPolicy { strategy: RestartStrategy::RestForOne, ..policy() };
    let mut group = GroupState::new(policy, 3, 0);
    let effects = group.step(failed(1), Duration::ZERO);
    assert_eq!(effects[2], Effect::Stop { slots: vec![2], because_of: 1 });
    group.step(failed(2), Duration::ZERO);
    let effects = group.step(Event::TimerFired { timer: timer(&effects) }, seconds(0.1));
    assert_eq!(launched(&effects), [1, 2]);
}

#[test]
fn who_is_given_up_takes_along_those_that_are_restarted_with_it() {
    let policy = RestartPolicy {
        strategy: RestartStrategy::OneForAll,
        budgets: Budgets { app: Some(0), ..Budgets::default() },
        ..policy()
    };
    let mut group = GroupState::new(policy, 2, 0);
    let effects = group.step(failed(1), Duration::ZERO);
    assert_eq!(effects[1], Effect::Stop { slots: vec![0], because_of: 1 });
    assert_eq!(effects[2], Effect::Settled { slot: 1 });
    assert_eq!(group.step(failed(0), seconds(1.0)), [Effect::Settled { slot: 0 }]);
}

#[test]
fn a_launch_by_hand_starts_anew_and_is_refused_while_the_policy_has_one_in_mind() {
    let mut group = GroupState::new(policy(), 1, 0);
    assert_eq!(group.step(Event::Respawned { slot: 0 }, Duration::ZERO), [], "it lives");
    group.step(failed(0), Duration::ZERO);
    assert_eq!(group.step(Event::Respawned { slot: 0 }, Duration::ZERO), [], "it is due");
    group.step(Event::StopRequested { slots: vec![0] }, Duration::ZERO);
    assert_eq!(launched(&group.step(Event::Respawned { slot: 0 }, Duration::ZERO)), [0]);
    assert_eq!(fail_and_launch(&mut group, 0, seconds(1.0)), seconds(0.1));
}

#[test]
fn figures_that_make_no_policy_are_refused_by_name() {
    type Change = fn(&mut RestartPolicy);
    let changes: [(&str, Change); 6] = [
        ("period = 0: has to be more than 0 seconds", |p| p.period = Duration::ZERO),
        ("backoff = (2, 1): the first wait", |p| {
            p.backoff.first = Duration::from_secs(2);
            p.backoff.most = Duration::from_secs(1);
        }),
        ("factor = 0.5: has to be", |p| p.backoff.factor = 0.5),
        ("factor = NaN: has to be", |p| p.backoff.factor = f64::NAN),
        ("jitter = 1.5: has to be", |p| p.backoff.jitter = 1.5),
        ("jitter = NaN: has to be", |p| p.backoff.jitter = f64::NAN),
    ];
    for (text, change) in changes {
        let mut bad = policy();
        change(&mut bad);
        let refused = bad.check().unwrap_err().to_string();
        assert!(refused.starts_with(text), "{refused}");
    }
    policy().check().unwrap();
}
