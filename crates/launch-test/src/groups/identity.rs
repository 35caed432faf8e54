//! Identity: a launch is itself, beside others and after them.

use tokio::time::timeout;

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed, not_capable};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "identity.the-pid-is-that-of-the-program",
        "The pid that launch() gives is that of the program itself.",
        "LaunchResult.pid: a wrapper's pid is none; without better knowledge give none, and leave the capability pid out",
        [Output, Pid, Local],
        pid
    ),
    check!(
        "identity.two-procs-are-two",
        "Two procs that run at one moment have outputs of their own.",
        "state that launches share: names of files, pipes, units or containers",
        [Output],
        two
    ),
    check!(
        "identity.a-name-serves-again",
        "When a proc has ended, another of the same name is launched.",
        "what is named after the proc: ProcId::safe_name() differs for each launch, ProcId::name() does not",
        [],
        again
    ),
    check!(
        "identity.a-late-kill-does-not-reach-the-next-of-its-name",
        "kill() of an ended launch leaves a later one of the same name alone.",
        "by what kill() finds its process: the whole ProcId, and never the name or a pid that was written down",
        [Output],
        late_kill
    ),
    check!(
        "identity.exits-are-not-exchanged",
        "Of four procs that run at one moment each is told its own code.",
        "how the end of a process is matched to its launch",
        [],
        codes
    ),
    check!(
        "identity.a-long-name-is-launched",
        "A name of 128 letters, digits, dots, dashes and underscores is launched.",
        "what is named after the proc: ProcId::safe_name() is short and has no other characters than a-z, 0-9 and dashes",
        [],
        long_name
    ),
    check!(
        "identity.it-says-the-same-of-itself-each-time",
        "A launcher has a name, and claims the same before and after a launch.",
        "name() and capabilities(): they are asked for at any time, and have to be cheap and constant",
        [],
        constant
    ),
];

async fn pid(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::PrintPid("pid"), Deed::Forever])?;
    let pid = run.number("pid").await?;
    match run.told().answer {
        Some(Ok((Some(told), _))) => demand(told == pid, &format!("pid {pid}"), told),
        _ => failed(&format!("pid {pid}"), "none from launch()"),
    }
}

async fn two(stage: &Stage) -> Verdict {
    let deeds = |name: &str| [Deed::say(name), Deed::OnTerm(None), Deed::Forever];
    let (first, second) = (stage.start(&deeds("first"))?, stage.start(&deeds("second"))?);
    first.says("first").await?;
    second.says("second").await?;
    for (run, own) in [(&first, "first"), (&second, "second")] {
        demand(run.stdout() == [own], &format!("nothing but {own:?}"), run.seen())?;
        demand(run.proc_.exit().is_none(), "both to run", run.seen())?;
    }
    Ok(())
}

async fn again(stage: &Stage) -> Verdict {
    let first = stage.spec(&[Deed::Exit(0)]);
    let mut second = stage.spec(&[Deed::Exit(12)]);
    second.name.clone_from(&first.name);
    stage.runs_spec(first).await?;
    let run = stage.start_spec(second)?;
    run.exits_with(12).await
}

async fn late_kill(stage: &Stage) -> Verdict {
    let first = stage.spec(&[Deed::Exit(0)]);
    let mut second = stage.spec(&[Deed::Tick]);
    second.name.clone_from(&first.name);
    let first = stage.start_spec(first)?;
    first.exit().await?;
    let second = stage.start_spec(second)?;
    if second.says("tick").await.is_err() {
        return not_capable("a second proc of the name does not run; see identity.a-name-serves-again");
    }
    let _what_it_answers_is_another_matter = timeout(stage.patience, stage.launcher().kill(first.id())).await;
    second.ticks_on().await
}

async fn codes(stage: &Stage) -> Verdict {
    let codes = [11_u8, 12, 13, 14];
    let runs: Vec<_> = codes.iter().map(|&code| stage.start(&[Deed::Exit(code)])).collect::<Verdict<_>>()?;
    for (run, code) in runs.iter().zip(codes) {
        run.exits_with(i32::from(code)).await?;
    }
    Ok(())
}

async fn long_name(stage: &Stage) -> Verdict {
    let mut spec = stage.spec(&[Deed::Exit(6)]);
    spec.name = format!("{}.Long_Name-{:0>100}", spec.name, 9);
    spec.name.truncate(128);
    let run = stage.start_spec(spec)?;
    run.exits_with(6).await
}

async fn constant(stage: &Stage) -> Verdict {
    let launcher = stage.launcher();
    let before = (launcher.name().to_owned(), launcher.capabilities());
    demand(!before.0.is_empty(), "a name", "an empty one")?;
    stage.runs(&[Deed::Exit(0)]).await?;
    let after = (launcher.name().to_owned(), launcher.capabilities());
    demand(before == after, &format!("{before:?}"), format!("{after:?}"))
}
