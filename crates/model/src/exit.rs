use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{Certificate, Eviction, ProcId, ProcStatus};

/// How a launch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcExitKind {
    /// It returned `code` (0..=255), or −1 when no code is known.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether a core was written.
        core_dumped: bool,
    },
    /// It could not be started, or its launcher could not say how it ended.
    Failed {
        /// What went wrong.
        reason: String,
    },
    /// It is gone, and nobody can know any more how it ended.
    Lost {
        /// What is known.
        reason: String,
    },
}

impl ProcExitKind {
    /// The status of a proc that ended so.
    pub fn status(&self) -> ProcStatus {
        match self {
            Self::Exited { .. } => ProcStatus::Exited,
            Self::Signaled { .. } => ProcStatus::Signaled,
            Self::Failed { .. } => ProcStatus::Failed,
            Self::Lost { .. } => ProcStatus::Lost,
        }
    }
}

impl fmt::Display for ProcExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code: -1 } => f.write_str("exited, code unknown"),
            Self::Exited { code } => write!(f, "exit code {code}"),
            Self::Signaled { signal, core_dumped } => {
                write!(f, "signal {signal} ({})", signal_name(*signal))?;
                if *core_dumped { f.write_str(", core dumped") } else { Ok(()) }
            }
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Lost { reason } => write!(f, "lost: {reason}"),
        }
    }
}

/// What a launcher claims, unchanged, beside the kind that was made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedExit {
    /// The code it gave, if it gave one.
    pub exit_code: Option<i32>,
    /// The signal it gave, if it gave one.
    pub signal: Option<i32>,
    /// Whether it says that a core was written.
    pub core_dumped: bool,
    /// Its reason for a failure, if it gave one.
    pub failed_reason: Option<String>,
}

/// The one terminal report of one launch, as a launcher gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcExitResult {
    /// How it ended.
    pub kind: ProcExitKind,
    /// The last lines of stderr; none when the launcher has no tail to give.
    pub stderr_tail: Option<Vec<String>>,
    /// The last lines of stdout, where the launcher read them.
    #[serde(default)]
    pub stdout_tail: Option<Vec<String>>,
    /// The raw facts, where a launcher reported any.
    #[serde(default)]
    pub reported: Option<ReportedExit>,
    /// When it ended, where the one who reports it saw that.
    #[serde(default)]
    pub ended_at: Option<SystemTime>,
    /// Whether the kernel has killed something of it for want of memory; none when nobody could look.
    #[serde(default)]
    pub oom: Option<bool>,
    /// Why it had to go, where what it ran on took its place away.
    #[serde(default)]
    pub evicted: Option<Eviction>,
}

impl ProcExitResult {
    /// A report of `kind` without tails.
    pub fn new(kind: ProcExitKind) -> Self {
        Self {
            kind,
            stderr_tail: None,
            stdout_tail: None,
            reported: None,
            ended_at: None,
            oom: None,
            evicted: None,
        }
    }

    /// A failure with `reason`, without tails.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::new(ProcExitKind::Failed { reason: reason.into() })
    }
}

/// Who of us asked for a stop, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// `stop`, `terminate`, `kill`, `ready deadline`, `owner gone`.
    pub by: String,
    /// When it was asked.
    pub at: SystemTime,
    /// Why, in the asker's words.
    pub why: String,
}

impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.why.is_empty() { f.write_str(&self.by) } else { write!(f, "{}: {}", self.by, self.why) }
    }
}

/// Everything that is known about one ended launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcExit {
    /// The launch.
    pub proc_id: ProcId,
    /// Its place in its mesh.
    pub rank: usize,
    /// 1 for the first launch of the slot.
    pub incarnation: u32,
    /// The launcher's name.
    pub launcher: String,
    /// How it ended.
    pub kind: ProcExitKind,
    /// What the launcher claimed, where it claimed anything.
    pub reported: Option<ReportedExit>,
    /// The last lines of stderr.
    pub stderr_tail: Vec<String>,
    /// The last lines of stdout.
    pub stdout_tail: Vec<String>,
    /// The file that has all of its stdout, where that was asked for.
    pub stdout_path: Option<PathBuf>,
    /// The file that has all of its stderr, where that was asked for.
    pub stderr_path: Option<PathBuf>,
    /// How many bytes of output these files could not take.
    pub log_dropped_bytes: u64,
    /// Whether the kernel has killed something of it for want of memory, the leader or what it started;
    /// none when nobody could look.
    pub oom: Option<bool>,
    /// The process, where one was known.
    pub pid: Option<u32>,
    /// Who of us asked for the stop; none means that none of us did.
    pub requested: Option<StopRequest>,
    /// When the launch was asked for.
    pub started_at: SystemTime,
    /// When it called back.
    pub ready_at: Option<SystemTime>,
    /// When it ended.
    pub ended_at: SystemTime,
    /// One sentence for people.
    pub verdict: String,
    /// What every witness says about it.
    pub certificate: Certificate,
}

/// The name of a Linux signal on this architecture: `SIGKILL`, or `unknown`.
fn signal_name(signal: i32) -> &'static str {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::try_from(signal)
        .ok()
        .and_then(|n| NAMES.get(n.wrapping_sub(1)).copied())
        .unwrap_or(if (32..=64).contains(&signal) { "real-time" } else { "unknown" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_linux_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(34), "real-time");
        assert_eq!(signal_name(0), "unknown");
        assert_eq!(signal_name(-1), "unknown");
    }
}
