//! From the request to the launcher's acknowledgement.

use procession_model::{ProcExitKind, ProcStatus};

use crate::{Effect, Readiness, State, Timer};

impl State {
    pub(crate) fn launch_acknowledged(&mut self, pid: Option<u32>) {
        self.know(pid);
        if self.acknowledge() && self.phase() == ProcStatus::Starting {
            self.enter(ProcStatus::Running);
            match self.policy.readiness {
                Readiness::None => self.initialized = true,
                Readiness::CallBack => {
                    let timeout = self.policy.ready_timeout;
                    self.arm(Timer::Ready, timeout);
                    // A cap below the deadline would be the deadline.
                    self.arm(Timer::ReadyCap, self.policy.progress_cap.max(timeout));
                }
            }
        }
        self.heard_again();
    }

    /// Whether this is the first proof that something was started.
    pub(crate) fn acknowledge(&mut self) -> bool {
        let first = !self.acknowledged;
        self.acknowledged = true;
        self.disarm(Timer::LaunchAck);
        if first && self.phase() == ProcStatus::Stopping {
            self.started_while_stopping();
        }
        first
    }

    pub(crate) fn launch_refused(&mut self, reason: &str) {
        if self.acknowledged || self.pid.is_some() {
            self.emit(Effect::AskKill);
        }
        let reason = self.or_cancelled(reason);
        self.end(ProcExitKind::Failed { reason });
    }

    pub(crate) fn launch_ack_missed(&mut self) {
        // Something may have been started all the same.
        self.emit(Effect::AskKill);
        let reason = self.or_cancelled(&format!(
            "LaunchTimeout: the launcher did not acknowledge the launch within {:?}; check that it is alive and does not block",
            self.policy.launch_ack
        ));
        self.end(if self.status == ProcStatus::Unknown {
            ProcExitKind::Lost { reason: format!("{reason} ({})", self.unreachable) }
        } else {
            ProcExitKind::Failed { reason }
        });
    }

    fn or_cancelled(&self, reason: &str) -> String {
        if self.requested.is_some() && !self.acknowledged {
            format!("cancelled before start: {reason}")
        } else {
            reason.to_owned()
        }
    }
}
