//! Adoption: what an earlier host has launched is taken over, or refused.

use procession_model::{HostId, ProcExitKind, ProcId};
use tokio::time::timeout;

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Fault, Verdict, demand, failed, not_capable};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "adopt.what-is-not-claimed-is-refused",
        "A launcher that does not claim to take anything over errs when it is asked to.",
        "adopt(): leave it out, or claim adopt",
        [],
        refused
    ),
    check!(
        "adopt.what-is-not-there-has-ended",
        "A proc that is not there any more is taken over as ended: its exit resolves at once.",
        "adopt(): what it does when it finds nothing of the proc: the exit resolves, and the call does not hang",
        [Adopt],
        nothing
    ),
    check!(
        "adopt.another-process-of-that-number-is-a-stranger",
        "A process with the pid of the proc that was started at another time is not touched.",
        "adopt(): the start time that comes with the pid has to be compared",
        [Adopt, Output, Local],
        stranger
    ),
];

fn unknown() -> Verdict<ProcId> {
    ProcId::fresh("of-an-earlier-host", &HostId::fresh("earlier"))
        .map_err(|error| Fault::Failed(error.to_string()))
}

async fn refused(stage: &Stage) -> Verdict {
    if stage.capabilities().adopt {
        return not_capable("it claims to take procs over");
    }
    let run = stage.start(&[Deed::Exit(0)])?;
    run.exit().await?;
    let Some(asked) = run.told().asked else { return failed("a launch", run.seen()) };
    match timeout(stage.patience, stage.launcher().adopt(&unknown()?, &asked, None)).await {
        Ok(Err(_)) => Ok(()),
        Ok(Ok(_)) => failed("adopt() to err, since the capability adopt is not claimed", "Ok"),
        Err(_) => failed(&format!("an answer within {:?}", stage.patience), "none"),
    }
}

/// Asks for a proc that was never launched, which had the process `pid`.
async fn adopted(stage: &Stage, pid: Option<(u32, u64)>) -> Verdict {
    let run = stage.start(&[Deed::Exit(0)])?;
    run.exit().await?;
    let Some(asked) = run.told().asked else { return failed("a launch", run.seen()) };
    let launched = match timeout(stage.patience, stage.launcher().adopt(&unknown()?, &asked, pid)).await {
        Ok(Ok(launched)) => launched,
        // It may say so at once.
        Ok(Err(_)) => return Ok(()),
        Err(_) => return failed(&format!("an answer within {:?}", stage.patience), "none"),
    };
    match timeout(stage.patience, launched.exit_rx).await {
        Ok(Ok(report)) => demand(
            !matches!(report.kind, ProcExitKind::Exited { code: 0 }),
            "an end of which nobody knows how it was",
            report.kind,
        ),
        Ok(Err(_)) => failed("a report", "that exit_rx was dropped without one"),
        Err(_) => failed(&format!("the exit within {:?}", stage.patience), "none"),
    }
}

async fn nothing(stage: &Stage) -> Verdict {
    adopted(stage, None).await
}

async fn stranger(stage: &Stage) -> Verdict {
    let other = stage.start(&[Deed::PrintPid("pid"), Deed::Tick])?;
    let pid = other.number("pid").await?;
    // Nothing was started in the first tick after boot.
    adopted(stage, Some((pid, 1))).await?;
    other.ticks_on().await
}
