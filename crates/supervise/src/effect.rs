use std::time::Duration;

use procession_model::{ProcExitKind, ProcStatus, ReportedExit, StopIntent, StopRequest, Verdict};

use crate::Timer;

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The status is now this.
    Status(ProcStatus),
    /// Ask the proc's agent to stop; answer only if that fails, with `AgentStopFailed`.
    AskAgentStop {
        /// Why, for the agent.
        reason: String,
    },
    /// Ask the launcher to terminate; answer with `TerminateAnswered`.
    AskTerminate {
        /// What the launcher is told; the clock is kept here.
        timeout: Duration,
    },
    /// Ask the launcher to kill; answer with `KillAnswered`.
    AskKill,
    /// (Re)start the timer.
    Arm(Timer, Duration),
    /// (Re)start the timer, unless it already expires sooner.
    ArmSooner(Timer, Duration),
    /// Stop the timer.
    Disarm(Timer),
    /// The launcher did not answer a kill in time: end it too, where that costs nothing else.
    EndLauncher,
    /// Kill what can be seen of the tree, by what cannot be reused: pidfds, control groups.
    Sweep,
    /// It will never be ready; comes at most once, and never after it was.
    FailReady {
        /// What went on: `starting` before the acknowledgement, `running` after it, or finer.
        phase: &'static str,
        /// What happened, in one sentence.
        why: String,
    },
    /// The one exit of the launch. Only notes and late kills follow.
    Publish(Box<Ended>),
    /// Something to count and to log.
    Note(Note),
}

/// How one launch ended, as far as the state machine knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub kind: ProcExitKind,
    /// The raw facts that the launcher reported, if any.
    pub reported: Option<ReportedExit>,
    /// The last lines of stderr; none when neither side gave any.
    pub stderr_tail: Option<Vec<String>>,
    /// The last lines of stdout; none when neither side gave any.
    pub stdout_tail: Option<Vec<String>>,
    /// Whether the kernel has killed something of it for want of memory; none when nobody could look.
    pub oom: Option<bool>,
    /// The first request to stop it; none means that none of us asked.
    pub requested: Option<StopRequest>,
    /// Every request to stop it, the first ones when there were very many.
    pub stops: Vec<StopIntent>,
    /// How many more of them there were.
    pub more_stops: u64,
    /// One sentence for people.
    pub verdict: String,
    /// The same for programs.
    pub judged: Verdict,
    /// Where the launcher and the operating system disagree.
    pub contradictions: Vec<String>,
}

/// A fact worth counting that changes nothing about the exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Something came after the exit was settled.
    LateReport {
        /// What came.
        what: String,
    },
    /// The launcher and the operating system disagree; the latter was believed.
    Contradiction {
        /// What each says.
        what: String,
    },
    /// The launcher reported none, or more than one, of code, signal and failure.
    AmbiguousExit {
        /// What it reported.
        reported: ReportedExit,
    },
    /// The proc ended, or was killed, and its launcher did not report how.
    NoExitReport {
        /// What is known without it.
        what: String,
    },
    /// The launcher reported the exit of a process that still lives; the process is killed.
    EarlyExit {
        /// The process.
        pid: u32,
        /// What was reported.
        what: String,
    },
    /// The launcher did not do, or did not answer, a terminate; the kill follows at the deadline.
    TerminateFailed {
        /// Why.
        why: String,
    },
    /// The launcher did not do, or did not answer, a kill, and the proc was not seen to end.
    KillUnavailable {
        /// Why.
        why: String,
    },
}
