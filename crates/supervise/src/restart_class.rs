use std::fmt;

use procession_model::{ProcExit, ProcExitKind};

use crate::running::READY_DEADLINE;

/// Who asks for a stop when the host itself has a reason to.
pub const HOST: &str = "host";
/// Who asks for the stop of what has to be launched again with another slot, or not without it.
pub const RESTART: &str = "restart";

/// What kind of end it was, for a restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndClass {
    /// It returned 0.
    Clean,
    /// It failed by itself.
    App,
    /// It ran out of memory.
    Oom,
    /// It never became ready.
    Boot,
    /// It could not be launched, or its launcher lost it.
    Launcher,
}

impl EndClass {
    /// The class of an end that nobody asked for; `calls_back` says whether it was to call back.
    pub fn of(exit: &ProcExit, calls_back: bool) -> Self {
        match &exit.kind {
            _ if exit.oom == Some(true) => Self::Oom,
            ProcExitKind::Failed { .. } | ProcExitKind::Lost { .. } => Self::Launcher,
            _ if calls_back && exit.ready_at.is_none() => Self::Boot,
            ProcExitKind::Exited { code: 0 } => Self::Clean,
            ProcExitKind::Exited { .. } | ProcExitKind::Signaled { .. } => Self::App,
        }
    }

    /// The lower-case word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::App => "app",
            Self::Oom => "oom",
            Self::Boot => "boot",
            Self::Launcher => "launcher",
        }
    }
}

impl fmt::Display for EndClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a stop that `by` asked for is final: not one that follows from a failure.
pub fn is_final_stop(by: &str) -> bool {
    ![READY_DEADLINE, HOST, RESTART].contains(&by)
}
