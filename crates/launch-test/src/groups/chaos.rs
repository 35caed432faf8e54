//! Many at once, in the wrong order, and at the wrong time.

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed};
use crate::run::{Run, answered};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "chaos.twenty-at-once-are-told-each-with-its-code",
        "Twenty procs that are launched at one moment end each with its own code.",
        "locks that are held across a launch, and limits of what starts the procs",
        [],
        at_once
    ),
    check!(
        "chaos.twenty-in-a-row-leave-nothing-behind",
        "Twenty procs one after the other are launched as the first was.",
        "what is kept of a proc that has ended: files, names, descriptors, tasks",
        [],
        in_a_row
    ),
    check!(
        "chaos.a-kill-right-after-the-launch-ends-the-proc",
        "A proc that is killed as soon as it was asked for ends, once.",
        "kill() of what is still being launched: it has to wait for that, or cancel it",
        [],
        killed_at_once
    ),
    check!(
        "chaos.a-stop-right-after-the-launch-ends-the-proc",
        "A proc that is stopped as soon as it was asked for ends, once.",
        "terminate() of what is still being launched",
        [],
        stopped_at_once
    ),
    check!(
        "chaos.ten-kills-at-once-are-one",
        "Ten kills of one proc at one moment are all Ok, and there is one exit.",
        "whether kills of one proc exclude each other",
        [Output],
        kills
    ),
    check!(
        "chaos.terminate-and-kill-at-once-are-answered",
        "terminate() and kill() of one proc at one moment are both Ok.",
        "whether one waits for the other, or takes away what the other needs",
        [Output],
        both
    ),
    check!(
        "chaos.a-crowd-is-killed",
        "Twelve procs that are killed at one moment all end.",
        "whether kills wait for each other, and for how long",
        [Output],
        crowd
    ),
    check!(
        "chaos.a-flood-of-output-keeps-nobody-waiting",
        "While one proc writes all that it can, another ends and is told.",
        "whether all output is read by one task, or on the thread that tells exits",
        [Output],
        flood
    ),
    check!(
        "chaos.who-floods-is-killed",
        "A proc that writes all that it can is killed as any other.",
        "whether kill() or the exit wait until all output was read",
        [Output],
        flood_killed
    ),
    check!(
        "chaos.a-failed-launch-costs-the-next-nothing",
        "After a launch that fails the next one succeeds.",
        "what is left when launch() errs half-way: locks, permits, names",
        [],
        after_failure
    ),
];

fn all(stage: &Stage, count: u8, deeds: impl Fn(u8) -> Vec<Deed>) -> Verdict<Vec<Run>> {
    (0..count).map(|number| stage.start(&deeds(number))).collect()
}

async fn at_once(stage: &Stage) -> Verdict {
    for (run, code) in all(stage, 20, |number| vec![Deed::Exit(20 + number)])?.iter().zip(20..) {
        run.exits_with(code).await?;
    }
    Ok(())
}

async fn in_a_row(stage: &Stage) -> Verdict {
    for number in 0..20 {
        let run = stage.start(&[Deed::Exit(number)])?;
        run.exits_with(i32::from(number)).await?;
    }
    Ok(())
}

async fn killed_at_once(stage: &Stage) -> Verdict {
    let runs = all(stage, 5, |_| vec![Deed::IgnoreTerm, Deed::Forever])?;
    for run in &runs {
        // It may be cancelled before anything starts: then that is the answer.
        let _asked = timeout(stage.patience, run.proc_.kill("check")).await;
    }
    ended_once(&runs).await
}

async fn stopped_at_once(stage: &Stage) -> Verdict {
    let runs = all(stage, 5, |_| vec![Deed::IgnoreTerm, Deed::Forever])?;
    let grace = std::time::Duration::from_millis(200);
    for run in &runs {
        let _told_by_its_end = timeout(stage.patience, run.proc_.stop("check", Some(grace))).await;
    }
    ended_once(&runs).await
}

async fn ended_once(runs: &[Run]) -> Verdict {
    for run in runs {
        run.exit().await?;
        demand(run.heard.exits() == 1, "one exit", run.heard.exits())?;
    }
    Ok(())
}

async fn running(stage: &Stage) -> Verdict<Run> {
    let run = stage.start(&[Deed::IgnoreTerm, Deed::say("runs"), Deed::Forever])?;
    run.says("runs").await?;
    Ok(run)
}

async fn kills(stage: &Stage) -> Verdict {
    let run = running(stage).await?;
    let mut asked = JoinSet::new();
    for _ in 0..10 {
        let (launcher, id, patience) = (stage.launcher().clone(), run.id().clone(), stage.patience);
        asked.spawn(async move { answered(patience, "kill()", launcher.kill(&id)).await });
    }
    while let Some(answer) = asked.join_next().await {
        answer.unwrap_or_else(|error| failed("no panic", error))?;
    }
    ended_once(&[run]).await
}

async fn both(stage: &Stage) -> Verdict {
    let run = running(stage).await?;
    let launcher = stage.launcher();
    let (terminated, killed) = tokio::join!(
        answered(stage.patience, "terminate()", launcher.terminate(run.id(), stage.patience * 4)),
        answered(stage.patience, "kill()", launcher.kill(run.id())),
    );
    terminated.and(killed)?;
    ended_once(&[run]).await
}

async fn crowd(stage: &Stage) -> Verdict {
    let runs = all(stage, 12, |_| vec![Deed::IgnoreTerm, Deed::say("runs"), Deed::Forever])?;
    for run in &runs {
        run.says("runs").await?;
    }
    let mut asked = JoinSet::new();
    for run in &runs {
        let (proc_, patience) = (run.proc_.clone(), stage.patience);
        asked.spawn(async move { answered(patience, "kill", proc_.kill("check")).await });
    }
    while let Some(answer) = asked.join_next().await {
        answer.unwrap_or_else(|error| failed("no panic", error))?;
    }
    ended_once(&runs).await
}

async fn flood(stage: &Stage) -> Verdict {
    let flood = stage.start(&[Deed::Flood])?;
    flood.says("flood").await?;
    let other = stage.start(&[Deed::say("ends"), Deed::Exit(3)])?;
    other.exits_with(3).await?;
    demand(flood.proc_.exit().is_none(), "the flood to go on", "its end")
}

async fn flood_killed(stage: &Stage) -> Verdict {
    let flood = stage.start(&[Deed::Flood])?;
    flood.says("flood").await?;
    answered(stage.patience, "kill()", stage.launcher().kill(flood.id())).await?;
    flood.exit().await.map(drop)
}

async fn after_failure(stage: &Stage) -> Verdict {
    for number in 1..4 {
        let mut spec = stage.spec(&[]);
        spec.command.program = "/nonexistent/of-a-conformance-check".into();
        let _not_the_point = stage.start_spec(spec)?;
        let run = stage.start(&[Deed::Exit(number)])?;
        run.exits_with(i32::from(number)).await?;
    }
    Ok(())
}
