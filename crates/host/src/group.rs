mod resume;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_launch::ProcLauncher;
use procession_model::{ExitClass, InvalidArgument, LaunchId, Packet, ProcExit, ProcId};
use procession_supervise::{
    ActorsAfter, Fate, GroupEffect, GroupEvent, GroupState, GroupTimer, RESTART, RestartPolicy, StopHow,
    counts_as, is_final_stop,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use crate::core::Core;
use crate::driver::Driver;
use crate::history::History;
use crate::input::Input;
use crate::ledger::Entry;
use crate::observers::{Audience, Owner, ProcEvent, SlotObserver};
use crate::outliving;
use crate::place::{Next, Place, Standing};
use crate::proc_ref::ProcRef;
use crate::slot::Slot;
use crate::spec::SpawnSpec;

/// Makes what an incarnation is sent before anything else; none where that cannot be.
pub type Opening = Arc<dyn Fn(&ProcId) -> Option<Packet> + Send + Sync>;

/// Slots with one restart policy: does what their state machine says.
///
/// Whatever changes a slot happens under the lock of that state machine, and so in one order; observers
/// are told outside of it.
pub(crate) struct Group {
    core: Arc<Core>,
    pub(crate) policy: RestartPolicy,
    state: Mutex<GroupState>,
    began: Instant,
    pub(crate) places: Vec<Place>,
}

/// What is done once the lock is let go of: a driver may end at once, where its runtime has, and takes it.
#[derive(Default)]
struct Afterwards {
    told: BTreeSet<usize>,
    launched: Vec<(usize, UnboundedReceiver<Input>)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// Launches all of them, each with an observer that misses nothing where there are any.
    pub(crate) fn start(
        core: &Arc<Core>,
        mut specs: Vec<SpawnSpec>,
        launcher: &Arc<dyn ProcLauncher>,
        policy: RestartPolicy,
        observers: Vec<SlotObserver>,
    ) -> Result<Arc<Self>, InvalidArgument> {
        let mut inputs = Vec::with_capacity(specs.len());
        let mut places = Vec::with_capacity(specs.len());
        let mut observers = observers.into_iter();
        outliving::number(&mut specs);
        for spec in specs {
            let audience = Arc::new(Audience::new(true));
            if let Some(observer) = observers.next() {
                let _nothing_was = audience.add(observer, None);
            }
            let id = ProcId::fresh(&spec.name, &core.id);
            let added = id.and_then(|id| add(core, id, &spec, false, launcher.as_ref(), &audience));
            let (current, own) = added.inspect_err(|_| unlaunched(core, &places))?;
            inputs.push(own);
            places.push(Place::new(spec, launcher, audience, current, None));
        }
        outliving::write_group(core, places.iter().map(|place| &place.spec), &policy, launcher.as_ref());
        let state = GroupState::new(policy.clone(), places.len(), seed());
        Ok(Self::begin(core, policy, state, places, inputs.into_iter().enumerate().collect()))
    }

    fn begin(
        core: &Arc<Core>,
        policy: RestartPolicy,
        state: GroupState,
        places: Vec<Place>,
        inputs: Vec<(usize, UnboundedReceiver<Input>)>,
    ) -> Arc<Self> {
        let (core, state) = (Arc::clone(core), Mutex::new(state));
        let began = core.clock.now();
        let group = Arc::new(Self { core, policy, state, began, places });
        group.core.keep_in_mind(&group);
        for (index, inputs) in inputs {
            group.drive(index, inputs);
        }
        if group.core.is_closing() {
            group.stop_requested((0..group.places.len()).collect());
        }
        group
    }

    pub(crate) fn launcher(&self, index: usize) -> Arc<dyn ProcLauncher> {
        Arc::clone(&locked(&self.places[index].launcher))
    }

    fn drive(self: &Arc<Self>, index: usize, inputs: UnboundedReceiver<Input>) {
        let place = &self.places[index];
        let shared = Arc::clone(&place.standing.borrow().current.0);
        let launcher = self.launcher(index);
        let slot = Slot { group: Arc::clone(self), index };
        let mut spec = place.spec.clone();
        // The launch that was taken over is one; later ones of its slot are our own.
        spec.adopted = spec.adopted.filter(|open| open.asked.proc_id == shared.id);
        Driver::start(Arc::clone(&self.core), shared, launcher, spec, inputs, Some(slot));
    }

    pub(crate) fn history(&self, index: usize) -> History {
        locked(&self.places[index].history).clone()
    }

    /// The end of a launch, before anybody is told: whether it is launched again is among what is told.
    pub(crate) fn ended(&self, index: usize, exit: &mut ProcExit) -> Vec<GroupEffect> {
        let mut state = locked(&self.state);
        let requested = exit.requested.as_ref().is_some_and(|request| is_final_stop(&request.by));
        let class = counts_as(exit.certificate.verdict);
        let effects = self.step(&mut state, GroupEvent::Ended { slot: index, class, requested });
        for effect in &effects {
            if let GroupEffect::GiveUp { slot, limit } = effect
                && *slot == index
            {
                exit.verdict.push_str(&format!("; not restarted: {limit}"));
            }
        }
        effects
    }

    /// The exit is there: tells it, and does what follows from it.
    pub(crate) fn published(self: &Arc<Self>, index: usize, exit: Arc<ProcExit>, effects: Vec<GroupEffect>) {
        let mut after = Afterwards { told: BTreeSet::from([index]), ..Afterwards::default() };
        {
            let mut state = locked(&self.state);
            let place = &self.places[index];
            locked(&place.history).push(exit);
            place.standing.send_modify(|standing| standing.published = true);
            self.carry_out(&mut state, effects, &mut after);
            self.tell_settled(index);
        }
        self.finish(after);
    }

    pub(crate) fn became_ready(&self, index: usize, proc_id: &ProcId) {
        let mut state = locked(&self.state);
        if self.places[index].standing.borrow().current.id() == proc_id {
            let nothing = self.step(&mut state, GroupEvent::Ready { slot: index });
            debug_assert!(nothing.is_empty(), "that it is ready changes nothing yet");
        }
    }

    /// Nothing launches these again by itself. Those that live go on to.
    pub(crate) fn stop_requested(self: &Arc<Self>, slots: Vec<usize>) {
        self.happened(|_| Some(GroupEvent::StopRequested { slots }));
    }

    /// As [`Self::stop_requested`], by somebody who knows one launch of the slot: unless that is history.
    pub(crate) fn stop_requested_of(self: &Arc<Self>, index: usize, proc_id: &ProcId) {
        self.happened(|group| {
            let is_current = group.places[index].standing.borrow().current.id() == proc_id;
            is_current.then(|| GroupEvent::StopRequested { slots: vec![index] })
        });
    }

    /// Launches a slot that has ended for good once more.
    pub(crate) fn respawn(
        self: &Arc<Self>,
        index: usize,
        launcher: Option<Arc<dyn ProcLauncher>>,
    ) -> Result<(), InvalidArgument> {
        let mut after = Afterwards { told: BTreeSet::from([index]), ..Afterwards::default() };
        {
            let mut state = locked(&self.state);
            let place = &self.places[index];
            let standing = place.standing.borrow().clone();
            let proc_id = standing.current.id();
            if !standing.settled || !standing.published {
                let rule = match &standing.next {
                    Some(_) => format!("{proc_id} has ended, and its restart policy launches it again"),
                    None => format!("{proc_id} is alive: stop or kill it, and wait for it, first"),
                };
                return Err(InvalidArgument::new("slot", format!("{:?}", proc_id.name()), rule));
            }
            self.core.claim(&place.spec.name)?;
            // After so many others its name may be forgotten.
            self.core.expect_incarnation(&place.spec.name, standing.current.incarnation() + 1);
            if let Some(launcher) = launcher {
                *locked(&place.launcher) = launcher;
            }
            let restarting = ProcEvent::Restarting {
                incarnation: self.core.next_incarnation(&place.spec.name),
                after: Duration::ZERO,
                attempt: None,
                why: "asked for by hand".to_owned(),
            };
            standing.current.0.observers.put([restarting]);
            let effects = self.step(&mut state, GroupEvent::Respawned { slot: index });
            self.carry_out(&mut state, effects, &mut after);
        }
        self.finish(after);
        Ok(())
    }

    /// `look` sees the current launch, or the id of the next one where that is decided, and no change of it meanwhile.
    pub(crate) fn look<T>(&self, index: usize, look: impl FnOnce(&ProcRef, Option<&ProcId>) -> T) -> T {
        let _unchanged = locked(&self.state);
        let standing = self.places[index].standing.borrow().clone();
        look(&standing.current, standing.next.as_ref().map(|next| &next.proc_id))
    }

    pub(crate) fn remember(&self, index: usize, name: Arc<str>, opening: Opening) {
        if self.policy.actors == ActorsAfter::Respawn {
            locked(&self.places[index].openings).push((name, opening));
        }
    }

    pub(crate) fn actor_is_done(&self, index: usize, name: &str) {
        locked(&self.places[index].openings).retain(|(known, _)| &**known != name);
    }

    fn timer_fired(self: &Arc<Self>, timer: GroupTimer) {
        self.happened(|_| Some(GroupEvent::TimerFired { timer }));
    }

    fn happened(self: &Arc<Self>, event: impl FnOnce(&Self) -> Option<GroupEvent>) {
        let mut after = Afterwards::default();
        {
            let mut state = locked(&self.state);
            let Some(event) = event(self) else { return };
            let effects = self.step(&mut state, event);
            self.carry_out(&mut state, effects, &mut after);
        }
        self.finish(after);
    }

    /// Steps, and has the next launches prepared: of those slots that wait for one, or are to be launched now.
    fn step(&self, state: &mut GroupState, event: GroupEvent) -> Vec<GroupEffect> {
        let touched = state.touched_by(&event);
        let effects = state.step(event, self.core.clock.now().saturating_duration_since(self.began));
        self.prepare_for(state, &effects, touched.into_iter().flatten());
        effects
    }

    /// Sees to it that the slots that wait for a launch, or are to be launched now, have one prepared, and no others.
    fn prepare_for(
        &self,
        state: &GroupState,
        effects: &[GroupEffect],
        slots: impl IntoIterator<Item = usize>,
    ) {
        let launch =
            |effect: &GroupEffect| if let GroupEffect::Launch { slot } = effect { Some(*slot) } else { None };
        let launching: BTreeSet<usize> = effects.iter().filter_map(launch).collect();
        for index in slots {
            self.note_fate(index, state.fate(index));
            let prepared = self.places[index].standing.borrow().next.is_some();
            match state.waits(index) || launching.contains(&index) {
                true if !prepared => self.prepare(index),
                false if prepared => self.withdraw(index),
                _ => {}
            }
        }
    }

    /// For the next host. That a slot is launched is noted with its launch; once this host is ending, its policies
    /// do nothing any more.
    fn note_fate(&self, index: usize, fate: Fate) {
        let place = &self.places[index];
        let before = std::mem::replace(&mut *locked(&place.fate), fate);
        if let Some((ledger, at)) = self.core.ledger.as_ref().zip(place.spec.at)
            && fate != before
            && fate != Fate::Free
            && !self.core.is_closing()
        {
            ledger.note(Entry::Fate { at, fate });
        }
    }

    /// Keeps the name of a slot that waits, and where references follow also what is sent to it meanwhile.
    fn prepare(&self, index: usize) {
        let place = &self.places[index];
        let current = place.standing.borrow().current.clone();
        self.core.reserve(current.id().name());
        let Ok(proc_id) = ProcId::fresh(current.id().name(), &self.core.id) else { return };
        if self.policy.actors == ActorsAfter::Respawn {
            let first = locked(&place.openings).iter().filter_map(|(_, opening)| opening(&proc_id)).collect();
            self.core.hub.follow(current.id(), &proc_id, first);
        }
        place.standing.send_modify(|standing| standing.next = Some(Next { proc_id, due: None }));
    }

    /// There will be no next launch after all.
    fn withdraw(&self, index: usize) {
        let place = &self.places[index];
        let mut next = None;
        place.standing.send_modify(|standing| next = standing.next.take());
        self.core.release(&place.spec.name);
        if let Some(next) = next.filter(|_| self.policy.actors == ActorsAfter::Respawn) {
            let current = place.standing.borrow().current.id().clone();
            let reason = format!("proc {current} ended, and is not launched again: somebody stopped it");
            self.core.hub.gone(&next.proc_id, &reason);
        }
    }

    fn carry_out(
        self: &Arc<Self>,
        state: &mut GroupState,
        effects: Vec<GroupEffect>,
        later: &mut Afterwards,
    ) {
        for effect in effects {
            match effect {
                GroupEffect::Restarting { slot, class, after, attempt } => {
                    later.told.insert(slot);
                    let current = self.places[slot].standing.borrow().current.clone();
                    let why = current.exit().map(|exit| exit.verdict.clone()).unwrap_or_default();
                    tracing::info!(proc_id = %current.id(), %class, ?after, attempt, why, "is launched again");
                    current.0.observers.put([ProcEvent::Restarting {
                        incarnation: self.core.next_incarnation(current.id().name()),
                        after,
                        attempt: Some((attempt, self.policy.intensity)),
                        why,
                    }]);
                }
                GroupEffect::Arm(timer, wait) => {
                    let due = self.core.clock.time_of_day().checked_add(wait);
                    for index in state.touched_by(&GroupEvent::TimerFired { timer }).into_iter().flatten() {
                        self.places[index].standing.send_modify(|standing| {
                            standing.next.iter_mut().for_each(|next| next.due = due);
                        });
                    }
                    let group = Arc::clone(self);
                    self.core.runtime.spawn(async move {
                        sleep(wait).await;
                        group.timer_fired(timer);
                    });
                }
                GroupEffect::Stop { slots, because_of } => {
                    let cause = self.places[because_of].standing.borrow().current.exit();
                    let why = cause.map(|exit| format!("rank {} ended: {}", exit.rank, exit.verdict));
                    for slot in slots {
                        let current = self.places[slot].standing.borrow().current.clone();
                        let why = why.as_deref().unwrap_or_default();
                        current.ask(StopHow::AgentFirst, current.0.stop_grace, RESTART, why, None);
                    }
                }
                GroupEffect::Launch { slot } => {
                    later.told.insert(slot);
                    self.launch(state, slot, later);
                }
                GroupEffect::GiveUp { slot, limit } => {
                    later.told.insert(slot);
                    let current = self.places[slot].standing.borrow().current.clone();
                    tracing::warn!(proc_id = %current.id(), %limit, "is not launched again");
                    current.0.observers.put([ProcEvent::RestartLimit(limit.to_string())]);
                }
                GroupEffect::Settled { slot } => {
                    later.told.insert(slot);
                    self.places[slot].standing.send_modify(|standing| standing.settled = true);
                    self.tell_settled(slot);
                }
            }
        }
    }

    /// Tells that a slot has ended for good, after its exit.
    fn tell_settled(&self, index: usize) {
        self.places[index].standing.send_if_modified(|standing| {
            let now = standing.settled && standing.published && !standing.settled_told;
            if now {
                standing.settled_told = true;
                standing.current.0.observers.put([ProcEvent::Settled]);
            }
            now
        });
    }

    fn launch(&self, state: &mut GroupState, index: usize, later: &mut Afterwards) {
        let place = &self.places[index];
        let before = place.standing.borrow().clone();
        let next = before.next.expect("it is prepared before it is launched");
        let launcher = Arc::clone(&locked(&place.launcher));
        match add(&self.core, next.proc_id, &place.spec, true, launcher.as_ref(), &place.audience) {
            Ok((current, inputs)) => {
                if self.policy.actors == ActorsAfter::Fail {
                    self.core.hub.succeeded(before.current.id(), current.incarnation());
                }
                place.standing.send_modify(|standing| {
                    let by_policy = u32::from(!standing.settled);
                    *standing = Standing {
                        current,
                        published: false,
                        next: None,
                        restarts: standing.restarts + by_policy,
                        settled: false,
                        settled_told: false,
                    };
                });
                later.launched.push((index, inputs));
            }
            // Its name is kept for it, so this cannot be; should it be, the slot has ended, and hangs nobody up.
            Err(refused) => {
                tracing::error!(%refused, "a slot could not be launched again");
                let class = ExitClass::Launcher;
                let _settled = self.step(state, GroupEvent::Ended { slot: index, class, requested: true });
                place.standing.send_modify(|standing| standing.settled = true);
                self.tell_settled(index);
            }
        }
    }

    fn finish(self: &Arc<Self>, after: Afterwards) {
        for (index, inputs) in after.launched {
            self.drive(index, inputs);
        }
        for slot in after.told {
            self.places[slot].audience.tell_all();
        }
    }

    /// The current launch, and what is kept of its two streams with the position that it leads to.
    pub(crate) fn follow(
        &self,
        index: usize,
        observer: SlotObserver,
        owner: Option<Owner>,
    ) -> (ProcRef, [(Vec<String>, u64); 2]) {
        // A launch that begins meanwhile would be neither past nor told.
        self.look(index, |current, _| (current.clone(), current.0.output.follow(observer, owner)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.policy.actors == ActorsAfter::Respawn {
            let hub = &self.core.hub;
            self.places.iter().for_each(|place| hub.followed_by_none(place.standing.borrow().current.id()));
        }
        let is_over = self.places.iter().all(|place| place.standing.borrow().settled);
        if let Some((ledger, at)) =
            self.core.ledger.as_ref().zip(self.places.first().and_then(|place| place.spec.at))
            && is_over
            && !self.core.is_closing()
        {
            ledger.note(Entry::Gone { group: at.group });
        }
    }
}

/// Nothing was launched yet, and nothing will be.
fn unlaunched(core: &Core, places: &[Place]) {
    places.iter().for_each(|place| core.unlaunched(place.standing.borrow().current.id()));
}

/// Takes one launch in.
fn add(
    core: &Arc<Core>,
    id: ProcId,
    spec: &SpawnSpec,
    reserved: bool,
    launcher: &dyn ProcLauncher,
    audience: &Arc<Audience>,
) -> Result<(ProcRef, UnboundedReceiver<Input>), InvalidArgument> {
    let audience = Arc::clone(audience);
    core.add(spec, reserved, |incarnation| {
        ProcRef::new(id, incarnation, spec, launcher, audience, &core.clock)
    })
}

fn seed() -> u64 {
    LaunchId::fresh().to_bytes().into_iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(byte))
}
