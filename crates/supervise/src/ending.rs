//! From the first word of an end to the one exit that is published.

use std::mem;

use procession_model::{ProcExitKind, ProcExitResult};

use crate::merge::Merged;
use crate::{BootFailure, Effect, Ended, Event, Note, State, Timer, judge, verdict};

impl State {
    pub(crate) fn while_settling(&mut self, event: Event) {
        match event {
            Event::LauncherReported(_) | Event::OsExit(_) | Event::OsGone | Event::OsUntold => {
                self.hear(event)
            }
            Event::LaunchRefused { reason } => {
                self.hear(Event::LauncherReported(ProcExitResult::failed(reason)))
            }
            Event::TimerFired(Timer::ReportWait, _) => self.publish(),
            // It has ended, or is killed in a moment: nothing else matters any more, no other timer either.
            _ => {}
        }
    }

    /// Takes in one side's word, and publishes or waits for the other's.
    pub(crate) fn hear(&mut self, event: Event) {
        match event {
            Event::LauncherReported(result) => self.hear_launcher(result),
            Event::OsExit(result) => {
                self.heard.gone = true;
                self.heard.os.get_or_insert(result);
            }
            Event::OsUntold => {
                self.heard.gone = true;
                self.heard.untold = true;
            }
            _ => self.heard.gone = true,
        }
        let all_is_told = self.heard.untold || !self.policy.os_tells || self.pid.is_none();
        let complete = match (&self.heard.os, self.heard.gone, &self.heard.report) {
            (Some(_), _, None) => !self.policy.launcher_reports,
            (None, false, Some(_)) => self.pid.is_none(),
            (None, _, None) => false,
            (None, true, Some(_)) => all_is_told,
            (Some(_), _, Some(_)) => true,
        };
        if complete {
            self.publish();
        } else if !self.is_armed(Timer::ReportWait) {
            self.arm(Timer::ReportWait, self.policy.report_wait);
        }
    }

    fn hear_launcher(&mut self, result: ProcExitResult) {
        if self.heard.report.is_some() {
            self.late(format!("the launcher reported {} as well", result.kind));
            return;
        }
        if let Some(raw) = &result.reported {
            let said = [raw.exit_code.is_some(), raw.signal.is_some(), raw.failed_reason.is_some()];
            if said.into_iter().filter(|&it| it).count() != 1 {
                self.emit(Effect::Note(Note::AmbiguousExit { reported: raw.clone() }));
            }
        }
        self.heard.report = Some(result);
    }

    fn publish(&mut self) {
        let gone = self.heard.gone;
        let unreported = self.policy.launcher_reports && self.heard.report.is_none();
        let merged = mem::take(&mut self.heard).merge();
        if unreported {
            self.emit(Effect::Note(Note::NoExitReport { what: merged.kind.to_string() }));
        }
        self.heard.gone = gone;
        let early = self.pid.filter(|_| !gone);
        if let Some(pid) = early {
            self.emit(Effect::Note(Note::EarlyExit { pid, what: merged.kind.to_string() }));
        }
        // A launcher that failed or lost it has not said that nothing is left.
        let unsure = matches!(merged.kind, ProcExitKind::Failed { .. } | ProcExitKind::Lost { .. });
        if early.is_some() || (unsure && !gone) {
            self.emit(Effect::AskKill);
        }
        self.end(merged);
    }

    /// The end, whatever led to it.
    pub(crate) fn end(&mut self, how: impl Into<Merged>) {
        let Merged { kind, reported, stderr_tail, stdout_tail, contradiction, beside, oom, evicted } =
            how.into();
        if let Some(what) = &contradiction {
            self.emit(Effect::Note(Note::Contradiction { what: what.clone() }));
        }
        if !self.initialized && self.requested.is_none() {
            let why = "ended before it was ready".to_owned();
            self.fail_ready(match &kind {
                // What was never started has not ended either.
                ProcExitKind::Failed { reason } if !self.acknowledged => reason.clone(),
                kind => format!("{why}: {kind}"),
            });
            self.boot = Some(BootFailure { phase: self.boot_phase(), why });
        }
        self.disarm_all();
        self.emit(Effect::Sweep);
        self.enter(kind.status());
        let judged = judge(&kind, self.boot.as_ref(), self.requested.as_ref(), oom, evicted);
        let mut verdict = verdict(&kind, self.boot.as_ref(), self.requested.as_ref(), evicted);
        if oom == Some(true) {
            verdict.insert_str(0, "out of memory: ");
        }
        if let Some(beside) = beside {
            verdict.push_str(&format!("; its launcher: {beside}"));
        }
        let stops = mem::take(&mut self.stops);
        self.emit(Effect::Publish(Box::new(Ended {
            kind,
            reported,
            stderr_tail,
            stdout_tail,
            requested: self.requested.clone(),
            stops,
            more_stops: self.more_stops,
            oom,
            verdict,
            judged,
            contradictions: contradiction.into_iter().collect(),
        })));
    }
}
