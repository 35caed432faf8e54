use bollard::models::ContainerState;
use procession_model::{ProcExitKind, ProcExitResult, ReportedExit};

/// Shells and engines give 128 + n for the end by signal n.
const SIGNALED: i64 = 128;
const LAST_SIGNAL: i64 = 64;

/// How a container has ended, from what the engine says of it.
pub(crate) fn outcome(state: &ContainerState) -> ProcExitResult {
    let code = state.exit_code.unwrap_or(-1);
    let error = state.error.clone().filter(|error| !error.is_empty());
    let signal = (code > SIGNALED && code <= SIGNALED + LAST_SIGNAL)
        .then(|| i32::try_from(code - SIGNALED).unwrap_or_default());
    let exit_code = i32::try_from(code).ok();
    let kind = match (error.clone(), signal, exit_code) {
        (Some(reason), ..) => ProcExitKind::Failed { reason },
        (None, Some(signal), _) => ProcExitKind::Signaled { signal, core_dumped: false },
        (None, None, Some(code @ 0..=255)) => ProcExitKind::Exited { code },
        (None, None, _) => ProcExitKind::Exited { code: -1 },
    };
    ProcExitResult {
        reported: Some(ReportedExit { exit_code, signal, core_dumped: false, failed_reason: error }),
        oom: state.oom_killed,
        ..ProcExitResult::new(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_is_read_as_an_exit() {
        let state = |code, oom, error: &str| ContainerState {
            exit_code: Some(code),
            oom_killed: Some(oom),
            error: Some(error.to_owned()),
            ..ContainerState::default()
        };
        let signaled = |signal| ProcExitKind::Signaled { signal, core_dumped: false };
        for (said, kind) in [
            (state(0, false, ""), ProcExitKind::Exited { code: 0 }),
            (state(3, false, ""), ProcExitKind::Exited { code: 3 }),
            (state(255, false, ""), ProcExitKind::Exited { code: 255 }),
            (state(137, false, ""), signaled(9)),
            (state(143, false, ""), signaled(15)),
            (state(127, false, "no such program"), ProcExitKind::Failed { reason: "no such program".into() }),
            (ContainerState::default(), ProcExitKind::Exited { code: -1 }),
        ] {
            assert_eq!(outcome(&said).kind, kind, "{said:?}");
        }
        assert_eq!(outcome(&state(137, true, "")).oom, Some(true));
    }
}
