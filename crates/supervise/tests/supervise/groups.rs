//! Groups of slots with a restart policy, in a world in which time is virtual and any order of events may come.

use std::collections::{BTreeSet, VecDeque};
use std::env;
use std::time::Duration;

use procession_model::ExitClass;
use procession_supervise::{
    ActorsAfter, Backoff, Budgets, GroupEffect, GroupEvent, GroupState, GroupTimer, RestartPolicy,
    RestartStrategy, RestartWhen,
};
use proptest::prelude::*;
use proptest::test_runner::Config;

const SLOTS: usize = 4;
const CLASSES: [ExitClass; 6] = [
    ExitClass::Clean,
    ExitClass::App,
    ExitClass::Oom,
    ExitClass::Boot,
    ExitClass::Evicted,
    ExitClass::Launcher,
];

#[derive(Clone, Debug)]
enum Op {
    End(usize, ExitClass),
    Ready(usize),
    Stop(Vec<usize>),
    Respawn(usize),
    Pass(u64),
    /// The host dies, and the next one goes on.
    NextHost,
}

/// A group, and what the world around it must never see it do.
struct World {
    group: GroupState,
    policy: RestartPolicy,
    now: Duration,
    alive: Vec<bool>,
    /// Asked to end by the group, and not ended yet.
    told: BTreeSet<usize>,
    stopped: Vec<bool>,
    settled: Vec<bool>,
    /// Launched by hand since a restart of the others was decided, which passes them over.
    fresh: BTreeSet<usize>,
    timers: Vec<(Duration, GroupTimer)>,
    /// When each track launched something again by itself.
    launches: Vec<VecDeque<Duration>>,
    /// Not before this may a track launch anything.
    earliest: Vec<Duration>,
    streak: Vec<i32>,
    ready_at: Vec<Option<Duration>>,
}

impl World {
    fn new(policy: RestartPolicy, seed: u64) -> Self {
        Self {
            group: GroupState::new(policy.clone(), SLOTS, seed),
            policy,
            now: Duration::ZERO,
            alive: vec![true; SLOTS],
            told: BTreeSet::new(),
            stopped: vec![false; SLOTS],
            settled: vec![false; SLOTS],
            fresh: BTreeSet::new(),
            timers: Vec::new(),
            launches: vec![VecDeque::new(); SLOTS],
            earliest: vec![Duration::ZERO; SLOTS],
            streak: vec![0; SLOTS],
            ready_at: vec![None; SLOTS],
        }
    }

    fn track(&self, slot: usize) -> usize {
        if self.policy.strategy == RestartStrategy::OneForOne { slot } else { 0 }
    }

    fn with(&self, slot: usize) -> BTreeSet<usize> {
        match self.policy.strategy {
            RestartStrategy::OneForOne => [slot].into(),
            RestartStrategy::OneForAll => (0..SLOTS).collect(),
            RestartStrategy::RestForOne => (slot..SLOTS).collect(),
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::End(slot, class) if self.alive[slot] => self.end(slot, class),
            Op::Ready(slot) if self.alive[slot] => {
                self.ready_at[slot].get_or_insert(self.now);
                self.feed(GroupEvent::Ready { slot });
            }
            Op::Stop(slots) => {
                slots.iter().for_each(|slot| self.stopped[*slot] = true);
                self.feed(GroupEvent::StopRequested { slots });
            }
            Op::Respawn(slot) => {
                let may = self.settled[slot];
                self.stopped[slot] &= !may;
                if may {
                    let track = self.track(slot);
                    self.streak[track] = 0;
                }
                let effects = self.feed(GroupEvent::Respawned { slot });
                assert_eq!(
                    effects.contains(&GroupEffect::Launch { slot }),
                    may,
                    "by hand exactly what is settled"
                );
            }
            Op::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
            Op::NextHost => self.next_host(),
            Op::End(..) | Op::Ready(_) => {}
        }
    }

    /// Of what was, it knows who lives and what becomes of each. Counts, waits and back-offs begin anew.
    fn next_host(&mut self) {
        let slots: Vec<_> = (0..SLOTS).map(|slot| (self.alive[slot], self.group.fate(slot))).collect();
        let (group, effects) = GroupState::resume(self.policy.clone(), &slots, 0, self.now);
        let tracks = self.launches.len();
        self.group = group;
        self.timers.clear();
        self.launches = vec![VecDeque::new(); tracks];
        self.earliest = vec![Duration::ZERO; tracks];
        self.streak = vec![0; tracks];
        self.ready_at = vec![None; SLOTS];
        self.settled = vec![false; SLOTS];
        self.take_all(&effects, None);
    }

    fn end(&mut self, slot: usize, class: ExitClass) {
        let track = self.track(slot);
        if self.ready_at[slot].take().is_some_and(|at| self.now - at >= self.policy.healthy_after)
            && !self.told.contains(&slot)
            && !self.stopped[slot]
            && self.policy.restarts()
            && (class != ExitClass::Clean || self.policy.when == RestartWhen::Always)
        {
            self.streak[track] = 0;
        }
        self.alive[slot] = false;
        self.told.remove(&slot);
        self.feed(GroupEvent::Ended { slot, class, requested: false });
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = (0..self.timers.len()).min_by_key(|index| self.timers[*index].0)
            && self.timers[next].0 <= until
        {
            let (at, timer) = self.timers.swap_remove(next);
            self.now = self.now.max(at);
            self.feed(GroupEvent::TimerFired { timer });
        }
        self.now = until;
    }

    fn feed(&mut self, event: GroupEvent) -> Vec<GroupEffect> {
        let by_hand = if let GroupEvent::Respawned { slot } = &event { Some(*slot) } else { None };
        let effects = self.group.step(event, self.now);
        self.take_all(&effects, by_hand);
        effects
    }

    fn take_all(&mut self, effects: &[GroupEffect], by_hand: Option<usize>) {
        let launched: BTreeSet<usize> = effects
            .iter()
            .filter_map(|effect| if let GroupEffect::Launch { slot } = effect { Some(*slot) } else { None })
            .collect();
        let tracks: BTreeSet<usize> = launched.iter().map(|slot| self.track(*slot)).collect();
        for track in tracks.into_iter().filter(|_| by_hand.is_none()) {
            let together = launched.iter().copied().filter(|slot| self.track(*slot) == track).collect();
            self.check_launches(&together);
        }
        for effect in effects {
            self.take(effect, by_hand);
        }
    }

    fn check_launches(&mut self, launched: &BTreeSet<usize>) {
        let first = *launched.first().unwrap();
        let track = self.track(first);
        assert!(launched.iter().all(|slot| !self.stopped[*slot]), "a requested stop wins");
        let wanted: BTreeSet<usize> = self
            .with(first)
            .into_iter()
            .filter(|slot| !self.stopped[*slot] && !self.fresh.contains(slot))
            .collect();
        if self.policy.strategy == RestartStrategy::OneForAll {
            assert_eq!(*launched, wanted, "all that nobody stopped");
        } else {
            assert!(launched.is_subset(&wanted), "{launched:?} of {wanted:?}");
        }
        assert!(self.now >= self.earliest[track], "the back-off is over");
        let launches = &mut self.launches[track];
        launches.retain(|at| self.now - *at < self.policy.period);
        launches.push_back(self.now);
        assert!(launches.len() <= self.policy.intensity as usize, "at most N in any T");
    }

    fn take(&mut self, effect: &GroupEffect, by_hand: Option<usize>) {
        match effect {
            GroupEffect::Launch { slot } => {
                assert!(!self.alive[*slot], "never two launches of one slot");
                assert!(!self.stopped[*slot] || by_hand == Some(*slot));
                self.fresh.extend(by_hand);
                self.alive[*slot] = true;
                self.settled[*slot] = false;
                self.ready_at[*slot] = None;
            }
            GroupEffect::Stop { slots, because_of } => {
                for slot in slots {
                    assert!(self.alive[*slot] && slot != because_of && self.told.insert(*slot));
                    assert!(
                        self.with(*because_of).contains(slot),
                        "{slot} has nothing to do with {because_of}"
                    );
                }
            }
            GroupEffect::Restarting { slot, after, attempt, .. } => {
                assert!(!self.alive[*slot] && !self.stopped[*slot] && *attempt <= self.policy.intensity);
                self.fresh.clear();
                let track = self.track(*slot);
                let Backoff { first, factor, most, jitter } = self.policy.backoff;
                let grown = first.as_secs_f64() * factor.powi(self.streak[track]);
                let longest = grown.min(most.as_secs_f64()) + 1e-6;
                let shortest = longest * (1.0 - jitter) - 2e-6;
                let given = after.as_secs_f64();
                assert!((shortest..=longest).contains(&given), "{given} is in {shortest}..={longest}");
                self.streak[track] += 1;
                self.earliest[track] = self.now + *after;
            }
            GroupEffect::Arm(timer, after) => self.timers.push((self.now + *after, *timer)),
            GroupEffect::GiveUp { slot, .. } => {
                assert!(!self.alive[*slot] && !self.settled[*slot], "it gives up once");
                // What is of no use without it is ended too, and stays ended.
                self.with(*slot).into_iter().for_each(|other| self.stopped[other] = true);
            }
            GroupEffect::Settled { slot } => {
                assert!(!self.alive[*slot] && !self.settled[*slot], "it ends for good once");
                assert!(!self.group.waits(*slot));
                self.settled[*slot] = true;
            }
        }
    }
}

fn policies() -> impl Strategy<Value = RestartPolicy> {
    let when = prop_oneof![Just(RestartWhen::Never), Just(RestartWhen::OnFailure), Just(RestartWhen::Always)];
    let strategy = prop_oneof![
        Just(RestartStrategy::OneForOne),
        Just(RestartStrategy::OneForAll),
        Just(RestartStrategy::RestForOne)
    ];
    let budget = || prop::option::of(0..3_u32);
    let budgets = (budget(), budget(), budget(), budget(), budget())
        .prop_map(|(app, oom, boot, evicted, launcher)| Budgets { app, oom, boot, evicted, launcher });
    let backoff = (0..500_u64, 1.0..4.0_f64, 500..5_000_u64, 0.0..=1.0_f64).prop_map(
        |(first, factor, most, jitter)| Backoff {
            first: Duration::from_millis(first),
            factor,
            most: Duration::from_millis(most),
            jitter,
        },
    );
    (when, 0..5_u32, 1..20_000_u64, backoff, 0..5_000_u64, budgets, strategy).prop_map(
        |(when, intensity, period, backoff, healthy_after, budgets, strategy)| RestartPolicy {
            when,
            intensity,
            period: Duration::from_millis(period),
            backoff,
            healthy_after: Duration::from_millis(healthy_after),
            budgets,
            strategy,
            actors: ActorsAfter::Fail,
        },
    )
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..SLOTS, prop::sample::select(&CLASSES[..])).prop_map(|(slot, class)| Op::End(slot, class)),
        4 => (0..SLOTS).prop_map(Op::Ready),
        6 => (0..4_000_u64).prop_map(Op::Pass),
        1 => prop::collection::vec(0..SLOTS, 1..SLOTS).prop_map(Op::Stop),
        1 => (0..SLOTS).prop_map(Op::Respawn),
        1 => Just(Op::NextHost),
    ]
}

fn cases() -> Config {
    let cases = env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// The world checks every effect; here, that nothing is left hanging.
    #[test]
    fn whatever_happens_the_policy_holds_and_every_slot_ends_for_good_once_it_is_let_be(
        policy in policies(),
        seed in any::<u64>(),
        ops in prop::collection::vec(ops(), 0..40),
    ) {
        let mut world = World::new(policy, seed);
        ops.into_iter().for_each(|op| world.play(op));
        // Those that were told to end do, and what is due comes.
        for _ in 0..8 {
            (0..SLOTS).for_each(|slot| world.play(Op::End(slot, ExitClass::App)));
            world.play(Op::Pass(1_000));
        }
        if !world.policy.restarts() {
            prop_assert!(world.settled.iter().all(|settled| *settled), "{:?}", world.settled);
        }
        world.play(Op::Stop((0..SLOTS).collect()));
        (0..SLOTS).for_each(|slot| world.play(Op::End(slot, ExitClass::Clean)));
        world.play(Op::Pass(1_000_000));
        prop_assert!(world.settled.iter().all(|settled| *settled), "{:?}", world.settled);
        prop_assert!(!world.alive.contains(&true));
    }
}
