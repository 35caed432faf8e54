//! The launcher cannot be asked: a budgeted time, never a synonym of dead.

use procession_model::{ProcExitKind, ProcStatus};

use crate::{Effect, State, Timer};

impl State {
    pub(crate) fn unreachable(&mut self, why: String) {
        self.unreachable = why;
        if self.status != ProcStatus::Unknown {
            let was = self.status;
            self.enter(ProcStatus::Unknown);
            self.hidden = Some(was);
            self.arm(Timer::UnknownBudget, self.policy.unknown_budget);
        }
    }

    /// Any word from the launcher or the proc; nothing happens when it was not missed.
    pub(crate) fn heard_again(&mut self) {
        if let Some(was) = self.hidden {
            self.enter(was);
            self.ask_again();
        }
    }

    pub(crate) fn unknown_budget_spent(&mut self) {
        // Its slot may be launched again, so it must not live on unseen.
        self.emit(Effect::AskKill);
        let reason = format!("not heard of for {:?}: {}", self.policy.unknown_budget, self.unreachable);
        self.end(ProcExitKind::Lost { reason });
    }
}
