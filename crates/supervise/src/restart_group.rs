use std::mem;
use std::ops::Range;
use std::time::Duration;

use procession_model::ExitClass;
use serde::{Deserialize, Serialize};

use crate::restart_count::{Admitted, Count};
use crate::{RestartLimit, RestartPolicy, RestartStrategy};

/// What happened to a group of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// The launch of a slot ended.
    Ended {
        /// The slot.
        slot: usize,
        /// How, by [`crate::counts_as`].
        class: ExitClass,
        /// Somebody had asked for it, and wants it to stay ended.
        requested: bool,
    },
    /// The launch of a slot became ready.
    Ready {
        /// The slot.
        slot: usize,
    },
    /// Somebody wants these to end, or to stay ended.
    StopRequested {
        /// The slots.
        slots: Vec<usize>,
    },
    /// A timer has expired.
    TimerFired {
        /// What [`GroupEffect::Arm`] said.
        timer: GroupTimer,
    },
    /// Somebody wants a slot that has ended for good to be launched again, whatever the policy says.
    Respawned {
        /// The slot.
        slot: usize,
    },
}

/// One back-off; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupTimer {
    track: usize,
    round: u64,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEffect {
    /// For people: a slot will be launched again.
    Restarting {
        /// The slot that ended.
        slot: usize,
        /// What kind of end it was.
        class: ExitClass,
        /// In so long, or later where others have to end first.
        after: Duration,
        /// Which restart of the current period it is, from 1.
        attempt: u32,
    },
    /// Report this timer after that time.
    Arm(GroupTimer, Duration),
    /// End these: they are launched again with `because_of`, or are of no use without it.
    Stop {
        /// The slots, which all live.
        slots: Vec<usize>,
        /// The slot that ended.
        because_of: usize,
    },
    /// Launch the next incarnation of a slot, now.
    Launch {
        /// The slot.
        slot: usize,
    },
    /// For people: a slot is not launched again, though its end was one after which it should have been.
    GiveUp {
        /// The slot.
        slot: usize,
        /// Why.
        limit: RestartLimit,
    },
    /// A slot has ended for good: only [`GroupEvent::Respawned`] launches it again.
    Settled {
        /// The slot.
        slot: usize,
    },
}

/// What becomes of a slot that has ended, or once it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Its own end, or that of another slot, may launch it again.
    #[default]
    Free,
    /// It is launched again.
    Due,
    /// Nothing launches it again by itself.
    Stopped,
}

#[derive(Clone, Debug)]
struct Slot {
    alive: bool,
    ready_at: Option<Duration>,
    /// It will be launched again once it has ended and its track's timer has fired.
    due: bool,
    /// Nothing launches it again by itself.
    stopped: bool,
    settled: bool,
}

/// What is counted and delayed together: one slot, or the whole group.
#[derive(Clone, Debug, Default)]
struct Track {
    count: Count,
    round: u64,
    waits: bool,
}

/// A group of slots with one restart policy, as a pure function of what happens to it.
///
/// Times are those of one monotonic clock, from any beginning. It starts with every slot launched.
#[derive(Clone, Debug)]
pub struct GroupState {
    policy: RestartPolicy,
    slots: Vec<Slot>,
    /// One for each slot, or one for all.
    tracks: Vec<Track>,
    one_by_one: bool,
    random: u64,
    out: Vec<GroupEffect>,
}

impl GroupState {
    /// `slots` launches under `policy`; what is left to chance comes from `seed`.
    pub fn new(policy: RestartPolicy, slots: usize, seed: u64) -> Self {
        let slot = Slot { alive: true, ready_at: None, due: false, stopped: false, settled: false };
        let one_by_one = policy.strategy == RestartStrategy::OneForOne || !policy.restarts();
        let tracks = vec![Track::default(); if one_by_one { slots } else { 1 }];
        Self { policy, slots: vec![slot; slots], tracks, one_by_one, random: seed, out: Vec::new() }
    }

    /// As [`Self::new`], of a group that another host has begun: whether each slot lives, and what becomes of it. Counts
    /// and waits begin anew. Gives what to do, as [`Self::step`] does.
    pub fn resume(
        policy: RestartPolicy,
        slots: &[(bool, Fate)],
        seed: u64,
        at: Duration,
    ) -> (Self, Vec<GroupEffect>) {
        let mut state = Self::new(policy, slots.len(), seed);
        for (slot, (alive, fate)) in state.slots.iter_mut().zip(slots) {
            slot.alive = *alive;
            slot.due = *fate == Fate::Due;
            slot.stopped = *fate == Fate::Stopped;
        }
        let all = 0..slots.len();
        for slots in if state.one_by_one { all.map(|slot| slot..slot + 1).collect() } else { vec![all] } {
            state.launch_what_is_due(slots.clone(), at);
            state.settle(slots);
        }
        let effects = mem::take(&mut state.out);
        (state, effects)
    }

    /// Takes in what happened; gives what to do, in that order.
    pub fn step(&mut self, event: GroupEvent, at: Duration) -> Vec<GroupEffect> {
        let touched = self.touched_by(&event);
        match event {
            GroupEvent::Ended { slot, class, requested } if self.slots[slot].alive => {
                let ended = &mut self.slots[slot];
                ended.alive = false;
                ended.stopped |= requested;
                ended.due &= !ended.stopped;
                if !ended.stopped && !ended.due && self.policy.restarts_after(class) {
                    self.failed(slot, class, at);
                }
            }
            GroupEvent::Ready { slot } if self.slots[slot].alive => {
                self.slots[slot].ready_at.get_or_insert(at);
            }
            GroupEvent::StopRequested { slots } => slots.into_iter().for_each(|slot| self.stop(slot)),
            GroupEvent::TimerFired { timer: GroupTimer { track, round } }
                if self.tracks[track].round == round =>
            {
                self.tracks[track].waits = false;
            }
            GroupEvent::Respawned { slot } if self.slots[slot].settled => {
                let track = self.track(slot);
                self.tracks[track].count.begin_anew();
                self.launch(slot);
            }
            GroupEvent::Ended { .. }
            | GroupEvent::Ready { .. }
            | GroupEvent::TimerFired { .. }
            | GroupEvent::Respawned { .. } => {}
        }
        for slots in touched {
            self.launch_what_is_due(slots.clone(), at);
            self.settle(slots);
        }
        mem::take(&mut self.out)
    }

    /// The slots that this may launch or settle: those that are restarted together, and they alone.
    pub fn touched_by(&self, event: &GroupEvent) -> Vec<Range<usize>> {
        if !self.one_by_one {
            let all = 0..self.slots.len();
            return vec![all];
        }
        let one = |slot: usize| slot..slot + 1;
        match event {
            GroupEvent::StopRequested { slots } => slots.iter().map(|slot| one(*slot)).collect(),
            GroupEvent::TimerFired { timer } => vec![one(timer.track)],
            GroupEvent::Ended { slot, .. } | GroupEvent::Ready { slot } | GroupEvent::Respawned { slot } => {
                vec![one(*slot)]
            }
        }
    }

    /// The policy.
    pub fn policy(&self) -> &RestartPolicy {
        &self.policy
    }

    /// What becomes of a slot.
    pub fn fate(&self, slot: usize) -> Fate {
        match &self.slots[slot] {
            Slot { due: true, .. } => Fate::Due,
            Slot { stopped: true, .. } => Fate::Stopped,
            _ => Fate::Free,
        }
    }

    /// Whether a slot has ended and will be launched again, unless somebody stops it before.
    pub fn waits(&self, slot: usize) -> bool {
        self.slots[slot].due && !self.slots[slot].alive
    }

    fn track(&self, slot: usize) -> usize {
        if self.one_by_one { slot } else { 0 }
    }

    /// Those that are restarted when `slot` is.
    fn together_with(&self, slot: usize) -> Range<usize> {
        match self.policy.strategy {
            RestartStrategy::OneForOne => slot..slot + 1,
            RestartStrategy::OneForAll => 0..self.slots.len(),
            RestartStrategy::RestForOne => slot..self.slots.len(),
        }
    }

    fn failed(&mut self, slot: usize, class: ExitClass, at: Duration) {
        let healthy = self.slots[slot]
            .ready_at
            .is_some_and(|ready_at| at.saturating_sub(ready_at) >= self.policy.healthy_after);
        let chance = self.chance();
        let index = self.track(slot);
        let track = &mut self.tracks[index];
        if healthy {
            track.count.begin_anew();
        }
        let together = self.together_with(slot);
        let track = &mut self.tracks[index];
        match track.count.admit(&self.policy, class, at, chance) {
            Ok(Admitted { after, attempt }) => {
                track.round += 1;
                track.waits = true;
                let timer = GroupTimer { track: index, round: track.round };
                self.out.push(GroupEffect::Restarting { slot, class, after, attempt });
                self.out.push(GroupEffect::Arm(timer, after));
                self.stop_others(slot, together.clone());
                for other in &mut self.slots[together] {
                    other.due = !other.stopped;
                }
            }
            Err(limit) => {
                self.out.push(GroupEffect::GiveUp { slot, limit });
                self.stop_others(slot, together.clone());
                together.for_each(|other| self.stop(other));
            }
        }
    }

    fn stop_others(&mut self, because_of: usize, together: Range<usize>) {
        // Those that are stopped or due already are on their way.
        let lives = |slot: &usize| {
            let Slot { alive, stopped, due, .. } = self.slots[*slot];
            alive && !stopped && !due
        };
        let slots: Vec<usize> = together.filter(lives).collect();
        if !slots.is_empty() {
            self.out.push(GroupEffect::Stop { slots, because_of });
        }
    }

    fn stop(&mut self, slot: usize) {
        self.slots[slot].stopped = true;
        self.slots[slot].due = false;
    }

    fn launch_what_is_due(&mut self, slots: Range<usize>, at: Duration) {
        let track = self.track(slots.start);
        if self.tracks[track].waits {
            return;
        }
        let due: Vec<usize> = slots.filter(|slot| self.slots[*slot].due).collect();
        if !due.is_empty() && due.iter().all(|slot| !self.slots[*slot].alive) {
            self.tracks[track].count.launched(at);
            due.into_iter().for_each(|slot| self.launch(slot));
        }
    }

    fn launch(&mut self, slot: usize) {
        self.slots[slot] = Slot { alive: true, ready_at: None, due: false, stopped: false, settled: false };
        self.out.push(GroupEffect::Launch { slot });
    }

    fn settle(&mut self, slots: Range<usize>) {
        // Whether the end of another slot may still restart this one.
        let may_restart_others = |slot: &Slot| slot.due || (slot.alive && !slot.stopped);
        let all = self.policy.strategy == RestartStrategy::OneForAll;
        let mut open = !self.one_by_one && all && self.slots.iter().any(may_restart_others);
        for index in slots {
            let slot = &mut self.slots[index];
            if !slot.alive && !slot.due && !slot.settled && (slot.stopped || !open) {
                slot.settled = true;
                self.out.push(GroupEffect::Settled { slot: index });
            }
            open |= !self.one_by_one && may_restart_others(slot);
        }
    }

    /// A number from 0 to 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}
