use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{BootPhase, BootTiming, FlightRecord, ProcId, StopRequest};

/// Why a launch ended, in one of the ways that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It returned 0, and nobody had asked for its end.
    Clean,
    /// It returned another code.
    AppError {
        /// The exit code.
        code: i32,
    },
    /// A fault of its own ended it.
    Crash {
        /// The signal's number.
        signal: i32,
    },
    /// A signal ended it that none of us sent.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// It, or something that it had started, ran out of memory.
    OutOfMemory,
    /// One of us had asked for its end.
    Stopped,
    /// It ended, or was ended, before it was ready.
    BootFailed {
        /// How far it had come.
        phase: BootPhase,
    },
    /// What it ran on took its place away.
    Evicted {
        /// What for.
        why: Eviction,
    },
    /// Its launcher could not start it, or could not say how it ended.
    LauncherFailed,
    /// The host ended before it did.
    HostLost,
    /// It is gone, and nobody can know how it ended.
    Unknown,
}

impl Verdict {
    /// Two words at most, for people and for programs that compare them.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::AppError { .. } => "app error",
            Self::Crash { .. } => "crash",
            Self::Killed { .. } => "killed",
            Self::OutOfMemory => "out of memory",
            Self::Stopped => "stopped",
            Self::BootFailed { .. } => "boot failed",
            Self::Evicted { why } => why.as_str(),
            Self::LauncherFailed => "launcher failed",
            Self::HostLost => "host lost",
            Self::Unknown => "unknown",
        }
    }

    /// Whom it is to be laid to: what a policy that restarts procs counts by.
    pub fn class(self) -> ExitClass {
        match self {
            Self::Clean => ExitClass::Clean,
            Self::AppError { .. } | Self::Crash { .. } | Self::Killed { .. } => ExitClass::App,
            Self::OutOfMemory => ExitClass::Oom,
            Self::Stopped => ExitClass::Stopped,
            Self::BootFailed { .. } => ExitClass::Boot,
            Self::Evicted { .. } => ExitClass::Evicted,
            Self::LauncherFailed => ExitClass::Launcher,
            Self::HostLost | Self::Unknown => ExitClass::Lost,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why what a proc runs on took its place away, whatever the program did then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Eviction {
    /// Something more important needed the place.
    Preempted,
    /// Its time was over.
    TimeLimit,
    /// It was put back into the queue, to be run again later.
    Requeued,
    /// Its place was cleared, for want of something there or for maintenance.
    Evicted,
    /// Somebody else has deleted it.
    Deleted,
}

impl Eviction {
    /// Two words at most.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::TimeLimit => "time limit",
            Self::Requeued => "requeued",
            Self::Evicted => "evicted",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of end it was, coarsely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExitClass {
    /// Nothing went wrong.
    Clean,
    /// The program's own, or somebody's who killed it.
    App,
    /// Out of memory.
    Oom,
    /// We asked for it.
    Stopped,
    /// It never became ready.
    Boot,
    /// Its place was taken away, by no fault of its own.
    Evicted,
    /// The launcher's.
    Launcher,
    /// Nobody knows.
    Lost,
}

impl ExitClass {
    /// One lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::App => "app",
            Self::Oom => "oom",
            Self::Stopped => "stopped",
            Self::Boot => "boot",
            Self::Evicted => "evicted",
            Self::Launcher => "launcher",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for ExitClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who says something about an end, each independent of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The kernel, to the process's parent.
    Parent,
    /// The kernel, through a pidfd of a process that is not our child.
    Pidfd,
    /// The kernel, by the counters of a control group.
    ControlGroup,
    /// The launcher.
    Launcher,
    /// The connection of the proc to its host.
    Connection,
    /// The proc itself.
    Proc,
    /// The host, which compares what the others say.
    Host,
}

impl Source {
    /// For tables: two words at most.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parent => "kernel, as parent",
            Self::Pidfd => "kernel, by pidfd",
            Self::ControlGroup => "control group",
            Self::Launcher => "launcher",
            Self::Connection => "connection",
            Self::Proc => "proc",
            Self::Host => "host",
        }
    }
}

/// What one witness says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Who.
    pub source: Source,
    /// When it was said.
    pub at: SystemTime,
    /// What, in one sentence.
    pub says: String,
}

/// A request to end a proc, by one of us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopIntent {
    /// Who, when and why.
    pub request: StopRequest,
    /// The rung that it began with.
    pub from: Rung,
}

/// A step of the ladder that every stop climbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rung {
    /// The proc's own agent was asked.
    Agent,
    /// The launcher was asked to terminate.
    Terminate,
    /// The launcher was asked to kill.
    Kill,
}

impl Rung {
    /// One lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Terminate => "terminate",
            Self::Kill => "kill",
        }
    }
}

/// An actor of the proc that ended by a failure which nobody handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorFailed {
    /// Its name.
    pub actor: String,
    /// When the host heard of it.
    pub at: SystemTime,
    /// Why.
    pub failure: String,
}

/// Everything that witnesses have said about one launch and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Why it ended.
    pub verdict: Verdict,
    /// What each witness says, in the order in which it was heard.
    pub evidence: Vec<Witness>,
    /// What has not been seen, the most important first: "nobody saw …".
    pub missing: Vec<String>,
    /// Where witnesses disagree, and who is believed.
    pub contradictions: Vec<String>,
    /// Every request to end it, in order.
    pub stops: Vec<StopIntent>,
    /// How many more there were than are kept.
    pub more_stops: u64,
    /// When each rung of the ladder was first reached.
    pub rungs: Vec<(Rung, SystemTime)>,
    /// How long each phase of its boot took.
    pub boot: BootTiming,
    /// What the proc itself had noted until its end; none when there was nothing to read.
    pub flight: Option<FlightRecord>,
    /// Actors of it that failed, the last ones.
    pub actors_failed: Vec<ActorFailed>,
    /// The first lines of stdout.
    pub stdout_head: Vec<String>,
    /// The first lines of stderr.
    pub stderr_head: Vec<String>,
    /// The proc that its launcher has to itself.
    pub launched_in: Option<ProcId>,
}

impl Certificate {
    /// The highest rung that was reached.
    pub fn rung(&self) -> Option<Rung> {
        self.rungs.iter().map(|(rung, _)| *rung).max()
    }

    /// One of which nothing but the verdict is known.
    pub fn bare(verdict: Verdict) -> Self {
        Self {
            verdict,
            evidence: Vec::new(),
            missing: Vec::new(),
            contradictions: Vec::new(),
            stops: Vec::new(),
            more_stops: 0,
            rungs: Vec::new(),
            boot: BootTiming::default(),
            flight: None,
            actors_failed: Vec::new(),
            stdout_head: Vec::new(),
            stderr_head: Vec::new(),
            launched_in: None,
        }
    }
}
