use std::time::{Duration, SystemTime};

use procession_model::{BootPhase, ProcExitResult, StopRequest};

/// What happened to one launch.
///
/// Each `pid` is a process that the driver watches: one that it cannot watch (another machine,
/// another pid namespace) is none here, because its end would be waited for in vain.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The launcher accepted the launch.
    LaunchAcknowledged {
        /// The process, where it is watched.
        pid: Option<u32>,
    },
    /// The launcher returned an error from the launch: nothing was started, no report will come.
    LaunchRefused {
        /// The error.
        reason: String,
    },
    /// The launcher said something about a launch that goes on.
    Reported {
        /// The process, where it is watched.
        pid: Option<u32>,
        /// The substrate's name for it: a container's id, a job's number. Nothing depends on it.
        handle: Option<String>,
        /// How far the launch is; restarts the ready deadline.
        progress: Option<String>,
    },
    /// How far its boot has come, where more is known than what the other events tell; changes nothing else.
    Booting {
        /// What goes on.
        phase: BootPhase,
        /// What it said last about it.
        last_word: Option<String>,
    },
    /// The proc dialled back, and is set up.
    CalledBack {
        /// The process, where it is watched.
        pid: Option<u32>,
    },
    /// The program said that it is ready, by other means than a call back.
    NotifiedReady,
    /// An earlier host saw it ready.
    WasReady,
    /// One of us wants it to end.
    StopAsked {
        /// Where on the ladder to begin.
        how: StopHow,
        /// For each rung below kill; `Duration::MAX` waits without end.
        grace: Duration,
        /// Who asked, when and why.
        request: StopRequest,
    },
    /// The launcher answered a terminate.
    TerminateAnswered(Result<(), String>),
    /// The launcher answered a kill.
    KillAnswered(Result<(), String>),
    /// The proc's agent could not be asked to stop.
    AgentStopFailed,
    /// A launcher whose word is only a claim reported the exit.
    LauncherReported(ProcExitResult),
    /// The status is known by parenthood.
    OsExit(ProcExitResult),
    /// The launcher gave up on the kill without an answer to it.
    KillUnanswered,
    /// The operating system says that it is gone, but not how it ended.
    OsGone,
    /// The operating system will not tell how it ended.
    OsUntold,
    /// The launcher, or what it stands on, cannot be asked.
    Unreachable {
        /// Why.
        why: String,
    },
    /// The launcher can be asked again, and the proc is still there.
    HeardAgain,
    /// A timer that was armed has expired, at that time (for the record only).
    ///
    /// A timer that was re-armed or disarmed since must not be reported any more.
    TimerFired(Timer, SystemTime),
}

/// Where a stop begins on the ladder: agent, terminate, kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopHow {
    /// The proc's own agent is asked first, when there is one.
    AgentFirst,
    /// The launcher is asked to terminate.
    Terminate,
    /// The launcher is asked to kill.
    Kill,
}

/// What one launch can be waiting for. Each is armed at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The launcher's acknowledgement of the launch.
    LaunchAck,
    /// The call back, since the acknowledgement or the last progress.
    Ready,
    /// The call back, in all.
    ReadyCap,
    /// The exit, after the agent was asked.
    AgentStop,
    /// The exit, after the launcher was asked to terminate.
    Terminate,
    /// The launcher's answer to a terminate.
    TerminateAck,
    /// The launcher's answer to a kill.
    KillAck,
    /// The exit, after a kill.
    KillGone,
    /// The launcher's report or the operating system's word, whichever is second.
    ReportWait,
    /// The launcher, to be heard again.
    UnknownBudget,
}
