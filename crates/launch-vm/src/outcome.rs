use procession_model::{ProcExitKind, ProcExitResult};

use crate::qmp::Told;

/// How a machine has ended, for people; `exit` is that of QEMU, and `said` what was said last, there or in the guest.
pub(crate) fn ended(told: &Told, exit: &ProcExitResult, said: &[String]) -> String {
    let how = match (told, &exit.kind) {
        (Told { panicked: true, .. }, _) => "the guest's kernel has panicked".to_owned(),
        (Told { reason: Some(reason), .. }, _) if reason == "guest-shutdown" => {
            "the guest has turned itself off".to_owned()
        }
        (Told { reason: Some(reason), .. }, _) if reason == "guest-reset" => {
            "the guest has started over".to_owned()
        }
        (Told { reason: Some(reason), .. }, _) => format!("QEMU was told to end ({reason})"),
        (_, kind) => format!("QEMU has ended: {kind}"),
    };
    if said.is_empty() { how } else { format!("{how}, and the last that was said is: {}", said.join(" | ")) }
}

/// What an exit is whose machine was turned off for a kill before its agent had an answer.
pub(crate) fn after_kill(exit: ProcExitResult) -> ProcExitResult {
    match exit.kind {
        // With the machine all that ran in it is gone.
        ProcExitKind::Lost { .. } => {
            ProcExitResult { kind: ProcExitKind::Signaled { signal: 9, core_dumped: false }, ..exit }
        }
        _ => exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_machine_is_told_by_its_cause() {
        let code = |code| ProcExitResult::new(ProcExitKind::Exited { code });
        let told = |panicked, reason: &str| Told { panicked, reason: Some(reason.to_owned()) };
        for (told, exit, said, wanted) in [
            (
                told(true, "guest-panic"),
                code(0),
                &["Kernel panic"][..],
                "the guest's kernel has panicked, and the last that was said is: Kernel panic",
            ),
            (told(false, "guest-shutdown"), code(0), &[], "the guest has turned itself off"),
            (told(false, "guest-reset"), code(0), &[], "the guest has started over"),
            (told(false, "host-signal"), code(0), &[], "QEMU was told to end (host-signal)"),
            (
                Told::default(),
                code(1),
                &["no such image"],
                "QEMU has ended: exit code 1, and the last that was said is: no such image",
            ),
        ] {
            let said: Vec<String> = said.iter().map(ToString::to_string).collect();
            assert_eq!(ended(&told, &exit, &said), wanted);
        }
    }

    #[test]
    fn what_was_killed_with_its_machine_is_told_as_killed_and_an_end_that_is_known_stays_what_it_is() {
        let lost = ProcExitResult::new(ProcExitKind::Lost { reason: "host lost".into() });
        assert_eq!(after_kill(lost).kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
        let ended = ProcExitResult::new(ProcExitKind::Exited { code: 3 });
        assert_eq!(after_kill(ended.clone()), ended);
    }
}
