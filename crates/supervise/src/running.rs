//! From the acknowledgement to readiness.

use std::time::SystemTime;

use procession_model::{BootPhase, ProcStatus, StopRequest};

use crate::{BootFailure, Effect, State, StopHow, Timer};

/// What a proc of a launcher that is not its parent may lack to call back.
const LOST_ON_THE_WAY: &str = "; check that its launcher hands on program, args and the whole environment, PROCESSION_BOOTSTRAP in it, \
                               and that the proc can reach the address to dial";

/// Who asks for the stop of a proc that was not ready in time.
pub const READY_DEADLINE: &str = "ready deadline";

impl State {
    pub(crate) fn called_back(&mut self, pid: Option<u32>) {
        self.know(pid);
        self.agent = true;
        self.ready();
    }

    pub(crate) fn ready(&mut self) {
        self.acknowledge();
        self.disarm(Timer::Ready);
        self.disarm(Timer::ReadyCap);
        if matches!(self.phase(), ProcStatus::Starting | ProcStatus::Running) {
            self.initialized = true;
            self.enter(ProcStatus::Ready);
        }
        self.heard_again();
    }

    pub(crate) fn reported(&mut self, pid: Option<u32>, progress: Option<String>) {
        self.know(pid);
        if progress.is_some() {
            self.progress = progress;
            if self.is_armed(Timer::Ready) {
                self.arm(Timer::Ready, self.policy.ready_timeout);
            }
        }
        self.heard_again();
    }

    pub(crate) fn ready_missed(&mut self, timer: Timer, at: SystemTime) {
        let waited = match timer {
            Timer::ReadyCap => self.policy.progress_cap.max(self.policy.ready_timeout),
            _ => self.policy.ready_timeout,
        };
        let mut why = format!("not ready within {waited:?}");
        if let Some(progress) = &self.progress {
            why = format!("{why}, last progress: {progress}");
        }
        if let Some(word) = &self.last_word {
            why = format!("{why}, last word: {word}");
        }
        let hint = if self.policy.launcher_reports { LOST_ON_THE_WAY } else { "" };
        self.fail_ready(format!("ReadyTimeout: {why}{hint}"));
        self.boot = Some(BootFailure { phase: self.boot_phase(), why: why.clone() });
        let request = StopRequest { by: READY_DEADLINE.to_owned(), at, why };
        self.stop_asked(StopHow::Terminate, self.policy.stop_grace, request);
    }

    /// Tells those who wait for readiness, unless they know how it went.
    pub(crate) fn fail_ready(&mut self, why: String) {
        if !self.initialized && !self.ready_failed {
            self.ready_failed = true;
            let phase = self.boot_phase().as_str();
            self.emit(Effect::FailReady { phase, why });
        }
    }

    pub(crate) fn boot_phase(&self) -> BootPhase {
        let seen = if self.acknowledged { BootPhase::Interpreter } else { BootPhase::Exec };
        // What the proc says of itself is beyond what is seen from here, or nothing.
        self.booting.map_or(seen, |told| told.max(seen))
    }
}
