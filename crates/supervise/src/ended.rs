//! After the exit: a late truth is recorded beside it, and a late start is killed.

use crate::{Effect, Event, Note, State};

impl State {
    pub(crate) fn after_the_end(&mut self, event: Event) {
        match event {
            Event::LaunchAcknowledged { .. } => self.late_life("the launcher acknowledged the launch"),
            Event::Reported { .. } => self.late_life("the launcher reported progress"),
            Event::CalledBack { .. } => self.late_life("the proc called back"),
            Event::NotifiedReady => self.late_life("the program said that it is ready"),
            Event::HeardAgain => self.late_life("the proc was heard again"),
            Event::LauncherReported(result) => self.late(format!("the launcher reported {}", result.kind)),
            Event::LaunchRefused { reason } => {
                self.late(format!("the launcher refused the launch: {reason}"))
            }
            Event::OsExit(result) => {
                self.heard.gone = true;
                self.late(format!("the operating system says {}", result.kind));
            }
            Event::OsGone | Event::OsUntold => self.heard.gone = true,
            Event::KillAnswered(Err(why)) if !self.heard.gone => {
                self.emit(Effect::Note(Note::KillUnavailable { why }));
            }
            Event::KillUnanswered if !self.heard.gone => {
                let why = "the launcher did not answer".to_owned();
                self.emit(Effect::Note(Note::KillUnavailable { why }));
            }
            _ => {}
        }
    }

    fn late_life(&mut self, what: &str) {
        self.late(what.to_owned());
        if !self.heard.gone {
            self.emit(Effect::AskKill);
        }
    }

    pub(crate) fn late(&mut self, what: String) {
        self.emit(Effect::Note(Note::LateReport { what }));
    }
}
