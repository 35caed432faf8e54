use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, SystemTime};

use procession_model::{BootPhase, ProcStatus, StopIntent, StopRequest};

use crate::merge::Heard;
use crate::stopping::Ladder;
use crate::{BootFailure, Effect, Event, Policy, Timer};

/// Where one launch stands.
///
/// Every armed timer is disarmed, or has fired, by the time the exit is published; every sequence
/// of events that asks for an end, or reports one, leads to exactly one [`Effect::Publish`].
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub(crate) policy: Policy,
    pub(crate) status: ProcStatus,
    /// The status that `Unknown` hides.
    pub(crate) hidden: Option<ProcStatus>,
    pub(crate) pid: Option<u32>,
    pub(crate) progress: Option<String>,
    /// The launcher acknowledged the launch, or the proc itself proved it.
    pub(crate) acknowledged: bool,
    /// The proc called back, so that there is somebody in it to ask.
    pub(crate) agent: bool,
    /// It was ready once; running is enough where nothing calls back.
    pub(crate) initialized: bool,
    pub(crate) ready_failed: bool,
    /// Why it never became ready, unless one of us stopped it before it could.
    pub(crate) boot: Option<BootFailure>,
    /// How far it says that it has come.
    pub(crate) booting: Option<BootPhase>,
    pub(crate) last_word: Option<String>,
    pub(crate) requested: Option<StopRequest>,
    pub(crate) stops: Vec<StopIntent>,
    pub(crate) more_stops: u64,
    pub(crate) ladder: Ladder,
    pub(crate) unreachable: String,
    pub(crate) heard: Heard,
    armed: BTreeSet<Timer>,
    out: Vec<Effect>,
}

impl State {
    /// A launch that is about to be asked for, and what to do first.
    pub fn start(policy: Policy) -> (Self, Vec<Effect>) {
        let mut state = Self {
            policy,
            status: ProcStatus::Starting,
            hidden: None,
            pid: None,
            progress: None,
            acknowledged: false,
            agent: false,
            initialized: false,
            ready_failed: false,
            boot: None,
            booting: None,
            last_word: None,
            requested: None,
            stops: Vec::new(),
            more_stops: 0,
            ladder: Ladder::default(),
            unreachable: String::new(),
            heard: Heard::default(),
            armed: BTreeSet::new(),
            out: Vec::new(),
        };
        state.emit(Effect::Status(ProcStatus::Starting));
        state.arm(Timer::LaunchAck, state.policy.launch_ack);
        let first = mem::take(&mut state.out);
        (state, first)
    }

    /// Takes in what happened; gives what to do, in that order.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        if let Event::Booting { phase, last_word } = event {
            (self.booting, self.last_word) = (Some(phase), last_word);
            return Vec::new();
        }
        let expected = match &event {
            Event::TimerFired(timer, _) => self.armed.remove(timer),
            _ => true,
        };
        if expected {
            if self.status.is_terminal() {
                self.after_the_end(event);
            } else if self.is_armed(Timer::ReportWait)
                || matches!(event, Event::TimerFired(Timer::ReportWait, _))
            {
                self.while_settling(event);
            } else {
                self.while_alive(event);
            }
        }
        mem::take(&mut self.out)
    }

    /// The deadlines that it keeps.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The status now.
    pub fn status(&self) -> ProcStatus {
        self.status
    }

    fn while_alive(&mut self, event: Event) {
        match event {
            Event::LaunchAcknowledged { pid } => self.launch_acknowledged(pid),
            Event::LaunchRefused { reason } => self.launch_refused(&reason),
            Event::Reported { pid, progress, .. } => self.reported(pid, progress),
            // Taken in by `step`.
            Event::Booting { .. } => {}
            Event::CalledBack { pid } => self.called_back(pid),
            Event::NotifiedReady => self.ready(),
            Event::WasReady => self.initialized = true,
            Event::StopAsked { how, grace, request } => self.stop_asked(how, grace, request),
            Event::TerminateAnswered(answer) => self.terminate_answered(answer),
            Event::KillAnswered(answer) => self.kill_answered(answer),
            Event::KillUnanswered => self.kill_given_up(),
            Event::AgentStopFailed => self.agent_stop_failed(),
            Event::LauncherReported(_) | Event::OsExit(_) | Event::OsGone | Event::OsUntold => {
                self.hear(event)
            }
            Event::Unreachable { why } => self.unreachable(why),
            Event::HeardAgain => self.heard_again(),
            Event::TimerFired(timer, at) => self.fired(timer, at),
        }
    }

    fn fired(&mut self, timer: Timer, at: SystemTime) {
        match timer {
            Timer::LaunchAck => self.launch_ack_missed(),
            Timer::Ready | Timer::ReadyCap => self.ready_missed(timer, at),
            Timer::AgentStop => self.ask_terminate(),
            Timer::Terminate => self.ask_kill(),
            Timer::TerminateAck => self.terminate_unanswered(),
            Timer::KillAck => self.kill_unanswered(),
            Timer::KillGone => self.kill_in_vain(),
            Timer::UnknownBudget => self.unknown_budget_spent(),
            // Handled by `while_settling`, whatever else goes on.
            Timer::ReportWait => {}
        }
    }

    /// The status beneath `Unknown`.
    pub(crate) fn phase(&self) -> ProcStatus {
        self.hidden.unwrap_or(self.status)
    }

    pub(crate) fn enter(&mut self, next: ProcStatus) {
        debug_assert!(self.status.may_become(next), "{} may not become {next}", self.status);
        self.hidden = None;
        self.status = next;
        self.disarm(Timer::UnknownBudget);
        self.emit(Effect::Status(next));
    }

    pub(crate) fn know(&mut self, pid: Option<u32>) {
        if self.pid.is_none() && pid.is_some() {
            self.pid = pid;
            self.sweep_what_came_into_sight();
        }
    }

    pub(crate) fn emit(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.armed.contains(&timer)
    }

    pub(crate) fn arm(&mut self, timer: Timer, after: Duration) {
        self.armed.insert(timer);
        self.emit(Effect::Arm(timer, after));
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        if self.armed.remove(&timer) {
            self.emit(Effect::Disarm(timer));
        }
    }

    pub(crate) fn disarm_all(&mut self) {
        for timer in mem::take(&mut self.armed) {
            self.emit(Effect::Disarm(timer));
        }
    }
}
