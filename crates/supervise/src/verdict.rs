use procession_model::{BootPhase, Eviction, ProcExitKind, StopRequest, Verdict};

/// Why a proc never became ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFailure {
    /// How far it had come.
    pub phase: BootPhase,
    /// What was missed.
    pub why: String,
}

/// One sentence for people that says how a launch ended; its first word is the class.
///
/// `boot` is none when the proc was ready, and when one of us stopped it before it could be.
pub fn verdict(
    kind: &ProcExitKind,
    boot: Option<&BootFailure>,
    requested: Option<&StopRequest>,
    evicted: Option<Eviction>,
) -> String {
    if let (Some(why), None) = (evicted, requested) {
        return format!("{why}: {kind}");
    }
    match (kind, boot, requested) {
        (ProcExitKind::Lost { .. }, _, Some(request)) => {
            format!("{kind}; we had asked for its end ({request})")
        }
        (ProcExitKind::Lost { .. }, _, None) => kind.to_string(),
        // What follows the first line is a traceback.
        (ProcExitKind::Failed { reason }, _, None) => {
            format!("launcher failed: {}", reason.lines().next().unwrap_or_default())
        }
        (_, Some(BootFailure { phase, why }), _) => {
            format!("boot failed ({}: {why}): {kind}", phase.as_str())
        }
        (_, None, Some(request)) => format!("stopped by us ({request}): {kind}"),
        (ProcExitKind::Exited { code: 0 }, None, None) => "clean exit".to_owned(),
        (ProcExitKind::Exited { code: -1 }, None, None) => kind.to_string(),
        (ProcExitKind::Exited { .. }, None, None) => format!("app error: {kind}"),
        (ProcExitKind::Signaled { signal, core_dumped }, None, None) => {
            if *core_dumped || is_fault(*signal) {
                format!("crash: {kind}")
            } else {
                format!("killed: {kind}, not requested by us")
            }
        }
    }
}

/// What [`verdict`] says, for programs. A group that ran out of memory says more than how its leader ended.
pub fn judge(
    kind: &ProcExitKind,
    boot: Option<&BootFailure>,
    requested: Option<&StopRequest>,
    oom: Option<bool>,
    evicted: Option<Eviction>,
) -> Verdict {
    if let (Some(why), None) = (evicted, requested)
        && oom != Some(true)
    {
        return Verdict::Evicted { why };
    }
    match (kind, boot, requested) {
        _ if oom == Some(true) => Verdict::OutOfMemory,
        (ProcExitKind::Lost { .. }, _, _) => Verdict::Unknown,
        (ProcExitKind::Failed { .. }, _, None) => Verdict::LauncherFailed,
        (_, Some(boot), _) => Verdict::BootFailed { phase: boot.phase },
        (_, None, Some(_)) => Verdict::Stopped,
        (ProcExitKind::Exited { code: 0 }, None, None) => Verdict::Clean,
        (ProcExitKind::Exited { code: -1 }, None, None) => Verdict::Unknown,
        (ProcExitKind::Exited { code }, None, None) => Verdict::AppError { code: *code },
        (ProcExitKind::Signaled { signal, core_dumped }, None, None) => {
            if *core_dumped || is_fault(*signal) {
                Verdict::Crash { signal: *signal }
            } else {
                Verdict::Killed { signal: *signal }
            }
        }
    }
}

/// Signals that a program's own fault raises: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
fn is_fault(signal: i32) -> bool {
    matches!(signal, 4..=8 | 11 | 31)
}
