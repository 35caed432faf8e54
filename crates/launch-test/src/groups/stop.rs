//! The stop: terminate asks, kill ends, and both may be asked for at any time.

use std::time::Duration;

use procession_launch::ProcLauncherError;
use procession_model::{HostId, ProcExitKind, ProcId};
use tokio::time::timeout;

use super::check;
use super::exit::may_be_signalled;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Fault, Verdict, demand, failed, no_end, not_capable};
use crate::run::{Run, answered};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "stop.terminate-reaches-the-program",
        "A program that handles SIGTERM gets it, and ends as it likes.",
        "terminate(): it has to deliver SIGTERM to the program itself, and not to a wrapper that keeps it",
        [Output],
        reaches
    ),
    check!(
        "stop.terminate-ends-who-does-not-handle-it",
        "A program without a handler for SIGTERM ends when it is terminated.",
        "terminate(): which signal it sends, and to whom",
        [Output],
        ends
    ),
    check!(
        "stop.terminate-only-asks",
        "A program that handles SIGTERM and goes on lives on; the clock until it is killed is the host's.",
        "terminate(): it must not kill, neither at once nor after a time of its own",
        [Output],
        only_asks
    ),
    check!(
        "stop.terminate-is-answered-before-the-end",
        "terminate() is answered when the request was delivered, and does not wait for the end.",
        "terminate(): whether it waits for the process; the exit is what exit_rx is for",
        [Output],
        does_not_wait
    ),
    check!(
        "stop.who-ignores-sigterm-is-killed-at-the-timeout",
        "A program that ignores SIGTERM is killed when the time that it was given is over.",
        "kill(): the host asks for it at the timeout",
        [Output],
        escalates
    ),
    check!(
        "stop.kill-ends-who-ignores-sigterm",
        "kill() ends a program that ignores SIGTERM.",
        "kill(): it sends SIGKILL, or has the substrate do so",
        [Output],
        kills
    ),
    check!(
        "stop.terminate-may-be-asked-for-again",
        "terminate() of a proc that was terminated already is Ok.",
        "terminate(): whether it forgets the proc at the first call, or treats the second as a mistake",
        [Output],
        terminate_again
    ),
    check!(
        "stop.kill-may-be-asked-for-again",
        "kill() of a proc that was killed already is Ok, at once or later.",
        "kill(): whether the second call is treated as a mistake",
        [Output],
        kill_again
    ),
    check!(
        "stop.terminate-of-an-ended-proc-is-ok",
        "terminate() of a proc that has ended is Ok.",
        "terminate(): what it does when the process is gone: that is what was asked for",
        [],
        terminate_ended
    ),
    check!(
        "stop.kill-of-an-ended-proc-is-ok",
        "kill() of a proc that has ended is Ok.",
        "kill(): what it does when the process is gone: that is what was asked for",
        [],
        kill_ended
    ),
    check!(
        "stop.a-proc-that-was-never-launched-is-not-found",
        "terminate() and kill() of a proc that was never launched here are errors.",
        "whether an unknown id is told from an ended one",
        [],
        unknown
    ),
    check!(
        "stop.a-neighbour-lives-on",
        "Who is killed is the proc that was asked for; its neighbour lives on.",
        "by what kill() finds its process: names, groups or sessions that procs share",
        [Output],
        neighbour
    ),
    check!(
        "stop.a-stop-ends-a-proc-that-never-calls-back",
        "A proc without an agent is stopped through its launcher.",
        "terminate(), then kill()",
        [Output],
        stopped
    ),
    check!(
        "stop.an-end-after-terminate-is-told-as-it-was",
        "The code that a program chooses at SIGTERM is the code of its exit.",
        "whether a report is made up when terminate() was asked for",
        [Output],
        own_code
    ),
];

/// Long after every patience: nothing may happen by itself before.
const NEVER: Duration = Duration::from_secs(600);

/// What only one check fails for.
pub(super) const UNREACHED: &str =
    "SIGTERM does not reach the program; see stop.terminate-reaches-the-program";

/// Asks the launcher itself, with nothing between.
pub(super) async fn terminate(stage: &Stage, run: &Run) -> Verdict {
    let asked = stage.launcher().terminate(run.id(), NEVER);
    match timeout(stage.patience, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => failed("terminate() to be Ok", error),
        Err(_) => not_capable(
            "terminate() is not answered while the proc goes on; see stop.terminate-is-answered-before-the-end",
        ),
    }
}

pub(super) async fn kill(stage: &Stage, run: &Run) -> Verdict {
    answered(stage.patience, "kill()", stage.launcher().kill(run.id())).await
}

/// Runs until it is told to end.
pub(super) async fn running(stage: &Stage, deeds: &[Deed]) -> Verdict<Run> {
    let deeds = [deeds, &[Deed::PrintPid("pid"), Deed::Forever]].concat();
    let run = stage.start(&deeds)?;
    run.number("pid").await?;
    Ok(run)
}

async fn reaches(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::OnTerm(Some(9))]).await?;
    terminate(stage, &run).await?;
    run.says("got TERM").await.map(drop)
}

async fn own_code(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::OnTerm(Some(9))]).await?;
    answered(stage.patience, "terminate", run.proc_.terminate(stage.patience / 2, "check")).await?;
    match run.says("got TERM").await {
        Ok(_) => run.ends_with(9).await,
        Err(_) => not_capable(UNREACHED),
    }
}

async fn ends(stage: &Stage) -> Verdict {
    let run = running(stage, &[]).await?;
    may_be_signalled(&run)?;
    terminate(stage, &run).await?;
    run.exit().await.map(drop)
}

async fn only_asks(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::OnTerm(None)]).await?;
    for nth in 0..3 {
        // Each line shows that the one before has not ended it.
        terminate(stage, &run).await?;
        match run.says_again("got TERM", nth).await {
            Ok(_) => {}
            Err(_) if run.proc_.exit().is_none() => return not_capable(UNREACHED),
            Err(fault) => return Err(fault),
        }
    }
    demand(run.told().report.is_none(), "it to live", run.seen())
}

async fn does_not_wait(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    let asked = stage.launcher().terminate(run.id(), NEVER);
    match timeout(stage.patience, asked).await {
        Ok(_) => Ok(()),
        Err(_) => failed(&format!("an answer within {:?}", stage.patience), "none, while the proc goes on"),
    }
}

async fn escalates(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    let _told_by_its_end = run.proc_.terminate(Duration::from_millis(500), "check").await;
    run.exit().await.map(drop)
}

async fn kills(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    kill(stage, &run).await?;
    run.exit().await.map(drop)
}

async fn terminate_again(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    for _ in 0..3 {
        terminate(stage, &run).await?;
    }
    Ok(())
}

async fn kill_again(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    kill(stage, &run).await?;
    kill(stage, &run).await?;
    run.exit().await?;
    kill(stage, &run).await
}

async fn ended(stage: &Stage) -> Verdict<Run> {
    let run = stage.start(&[Deed::Exit(0)])?;
    run.exit().await?;
    Ok(run)
}

async fn terminate_ended(stage: &Stage) -> Verdict {
    terminate(stage, &ended(stage).await?).await
}

async fn kill_ended(stage: &Stage) -> Verdict {
    kill(stage, &ended(stage).await?).await
}

async fn unknown(stage: &Stage) -> Verdict {
    let stranger = ProcId::fresh("never-launched", &HostId::fresh("nowhere"))
        .map_err(|error| Fault::Failed(error.to_string()))?;
    let launcher = stage.launcher();
    let asked: [(&str, Result<Result<(), ProcLauncherError>, _>); 2] = [
        ("terminate()", timeout(stage.patience, launcher.terminate(&stranger, NEVER)).await),
        ("kill()", timeout(stage.patience, launcher.kill(&stranger)).await),
    ];
    for (what, answer) in asked {
        match answer {
            Ok(Err(_)) => {}
            Ok(Ok(())) => return failed(&format!("{what} to be an error"), "Ok"),
            Err(_) => return failed(&format!("an answer to {what} within {:?}", stage.patience), "none"),
        }
    }
    Ok(())
}

async fn neighbour(stage: &Stage) -> Verdict {
    let first = running(stage, &[]).await?;
    let second = stage.start(&[Deed::Tick])?;
    second.says("tick").await?;
    kill(stage, &first).await?;
    first.exit().await?;
    second.ticks_on().await
}

async fn stopped(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    let stopping = run.proc_.stop("check", Some(Duration::from_millis(300)));
    let Ok(exit) = timeout(stage.patience, stopping).await else { return no_end("its end", run.seen()) };
    match exit.kind {
        ProcExitKind::Exited { .. } | ProcExitKind::Signaled { .. } => Ok(()),
        _ => no_end("a code or a signal", run.seen()),
    }
}
