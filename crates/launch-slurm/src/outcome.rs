use procession_model::{Eviction, ProcExitKind, ProcExitResult, ReportedExit};

use crate::row::Row;

/// How a job has ended, from what Slurm says of it. `knows_memory`: whether it would say that memory ran out.
pub(crate) fn outcome(row: &Row, knows_memory: bool) -> ProcExitResult {
    let oom = (knows_memory || row.state == "OUT_OF_MEMORY").then_some(row.state == "OUT_OF_MEMORY");
    let exit = |evicted| ProcExitResult { oom, evicted, ..of_status(row.status) };
    let failed = |what: &str| ProcExitResult::failed(format!("{what} ({})", row.shown()));
    match row.state.as_str() {
        "TIMEOUT" | "DEADLINE" => exit(Some(Eviction::TimeLimit)),
        "PREEMPTED" => exit(Some(Eviction::Preempted)),
        // Which program of it was killed is not told.
        "OUT_OF_MEMORY" => ProcExitResult {
            oom,
            ..ProcExitResult::new(ProcExitKind::Signaled { signal: 9, core_dumped: false })
        },
        "NODE_FAIL" => {
            let reason = format!("node {} failed, where it may live on ({})", row.nodes, row.shown());
            ProcExitResult::new(ProcExitKind::Lost { reason })
        }
        "COMPLETED" | "FAILED" | "CANCELLED" if !row.nodes.is_empty() => exit(None),
        "CANCELLED" => failed("the job was cancelled in the queue, by none of us"),
        _ => failed("Slurm did not run it"),
    }
}

/// What a parent reads from the kernel.
fn of_status(status: i32) -> ProcExitResult {
    let (signal, core_dumped, code) = (status & 0x7f, status & 0x80 != 0, status >> 8 & 0xff);
    let (kind, reported) = if signal == 0 {
        let reported = ReportedExit { exit_code: Some(code), ..ReportedExit::default() };
        (ProcExitKind::Exited { code }, reported)
    } else {
        let reported = ReportedExit { signal: Some(signal), core_dumped, ..ReportedExit::default() };
        (ProcExitKind::Signaled { signal, core_dumped }, reported)
    };
    ProcExitResult { reported: Some(reported), ..ProcExitResult::new(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: &str, status: i32, nodes: &str) -> Row {
        Row { state: state.into(), status, nodes: nodes.into(), ..Row::default() }
    }

    #[test]
    fn what_slurm_says_is_read_as_an_exit() {
        let exited = |code| ProcExitKind::Exited { code };
        let signaled = |signal, core_dumped| ProcExitKind::Signaled { signal, core_dumped };
        for (said, kind, evicted, oom) in [
            (row("COMPLETED", 0, "n1"), exited(0), None, false),
            (row("FAILED", 7 << 8, "n1"), exited(7), None, false),
            (row("FAILED", 143 << 8, "n1"), exited(143), None, false),
            (row("FAILED", 15, "n1"), signaled(15, false), None, false),
            (row("FAILED", 0x80 | 6, "n1"), signaled(6, true), None, false),
            (row("CANCELLED", 9, "n1"), signaled(9, false), None, false),
            (row("PREEMPTED", 15, "n1"), signaled(15, false), Some(Eviction::Preempted), false),
            (row("TIMEOUT", 0, "n1"), exited(0), Some(Eviction::TimeLimit), false),
            (row("OUT_OF_MEMORY", 253, "n1"), signaled(9, false), None, true),
        ] {
            let exit = outcome(&said, true);
            assert_eq!((exit.kind, exit.evicted, exit.oom), (kind, evicted, Some(oom)), "{said:?}");
        }
        assert_eq!(outcome(&row("COMPLETED", 0, "n1"), false).oom, None);
    }

    #[test]
    fn what_was_never_run_has_failed_and_what_was_on_a_failed_node_is_lost() {
        for never in [row("FAILED", 256, ""), row("CANCELLED", 0, ""), row("BOOT_FAIL", 0, "n1")] {
            assert!(matches!(outcome(&never, true).kind, ProcExitKind::Failed { .. }), "{never:?}");
        }
        assert!(matches!(outcome(&row("NODE_FAIL", 0, "n2"), true).kind, ProcExitKind::Lost { .. }));
    }
}
