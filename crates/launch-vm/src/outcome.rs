use procession_model::{ProcExitKind, ProcExitResult};

use crate::console::Console;
use crate::qmp::Told;

/// How a machine has ended, for people; `exit` is that of QEMU, and on the console is what was said last.
pub(crate) fn ended(told: &Told, exit: &ProcExitResult, console: &Console) -> String {
    let how = match (told, &exit.kind) {
        (Told { panicked: true, .. }, _) => match console.panic() {
            Some(why) => return format!("the guest's kernel has panicked: {why}"),
            None => "the guest's kernel has panicked".to_owned(),
        },
        (Told { reason: Some(reason), .. }, _) if reason == "guest-shutdown" => {
            "the guest has turned itself off".to_owned()
        }
        (Told { reason: Some(reason), .. }, _) if reason == "guest-reset" => {
            "the guest has started over".to_owned()
        }
        (Told { reason: Some(reason), .. }, _) => format!("QEMU was told to end ({reason})"),
        (_, kind) => format!("QEMU has ended: {kind}"),
    };
    let said = console.lines();
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
        let last = ", and the last that was said is: ";
        for (told, exit, said, wanted) in [
            (
                told(true, "guest-panic"),
                code(0),
                "[1] Kernel panic - why\nmore",
                "the guest's kernel has panicked: why",
            ),
            (told(true, "guest-panic"), code(0), "", "the guest's kernel has panicked"),
            (told(false, "guest-shutdown"), code(0), "", "the guest has turned itself off"),
            (told(false, "guest-reset"), code(0), "", "the guest has started over"),
            (told(false, "host-signal"), code(0), "", "QEMU was told to end (host-signal)"),
            (Told::default(), code(1), "no image", &format!("QEMU has ended: exit code 1{last}no image")),
        ] {
            let console = Console::new();
            console.guest_says(said.as_bytes());
            assert_eq!(ended(&told, &exit, &console), wanted);
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
