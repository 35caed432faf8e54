use procession_model::{Eviction, ProcExitKind, ProcExitResult, ReportedExit};

/// What both sides have said about the end so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// The operating system's status.
    pub(crate) os: Option<ProcExitResult>,
    /// Whether the operating system says that it is gone.
    pub(crate) gone: bool,
    /// Whether the operating system says no more than that.
    pub(crate) untold: bool,
    /// The launcher's report.
    pub(crate) report: Option<ProcExitResult>,
}

/// What was made of it.
pub(crate) struct Merged {
    pub(crate) kind: ProcExitKind,
    pub(crate) reported: Option<ReportedExit>,
    pub(crate) stderr_tail: Option<Vec<String>>,
    pub(crate) stdout_tail: Option<Vec<String>>,
    pub(crate) oom: Option<bool>,
    pub(crate) evicted: Option<Eviction>,
    pub(crate) contradiction: Option<String>,
    /// What went wrong at the launcher's, where that is not the end itself.
    pub(crate) beside: Option<String>,
}

impl From<ProcExitKind> for Merged {
    fn from(kind: ProcExitKind) -> Self {
        Heard { os: Some(ProcExitResult::new(kind)), ..Heard::default() }.merge()
    }
}

impl Heard {
    /// The operating system's status, else the launcher's word, else lost.
    pub(crate) fn merge(self) -> Merged {
        let contradiction = match (&self.os, &self.report) {
            (Some(os), Some(report)) => contradiction(&os.kind, report),
            _ => None,
        };
        let beside = match (&self.os, &self.report) {
            (Some(os), Some(ProcExitResult { kind: ProcExitKind::Failed { reason }, .. }))
                if is_status(&os.kind) =>
            {
                Some(reason.clone())
            }
            _ => None,
        };
        // A launcher that kept a status knows more than an operating system that lost it.
        let (first, second) = match (self.os, self.report) {
            (Some(os), Some(report)) if !is_status(&os.kind) && is_status(&report.kind) => (report, Some(os)),
            (Some(os), report) => (os, report),
            (None, Some(report)) => (report, None),
            (None, None) => (ProcExitResult::new(unreported()), None),
        };
        let second = second.unwrap_or_else(|| ProcExitResult::new(unreported()));
        Merged {
            kind: first.kind,
            reported: first.reported.or(second.reported),
            stderr_tail: fuller(first.stderr_tail, second.stderr_tail),
            stdout_tail: fuller(first.stdout_tail, second.stdout_tail),
            contradiction,
            beside,
            oom: first.oom.or(second.oom),
            evicted: first.evicted.or(second.evicted),
        }
    }
}

fn unreported() -> ProcExitKind {
    ProcExitKind::Lost {
        reason: "NoExitReport: the process is gone and its launcher did not report how it ended; see the launcher's log"
            .to_owned(),
    }
}

fn is_status(kind: &ProcExitKind) -> bool {
    match kind {
        ProcExitKind::Exited { code } => *code != -1,
        ProcExitKind::Signaled { .. } => true,
        ProcExitKind::Failed { .. } | ProcExitKind::Lost { .. } => false,
    }
}

/// A launcher that says it does not know contradicts nobody, nor does one that has said nothing of the end
/// itself, because it failed or is gone, nor one that missed a core.
fn contradiction(os: &ProcExitKind, report: &ProcExitResult) -> Option<String> {
    let ProcExitResult { kind: report, reported, .. } = report;
    let agree = match (os, report) {
        (_, ProcExitKind::Exited { code: -1 }) => true,
        (_, ProcExitKind::Failed { .. }) if reported.is_none() => true,
        (os, _) if !is_status(os) => true,
        (ProcExitKind::Signaled { signal: a, .. }, ProcExitKind::Signaled { signal: b, .. }) => a == b,
        _ => os == report,
    };
    (!agree).then(|| format!("the launcher reported {report}; the operating system says {os}, which stands"))
}

fn fuller(first: Option<Vec<String>>, second: Option<Vec<String>>) -> Option<Vec<String>> {
    match (first, second) {
        (Some(first), Some(second)) if first.is_empty() => Some(second),
        (first, second) => first.or(second),
    }
}
