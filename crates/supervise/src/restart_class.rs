use procession_model::{ExitClass, Verdict};

use crate::running::READY_DEADLINE;

/// Who asks for a stop when the host itself has a reason to.
pub const HOST: &str = "host";
/// Who asks for the stop of what has to be launched again with another slot, or not without it.
pub const RESTART: &str = "restart";

/// What an end that nobody wanted to stay so counts as, for a restart policy: one of the classes that have a
/// budget, or clean. What nobody can know is the launcher's, and what the host had to stop is the proc's own.
pub fn counts_as(verdict: Verdict) -> ExitClass {
    match verdict.class() {
        ExitClass::Lost => ExitClass::Launcher,
        ExitClass::Stopped => ExitClass::App,
        class => class,
    }
}

/// Whether a stop that `by` asked for is final: not one that follows from a failure.
pub fn is_final_stop(by: &str) -> bool {
    ![READY_DEADLINE, HOST, RESTART].contains(&by)
}
