use std::time::Duration;

use procession_model::{ProcExitKind, ProcExitResult};

pub(super) const TERM: i32 = 15;
pub(super) const KILL: i32 = 9;

/// What one launch does, step by step. A proc that has come to the last one lives until it is asked to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Each comes its time after the one before it, the first after the launch.
    pub steps: Vec<(Duration, FakeStep)>,
    /// What terminating it does.
    pub terminated: Terminated,
}

/// What a proc does that is asked to terminate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminated {
    /// It ends by SIGTERM, at once.
    #[default]
    Dies,
    /// Nothing: it has to be killed.
    Ignores,
    /// It ends so, that long after it.
    Ends(Duration, FakeEnd),
}

/// One thing that happens to a proc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeStep {
    /// Its launch fails, with that reason. Only as the first step.
    FailsToLaunch(String),
    /// It is ready.
    Boots,
    /// It says how far it has come.
    Progresses(String),
    /// It writes a text, with its line ends.
    Prints {
        /// What it writes.
        text: String,
        /// To stderr, or else to stdout.
        to_stderr: bool,
    },
    /// What it runs on cannot be asked for that long, and why; nor can it be stopped. Later steps come after that.
    Unreachable(Duration, String),
    /// It ends.
    Ends(FakeEnd),
}

/// How a proc ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeEnd {
    /// It returns that code.
    Exits(u8),
    /// That signal ends it.
    Signaled(i32),
    /// The kernel kills it for want of memory.
    Oom,
}

impl FakeEnd {
    pub(super) fn exit(self) -> ProcExitResult {
        let signaled = |signal| ProcExitKind::Signaled { signal, core_dumped: false };
        let kind = match self {
            Self::Exits(code) => ProcExitKind::Exited { code: i32::from(code) },
            Self::Signaled(signal) => signaled(signal),
            Self::Oom => signaled(KILL),
        };
        ProcExitResult { oom: Some(self == Self::Oom), ..ProcExitResult::new(kind) }
    }
}

impl Script {
    /// The same, in which that comes next, so long after what is there already.
    #[must_use]
    pub fn then(mut self, after: Duration, step: FakeStep) -> Self {
        self.steps.push((after, step));
        self
    }

    /// It becomes ready that long after its launch.
    pub fn boots(after: Duration) -> Self {
        Self::default().then(after, FakeStep::Boots)
    }

    /// The same, which does that when it is terminated.
    #[must_use]
    pub fn when_terminated(self, terminated: Terminated) -> Self {
        Self { terminated, ..self }
    }
}
