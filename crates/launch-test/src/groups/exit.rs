//! The end: it is told once, when it is one, and as what it is.

use std::time::{Duration, SystemTime};

use procession_host::Stream;

use super::check;
use super::stop::{kill, running, terminate};
use crate::check::Check;
use crate::deed::{Apart, Deed};
use crate::fault::{Fault, Verdict, demand, failed, not_capable};
use crate::looking::{Look, sweep};
use crate::run::Run;
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "exit.every-end-is-told",
        "The exit channel tells how a proc ended; it is not dropped without a word, and does not stay silent.",
        "who holds the sender of exit_rx: it has to send on every path, and outlive the proc",
        [],
        told
    ),
    check!(
        "exit.an-end-is-told-to-observers-once",
        "Of one launch there is one exit.",
        "whether more than one task reports the end",
        [],
        once
    ),
    check!(
        "exit.code-0-is-told-as-code-0",
        "A program that returns 0 has exited with code 0.",
        "how the substrate's status is made into a ProcExitKind",
        [],
        code_0
    ),
    check!(
        "exit.a-code-is-told-as-it-is",
        "A program that returns 7 has exited with code 7.",
        "whether the report has the code of the program, and not that of a wrapper around it",
        [],
        code_7
    ),
    check!(
        "exit.the-highest-code-is-told-as-it-is",
        "A program that returns 255 has exited with code 255.",
        "signed numbers of eight bits; tools that use 255 for failures of their own, as ssh does",
        [],
        code_255
    ),
    check!(
        "exit.a-code-above-128-is-no-signal",
        "A program that returns 143 has exited with code 143, and no signal has ended it.",
        "whether codes above 128 are taken for signals, as shells write them",
        [CodesApart],
        code_143
    ),
    check!(
        "exit.a-signal-is-told-as-a-signal",
        "A program that SIGKILL ends is told as ended by signal 9, and not as exited with code 137.",
        "how a wait status is decoded; where a shell or an engine stands between, 128+n has to be made into a signal again",
        [Output],
        by_kill
    ),
    check!(
        "exit.a-crash-is-told-by-its-signal",
        "A program that aborts is told as ended by signal 6.",
        "how a wait status is decoded, the core bit too",
        [Output],
        by_abort
    ),
    check!(
        "exit.a-termination-is-told-by-its-signal",
        "A program that terminate() ends, since it has no handler, is told as ended by signal 15.",
        "terminate(): which signal it sends, and what is reported afterwards",
        [Output],
        by_termination
    ),
    check!(
        "exit.a-kill-of-ours-is-told-by-its-signal",
        "A program that kill() ends is told as ended by signal 9.",
        "kill(): which signal it sends, and what is reported afterwards",
        [Output],
        by_our_kill
    ),
    check!(
        "exit.a-kill-from-outside-is-told",
        "A proc that somebody else kills is told as ended by signal 9, which none of us asked for.",
        "whether the end is watched, or only told where the launcher itself was asked for it",
        [Output, Local],
        from_outside
    ),
    check!(
        "exit.closed-output-is-no-end",
        "A proc that closes its output lives on, and its exit is told when it ends.",
        "whether the end of the output is taken for the end of the proc",
        [Output],
        closed_output
    ),
    check!(
        "exit.an-end-is-told-although-a-child-holds-the-output",
        "The exit is told when the proc has ended, although something that it started still holds its output.",
        "whether the exit waits for the end of the output: wait for the process, then drain what is there",
        [Output],
        held_output
    ),
    check!(
        "exit.the-last-words-are-in-the-exit",
        "The last lines of stderr are in the exit.",
        "whether the output is read to its end before the exit is told, and the tail of what the launcher reads itself",
        [Output, StreamsApart],
        last_words
    ),
    check!(
        "exit.the-times-are-in-their-order",
        "A launcher's times lie between the launch and now: started_at, then ended_at where it gives one.",
        "the clock that times are taken from; started_at is the time of the request where nothing better is known",
        [],
        times
    ),
];

async fn told(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::Exit(5)])?;
    run.exit().await?;
    match run.report().await? {
        Some(_) => Ok(()),
        None => failed("a report", "that exit_rx was dropped without one"),
    }
}

async fn once(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::say("once"), Deed::Exit(0)])?;
    run.exit().await?;
    // A second one would be told before the end of a proc that begins after it.
    stage.runs(&[Deed::Exit(0)]).await?;
    demand(run.heard.exits() == 1, "1 exit", run.heard.exits())
}

async fn ends_with(stage: &Stage, code: u8) -> Verdict {
    stage.start(&[Deed::Exit(code)])?.ends_with(i32::from(code)).await
}

async fn code_0(stage: &Stage) -> Verdict {
    ends_with(stage, 0).await
}

async fn code_7(stage: &Stage) -> Verdict {
    ends_with(stage, 7).await
}

async fn code_255(stage: &Stage) -> Verdict {
    ends_with(stage, 255).await
}

async fn code_143(stage: &Stage) -> Verdict {
    ends_with(stage, 143).await
}

/// Not capable where the proc is the first of its namespace, which signals of its own do not end.
pub(super) fn may_be_signalled(run: &Run) -> Verdict {
    let lines = run.stdout();
    if lines.iter().any(|line| line == "unharmed 1" || line == "pid 1") {
        return not_capable(
            "its procs are the first of their pid namespace, which their own signals do not end",
        );
    }
    Ok(())
}

async fn by_signal(stage: &Stage, number: i32) -> Verdict {
    let run = stage.start(&[Deed::SignalSelf(number), Deed::Exit(99)])?;
    run.exit().await?;
    may_be_signalled(&run)?;
    run.ends_by(number).await
}

async fn by_kill(stage: &Stage) -> Verdict {
    by_signal(stage, 9).await
}

async fn by_abort(stage: &Stage) -> Verdict {
    by_signal(stage, 6).await
}

/// As it was told once it was asked to end; `asked` is the answer.
async fn by_request(run: &Run, number: i32, asked: Verdict) -> Verdict {
    asked?;
    match run.exit().await {
        Ok(_) => run.ends_by(number).await,
        Err(_) => not_capable("it does not end when it is asked to; the group stop tells why"),
    }
}

async fn by_termination(stage: &Stage) -> Verdict {
    let run = running(stage, &[]).await?;
    may_be_signalled(&run)?;
    let asked = terminate(stage, &run).await;
    by_request(&run, 15, asked).await
}

async fn by_our_kill(stage: &Stage) -> Verdict {
    let run = running(stage, &[Deed::IgnoreTerm]).await?;
    let asked = kill(stage, &run).await;
    by_request(&run, 9, asked).await
}

async fn from_outside(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::PrintPid("pid"), Deed::Forever])?;
    let pid = run.number("pid").await?;
    may_be_signalled(&run)?;
    // Whoever sees it can tell whether it is the same namespace.
    Look::at(stage, vec![pid]).await?;
    let (_, sent) = stage.runs(&[Deed::Signal(pid, 9)]).await?;
    demand(sent == ["sent"], "the other proc to send the signal", format!("{sent:?}"))?;
    let exit = run.exit().await?;
    demand(exit.requested.is_none(), "an end that none of us asked for", run.seen())?;
    run.exits_by(9).await
}

async fn closed_output(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::say("closes"), Deed::CloseOutput, Deed::Pause(2), Deed::Exit(6)])?;
    run.ends_with(6).await?;
    demand(run.stdout() == ["closes"], "the line \"closes\"", run.seen())
}

async fn held_output(stage: &Stage) -> Verdict {
    // Only who tells an end at all can tell it too late.
    let plain = stage.start(&[Deed::Exit(0)])?;
    if !matches!(plain.report().await, Ok(Some(_))) {
        return not_capable("its ends are not told; see exit.every-end-is-told");
    }
    stage.recorder.keep_pids();
    // From its fork on it holds the output, longer than anybody waits. It may be told of before it says anything itself.
    let holder = Deed::Start(Apart::Child, vec![Deed::Pause(300)]);
    let run = stage.start(&[holder, Deed::PrintChild("holder"), Deed::Exit(4)])?;
    let report = run.report().await;
    let pid = run.stdout().iter().find_map(|line| line.strip_prefix("holder ")?.parse().ok());
    sweep(stage, pid).await;
    let report = report.map_err(|fault| match fault {
        // That ends are told is known by now.
        Fault::NoEnd(why) => Fault::Failed(why),
        other => other,
    });
    match report? {
        Some(_) => Ok(()),
        None => failed("a report", "that exit_rx was dropped without one"),
    }
}

async fn last_words(stage: &Stage) -> Verdict {
    let run =
        stage.start(&[Deed::Lines(Stream::Stderr, 50, 20), Deed::warn("the last words"), Deed::Exit(1)])?;
    let tail = run.exit().await?.stderr_tail.clone();
    let last = tail.last().map(String::as_str);
    demand(last == Some("the last words"), "\"the last words\" at the end of the tail", format!("{last:?}"))?;
    demand(tail.len() == 51, "51 lines", tail.len())
}

async fn times(stage: &Stage) -> Verdict {
    // Clocks of other machines may differ by as much.
    let slack = Duration::from_secs(60);
    let asked = SystemTime::now() - slack;
    let run = stage.start(&[Deed::Exit(0)])?;
    run.exit().await?;
    let told = run.told();
    let latest = SystemTime::now() + slack;
    let Some(Ok((_, started))) = told.answer else { return failed("a launch that is accepted", run.seen()) };
    let good = asked <= started && started <= latest;
    demand(good, &format!("started_at between {asked:?} and {latest:?}"), format!("{started:?}"))?;
    match told.report.flatten().and_then(|report| report.ended_at) {
        Some(ended) => {
            let good = started <= ended && ended <= latest;
            demand(good, &format!("ended_at between {started:?} and {latest:?}"), format!("{ended:?}"))
        }
        None => Ok(()),
    }
}
