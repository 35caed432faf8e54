use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use procession_model::{ProcExitKind, ProcExitResult, ProcStatus, StopRequest};
use procession_supervise::{Effect, Ended, Event, Note, Policy, Readiness, State, StopHow, Timer};

pub(crate) const PID: u32 = 4711;

/// One launch, its timers, and what it did when.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Duration,
    pub(crate) log: Vec<(Duration, Effect)>,
    timers: BTreeMap<Timer, Duration>,
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        let (state, first) = State::start(policy);
        let mut world = Self { state, now: Duration::ZERO, log: Vec::new(), timers: BTreeMap::new() };
        world.perform(first);
        world
    }

    /// Called back, or running where nothing calls back; the process is watched.
    pub(crate) fn up(policy: Policy) -> Self {
        let readiness = policy.readiness;
        let mut world = Self::new(policy);
        world.feed(acknowledged());
        if readiness == Readiness::CallBack {
            world.feed(Event::CalledBack { pid: None });
        }
        world
    }

    /// Feeds one event; gives what it led to at once.
    pub(crate) fn feed(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.state.step(event);
        self.perform(effects.clone());
        effects
    }

    /// Lets time pass; timers fire on the way, in the order of their deadlines.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        while let Some((timer, due)) = self.next_timer().filter(|&(_, due)| due <= end) {
            self.now = due;
            self.timers.remove(&timer);
            self.feed(fired(timer));
        }
        self.now = end;
    }

    /// Lets time pass until nothing is waited for any more.
    pub(crate) fn run_out(&mut self) {
        while let Some((_, due)) = self.next_timer() {
            self.pass(due - self.now);
        }
    }

    pub(crate) fn deadline(&self, timer: Timer) -> Option<Duration> {
        self.timers.get(&timer).copied()
    }

    pub(crate) fn armed(&self) -> Vec<Timer> {
        self.timers.keys().copied().collect()
    }

    fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.log.iter().map(|(_, effect)| effect)
    }

    /// The one exit.
    pub(crate) fn ended(&self) -> &Ended {
        let mut all = self.effects().filter_map(|effect| match effect {
            Effect::Publish(ended) => Some(ended),
            _ => None,
        });
        let ended = all.next().expect("nothing was published");
        assert_eq!(all.next(), None, "published twice");
        ended
    }

    pub(crate) fn statuses(&self) -> Vec<ProcStatus> {
        let status = |effect: &Effect| match effect {
            Effect::Status(status) => Some(*status),
            _ => None,
        };
        self.effects().filter_map(status).collect()
    }

    pub(crate) fn notes(&self) -> Vec<&Note> {
        let mut notes = Vec::new();
        for effect in self.effects() {
            if let Effect::Note(note) = effect {
                notes.push(note);
            }
        }
        notes
    }

    /// When this was done, in seconds.
    pub(crate) fn times(&self, what: impl Fn(&Effect) -> bool) -> Vec<f64> {
        self.log.iter().filter(|(_, effect)| what(effect)).map(|(at, _)| at.as_secs_f64()).collect()
    }

    pub(crate) fn kills(&self) -> Vec<f64> {
        self.times(|effect| *effect == Effect::AskKill)
    }

    pub(crate) fn terminates(&self) -> Vec<f64> {
        self.times(|effect| matches!(effect, Effect::AskTerminate { .. }))
    }

    pub(crate) fn ready_failures(&self) -> Vec<(&'static str, &str)> {
        let mut failures = Vec::new();
        for effect in self.effects() {
            if let Effect::FailReady { phase, why } = effect {
                failures.push((*phase, why.as_str()));
            }
        }
        failures
    }

    fn next_timer(&self) -> Option<(Timer, Duration)> {
        let earliest = self.timers.iter().min_by_key(|&(_, due)| due);
        earliest.map(|(timer, due)| (*timer, *due)).filter(|&(_, due)| due < Duration::MAX)
    }

    /// Does what was asked for, and checks what holds always.
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let ended = self.effects().any(|effect| matches!(effect, Effect::Publish(_)));
            assert!(
                !ended || matches!(effect, Effect::Note(_) | Effect::AskKill),
                "after the exit: {effect:?}"
            );
            match &effect {
                Effect::Status(next) => {
                    if let Some(last) = self.statuses().last() {
                        assert!(last.may_become(*next), "{last} became {next}");
                    }
                }
                Effect::Arm(timer, after) => {
                    let due = self.now.saturating_add(*after);
                    let before = self.timers.insert(*timer, due);
                    assert!(
                        before.is_none_or(|before| due <= before || may_move_later(*timer)),
                        "{timer:?} moved from {before:?} to {due:?}"
                    );
                }
                Effect::ArmSooner(timer, after) => {
                    let due = self.now.saturating_add(*after);
                    let running = self.timers.get_mut(timer).expect("only what is armed is hastened");
                    *running = due.min(*running);
                }
                Effect::Disarm(timer) => {
                    assert!(self.timers.remove(timer).is_some(), "{timer:?} was not armed");
                }
                Effect::Publish(ended) => {
                    assert_eq!(self.timers, BTreeMap::new(), "still armed at the exit");
                    assert_eq!(self.statuses().last(), Some(&status_of(&ended.kind)));
                }
                _ => {}
            }
            self.log.push((self.now, effect));
        }
        assert_eq!(self.statuses().last(), Some(&self.state.status()));
    }
}

/// Progress restarts the one; an answer is awaited anew for every time of asking.
fn may_move_later(timer: Timer) -> bool {
    matches!(timer, Timer::Ready | Timer::TerminateAck | Timer::KillAck)
}

pub(crate) fn status_of(kind: &ProcExitKind) -> ProcStatus {
    match kind {
        ProcExitKind::Exited { .. } => ProcStatus::Exited,
        ProcExitKind::Signaled { .. } => ProcStatus::Signaled,
        ProcExitKind::Failed { .. } => ProcStatus::Failed,
        ProcExitKind::Lost { .. } => ProcStatus::Lost,
    }
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn fired(timer: Timer) -> Event {
    Event::TimerFired(timer, SystemTime::UNIX_EPOCH)
}

pub(crate) fn acknowledged() -> Event {
    Event::LaunchAcknowledged { pid: Some(PID) }
}

pub(crate) fn acknowledged_unseen() -> Event {
    Event::LaunchAcknowledged { pid: None }
}

pub(crate) fn refused() -> Event {
    Event::LaunchRefused { reason: "no such program".to_owned() }
}

pub(crate) fn progress(progress: &str) -> Event {
    Event::Reported { pid: None, handle: None, progress: Some(progress.to_owned()) }
}

pub(crate) fn request(by: &str) -> StopRequest {
    StopRequest { by: by.to_owned(), at: SystemTime::UNIX_EPOCH, why: "test".to_owned() }
}

pub(crate) fn stop(how: StopHow, grace: u64) -> Event {
    let by = match how {
        StopHow::AgentFirst => "stop",
        StopHow::Terminate => "terminate",
        StopHow::Kill => "kill",
    };
    Event::StopAsked { how, grace: secs(grace), request: request(by) }
}

pub(crate) fn exited(code: i32) -> ProcExitKind {
    ProcExitKind::Exited { code }
}

pub(crate) fn signaled(signal: i32) -> ProcExitKind {
    ProcExitKind::Signaled { signal, core_dumped: false }
}

pub(crate) fn os(kind: ProcExitKind) -> Event {
    Event::OsExit(ProcExitResult::new(kind))
}

pub(crate) fn reported(kind: ProcExitKind) -> Event {
    Event::LauncherReported(ProcExitResult::new(kind))
}

pub(crate) fn unreachable() -> Event {
    Event::Unreachable { why: "daemon mute".to_owned() }
}

/// The launcher is the parent: nothing more is to come when the exit is known.
pub(crate) fn native() -> Policy {
    Policy { launcher_reports: false, ..Policy::default() }
}

pub(crate) fn no_call_back() -> Policy {
    Policy { readiness: Readiness::None, ..Policy::default() }
}
