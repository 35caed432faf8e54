//! The ladder that every stop climbs: agent, terminate, kill. It is never climbed down.

use std::time::Duration;

use procession_model::{self as model, ProcExitKind, ProcStatus, StopIntent, StopRequest};

use crate::{Effect, Note, State, StopHow, Timer};

/// How many requests to stop are kept of one launch.
const STOPS: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    #[default]
    Ground,
    Agent,
    Terminate,
    Kill,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Asked {
    #[default]
    Never,
    Waiting,
    Answered(Result<(), String>),
}

impl Asked {
    fn answer(&self) -> Option<Result<(), String>> {
        match self {
            Self::Answered(answer) => Some(answer.clone()),
            Self::Never | Self::Waiting => None,
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::Answered(Err(_)))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ladder {
    rung: Rung,
    /// For each rung below kill: the shortest that anybody asked for.
    grace: Duration,
    terminate: Asked,
    kill: Asked,
    /// The terminate was asked when there may have been nothing to terminate yet.
    too_early: bool,
}

impl State {
    /// What a caller who asks for `how` now is told; none while the launcher's answer is awaited.
    ///
    /// A stop that begins with the agent has no answer but the exit.
    pub fn answer(&self, how: StopHow) -> Option<Result<(), String>> {
        if self.status.is_terminal() {
            return Some(Ok(()));
        }
        let (answer, again) = match (how, &self.ladder.terminate) {
            (StopHow::AgentFirst, _) => return None,
            (StopHow::Terminate, asked) if *asked != Asked::Never => (asked.answer(), self.ladder.too_early),
            (StopHow::Terminate | StopHow::Kill, _) => {
                (self.ladder.kill.answer(), self.is_armed(Timer::KillAck))
            }
        };
        // What failed for want of something to stop is asked for again once there is something.
        let again = again && !self.acknowledged;
        answer.filter(|answer| answer.is_ok() || !again)
    }

    pub(crate) fn stop_asked(&mut self, how: StopHow, grace: Duration, request: StopRequest) {
        self.keep_intent(how, &request);
        if self.requested.is_none() {
            self.fail_ready(format!("stopped by us ({request})"));
            self.requested = Some(request);
            self.disarm(Timer::Ready);
            self.disarm(Timer::ReadyCap);
            self.enter(ProcStatus::Stopping);
            self.ladder.grace = grace;
        } else if how != StopHow::Kill {
            self.ladder.grace = self.ladder.grace.min(grace);
        }
        match (how, self.ladder.rung) {
            (StopHow::AgentFirst, Rung::Ground) if self.agent => self.ask_agent(),
            (StopHow::AgentFirst, Rung::Agent) => self.hasten(Timer::AgentStop),
            (StopHow::AgentFirst | StopHow::Terminate, Rung::Ground | Rung::Agent) => self.ask_terminate(),
            (StopHow::AgentFirst | StopHow::Terminate, Rung::Terminate) => {
                if self.ladder.terminate.has_failed() {
                    self.send_terminate();
                }
                self.hasten(Timer::Terminate);
            }
            (StopHow::Kill, Rung::Kill) if !self.ladder.kill.has_failed() => {}
            (StopHow::Kill, _) => self.ask_kill(),
            (StopHow::AgentFirst | StopHow::Terminate, Rung::Kill) => {}
        }
    }

    fn keep_intent(&mut self, how: StopHow, request: &StopRequest) {
        if self.stops.len() == STOPS {
            self.more_stops += 1;
            return;
        }
        let from = match how {
            StopHow::AgentFirst => model::Rung::Agent,
            StopHow::Terminate => model::Rung::Terminate,
            StopHow::Kill => model::Rung::Kill,
        };
        self.stops.push(StopIntent { request: request.clone(), from });
    }

    fn hasten(&mut self, timer: Timer) {
        if !self.ladder.grace.is_zero() {
            self.emit(Effect::ArmSooner(timer, self.ladder.grace));
        } else if timer == Timer::AgentStop {
            self.ask_terminate();
        } else {
            self.ask_kill();
        }
    }

    fn ask_agent(&mut self) {
        self.ladder.rung = Rung::Agent;
        let reason = self.requested.as_ref().map(ToString::to_string).unwrap_or_default();
        self.emit(Effect::AskAgentStop { reason });
        if self.ladder.grace.is_zero() {
            self.ask_terminate();
        } else {
            self.arm(Timer::AgentStop, self.ladder.grace);
        }
    }

    pub(crate) fn agent_stop_failed(&mut self) {
        if self.ladder.rung == Rung::Agent {
            self.ask_terminate();
        }
    }

    pub(crate) fn ask_terminate(&mut self) {
        self.disarm(Timer::AgentStop);
        self.ladder.rung = Rung::Terminate;
        self.ladder.too_early = !self.acknowledged;
        self.send_terminate();
        if self.ladder.grace.is_zero() {
            self.ask_kill();
        } else {
            self.arm(Timer::Terminate, self.ladder.grace);
        }
    }

    fn send_terminate(&mut self) {
        let timeout = self.ladder.grace;
        self.ladder.terminate = Asked::Waiting;
        self.emit(Effect::AskTerminate { timeout });
        self.arm(Timer::TerminateAck, timeout.saturating_add(self.policy.terminate_ack_slack));
    }

    pub(crate) fn terminate_answered(&mut self, answer: Result<(), String>) {
        if self.ladder.terminate == Asked::Never {
            return;
        }
        self.disarm(Timer::TerminateAck);
        if let Err(why) = &answer {
            self.emit(Effect::Note(Note::TerminateFailed { why: why.clone() }));
        }
        self.ladder.terminate = Asked::Answered(answer);
        self.terminate_again_if_too_early();
    }

    pub(crate) fn terminate_unanswered(&mut self) {
        let slack = self.policy.terminate_ack_slack;
        self.terminate_answered(Err(format!("the launcher did not answer within the timeout and {slack:?}")));
    }

    fn terminate_again_if_too_early(&mut self) {
        let failed = self.ladder.rung == Rung::Terminate && self.ladder.terminate.has_failed();
        if failed && self.acknowledged && self.ladder.too_early {
            self.ladder.too_early = false;
            self.send_terminate();
        }
    }

    pub(crate) fn ask_kill(&mut self) {
        self.disarm(Timer::AgentStop);
        self.disarm(Timer::Terminate);
        self.ladder.rung = Rung::Kill;
        self.send_kill();
        if !self.is_armed(Timer::KillGone) {
            self.arm(Timer::KillGone, self.policy.kill_gone);
        }
    }

    fn send_kill(&mut self) {
        self.ladder.kill = Asked::Waiting;
        self.emit(Effect::AskKill);
        self.emit(Effect::Sweep);
        self.arm(Timer::KillAck, self.policy.kill_ack);
    }

    pub(crate) fn kill_answered(&mut self, answer: Result<(), String>) {
        if self.ladder.kill == Asked::Never {
            return;
        }
        match &answer {
            Ok(()) => self.disarm(Timer::KillAck),
            // With a process in sight the sweep may still do it; without an acknowledgement the
            // kill is asked for again. Both have until the timer.
            Err(_) if self.pid.is_some() || !self.acknowledged => {}
            Err(why) => {
                self.disarm(Timer::KillAck);
                self.emit(Effect::Note(Note::KillUnavailable { why: why.clone() }));
            }
        }
        self.ladder.kill = Asked::Answered(answer);
    }

    pub(crate) fn kill_given_up(&mut self) {
        if self.ladder.kill == Asked::Waiting {
            self.disarm(Timer::KillAck);
            self.kill_unanswered();
        }
    }

    pub(crate) fn kill_unanswered(&mut self) {
        let why = match self.ladder.kill.answer() {
            Some(Err(why)) => why,
            _ => {
                self.emit(Effect::EndLauncher);
                format!("the launcher did not answer within {:?}", self.policy.kill_ack)
            }
        };
        self.ladder.kill = Asked::Answered(Err(why.clone()));
        self.emit(Effect::Note(Note::KillUnavailable { why }));
    }

    pub(crate) fn kill_in_vain(&mut self) {
        let tell = |asked: &Asked| match asked {
            Asked::Never => "not asked".to_owned(),
            Asked::Waiting => "not answered".to_owned(),
            Asked::Answered(Ok(())) => "acknowledged".to_owned(),
            Asked::Answered(Err(why)) => format!("failed: {why}"),
        };
        let code = match &self.ladder.kill {
            Asked::Answered(Err(_)) => "KillUnavailable: ",
            _ if self.policy.launcher_reports && self.pid.is_none() => "NoExitReport: ",
            _ => "",
        };
        if code.starts_with("NoExitReport") {
            let what = "nothing was heard after the kill".to_owned();
            self.emit(Effect::Note(Note::NoExitReport { what }));
        }
        let reason = format!(
            "{code}no exit within {:?} of the kill (terminate {}; kill {}; process {}); it may still run: look for it where its launcher works",
            self.policy.kill_gone,
            tell(&self.ladder.terminate),
            tell(&self.ladder.kill),
            match self.pid {
                None => "not known".to_owned(),
                // Where the launcher is the parent its kill is all that there is.
                Some(pid) if !self.policy.launcher_reports => pid.to_string(),
                Some(pid) => format!("{pid} swept"),
            },
        );
        self.end(ProcExitKind::Lost { reason });
    }

    /// What was asked before there was anything to stop may have missed it.
    pub(crate) fn started_while_stopping(&mut self) {
        if self.ladder.rung == Rung::Kill {
            self.disarm(Timer::KillGone);
            self.ask_kill();
        } else {
            self.terminate_again_if_too_early();
        }
    }

    pub(crate) fn sweep_what_came_into_sight(&mut self) {
        if self.ladder.rung == Rung::Kill {
            self.emit(Effect::Sweep);
        }
    }

    /// What could not be asked is asked now; the deadlines stay.
    pub(crate) fn ask_again(&mut self) {
        match self.ladder.rung {
            Rung::Kill if self.ladder.kill.answer() != Some(Ok(())) => self.send_kill(),
            Rung::Terminate if self.ladder.terminate.has_failed() => self.send_terminate(),
            _ => {}
        }
    }
}
