use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What makes a proc ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// It calls back, or says so itself.
    #[default]
    CallBack,
    /// It never calls back: running is its steady state, and there is no ready deadline.
    None,
}

/// How long one launch waits for what, and for what at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What makes it ready.
    pub readiness: Readiness,
    /// Whether the launcher's own report can follow when the operating system has given the status.
    ///
    /// False where the launcher is the parent, so that its report *is* the operating system's word:
    /// the exit is then published without waiting.
    pub launcher_reports: bool,
    /// Whether the operating system can tell how a process ended that is not a child, a moment after it
    /// said that it is gone: a launcher's report is then not taken for the truth before.
    pub os_tells: bool,
    /// From the acknowledgement to the call back; progress restarts it.
    pub ready_timeout: Duration,
    /// From the acknowledgement to the call back in all, however much progress is reported.
    pub progress_cap: Duration,
    /// Between the rungs of the stop that follows a missed ready deadline.
    pub stop_grace: Duration,
    /// For the launcher to acknowledge a launch.
    pub launch_ack: Duration,
    /// For the launcher to answer a terminate, beyond the terminate's own timeout.
    pub terminate_ack_slack: Duration,
    /// For the launcher to answer a kill.
    pub kill_ack: Duration,
    /// From a kill to the exit; then it is given up as lost.
    pub kill_gone: Duration,
    /// Between the operating system's word and the launcher's, in either order.
    pub report_wait: Duration,
    /// For a launcher that cannot be asked to be heard again.
    pub unknown_budget: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            readiness: Readiness::CallBack,
            launcher_reports: true,
            os_tells: false,
            ready_timeout: Duration::from_secs(30),
            progress_cap: Duration::from_secs(600),
            stop_grace: Duration::from_secs(10),
            launch_ack: Duration::from_secs(30),
            terminate_ack_slack: Duration::from_secs(5),
            kill_ack: Duration::from_secs(5),
            kill_gone: Duration::from_secs(30),
            report_wait: Duration::from_millis(200),
            unknown_budget: Duration::from_secs(60),
        }
    }
}
