use std::time::{Duration, SystemTime};

use procession_model::{ProcExitKind, ProcExitResult, ReportedExit};

/// The kernel's words for how a child has ended.
const EXITED: i32 = 1;
const KILLED: i32 = 2;
const DUMPED: i32 = 3;

/// What was being done when a program could not be executed, by systemd's code.
const STEPS: [(i32, &str); 29] = [
    (200, "CHDIR"),
    (201, "NICE"),
    (202, "FDS"),
    (203, "EXEC"),
    (204, "MEMORY"),
    (205, "LIMITS"),
    (206, "OOM_ADJUST"),
    (207, "SIGNAL_MASK"),
    (208, "STDIN"),
    (209, "STDOUT"),
    (210, "CHROOT"),
    (211, "IOPRIO"),
    (213, "SECUREBITS"),
    (214, "SETSCHEDULER"),
    (215, "CPUAFFINITY"),
    (216, "GROUP"),
    (217, "USER"),
    (218, "CAPABILITIES"),
    (219, "CGROUP"),
    (220, "SETSID"),
    (222, "STDERR"),
    (224, "PAM"),
    (225, "NETWORK"),
    (226, "NAMESPACE"),
    (227, "NO_NEW_PRIVILEGES"),
    (228, "SECCOMP"),
    (231, "APPARMOR"),
    (242, "NUMA_POLICY"),
    (243, "CREDENTIALS"),
];

/// What the manager knows of the end of a unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Whether it was seen to run. One that ends at once is not, though it was executed.
    pub(crate) ran: bool,
    /// ExecMainCode and ExecMainStatus, 0 as long as it runs.
    pub(crate) code: i32,
    pub(crate) status: i32,
    /// `success`, `exit-code`, `oom-kill`, …
    pub(crate) result: String,
    /// Microseconds since 1970, when it ended.
    pub(crate) ended: u64,
    /// What it was to execute, for people.
    pub(crate) program: String,
}

impl Facts {
    pub(crate) fn is_over(&self) -> bool {
        self.code != 0 || !self.ran
    }

    /// Why it was never executed, in systemd's words; none where it was.
    pub(crate) fn refusal(&self) -> Option<String> {
        if self.ran {
            return None;
        }
        let Self { program, result, .. } = self;
        match self.code {
            0 => Some(format!("systemd did not start {program:?}: the result of its unit is {result}")),
            // What comes before the program ends with codes of its own.
            EXITED => STEPS.iter().find(|(code, _)| *code == self.status).map(|(code, step)| {
                format!("systemd could not execute {program:?}: its unit ended with status {code}/{step}")
            }),
            _ => None,
        }
    }

    /// How it has ended. `oom`: whether the manager hears of it when memory runs out.
    pub(crate) fn exit(&self, oom: bool) -> ProcExitResult {
        let (code, signal) = match self.code {
            EXITED => (Some(self.status), None),
            KILLED | DUMPED => (None, Some(self.status)),
            _ => (None, None),
        };
        let core_dumped = self.code == DUMPED;
        let failed = self.refusal();
        let kind = match (failed.clone(), code, signal) {
            (Some(reason), ..) => ProcExitKind::Failed { reason },
            (None, Some(code), _) => ProcExitKind::Exited { code },
            (None, None, Some(signal)) => ProcExitKind::Signaled { signal, core_dumped },
            (None, None, None) => ProcExitKind::Exited { code: -1 },
        };
        ProcExitResult {
            reported: Some(ReportedExit { exit_code: code, signal, core_dumped, failed_reason: failed }),
            ended_at: (self.ended > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(self.ended)),
            oom: oom.then_some(self.result == "oom-kill"),
            ..ProcExitResult::new(kind)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(code: i32, status: i32, result: &str) -> Facts {
        let (result, program) = (result.to_owned(), "/bin/worker".to_owned());
        Facts { ran: true, code, status, result, ended: 1_000_000, program }
    }

    #[test]
    fn an_end_is_what_the_manager_says_of_the_program() {
        let signaled = |signal, core_dumped| ProcExitKind::Signaled { signal, core_dumped };
        for (said, kind) in [
            (facts(EXITED, 0, "success"), ProcExitKind::Exited { code: 0 }),
            (facts(EXITED, 203, "exit-code"), ProcExitKind::Exited { code: 203 }),
            (facts(KILLED, 15, "success"), signaled(15, false)),
            (facts(DUMPED, 6, "core-dump"), signaled(6, true)),
        ] {
            let exit = said.exit(true);
            assert_eq!((exit.kind, exit.oom), (kind, Some(false)), "{said:?}");
            assert_eq!(exit.ended_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
        }
        assert_eq!(facts(KILLED, 9, "oom-kill").exit(true).oom, Some(true));
        assert_eq!(facts(KILLED, 9, "signal").exit(false).oom, None, "a manager that hears nothing of it");
    }

    #[test]
    fn a_program_that_was_never_executed_has_failed_in_the_words_of_systemd() {
        for (said, word) in [
            (facts(EXITED, 203, "exit-code"), "status 203/EXEC"),
            (facts(EXITED, 217, "exit-code"), "status 217/USER"),
            (facts(0, 0, "resources"), "the result of its unit is resources"),
        ] {
            let said = Facts { ran: false, ..said };
            let ProcExitKind::Failed { reason } = said.exit(false).kind else { panic!("{said:?}") };
            assert!(reason.contains(word) && reason.contains("/bin/worker"), "{reason}");
        }
        for said in [facts(EXITED, 3, "exit-code"), facts(KILLED, 9, "signal")] {
            assert_eq!(
                Facts { ran: false, ..said.clone() }.refusal(),
                None,
                "it has ended at once: {said:?}"
            );
        }
    }
}
