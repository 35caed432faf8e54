//! Readiness: it is the proc's own word, and a launcher carries what it needs for that.

use std::time::Duration;

use procession_host::{Readiness, SpawnSpec};
use procession_model::{BOOTSTRAP_ENV, BootstrapCommand};
use tokio::time::timeout;

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed, no_end};
use crate::run::Run;
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "ready.the-payload-arrives-whole",
        "The proc finds PROCESSION_BOOTSTRAP in its environment, byte for byte.",
        "whether LaunchOptions::variables() is passed on; nothing may look into the payload, cut it or quote it",
        [Output],
        payload
    ),
    check!(
        "ready.who-never-calls-back-is-ended-at-its-deadline",
        "A proc that has not called back by its deadline is ended, and said not to be ready.",
        "terminate() and kill(): they are what the deadline asks for",
        [],
        never
    ),
    check!(
        "ready.who-ends-before-it-calls-back-says-how",
        "A proc that ends before it has called back ends with its own code, and is said not to be ready.",
        "whether the exit is told at once, with the code",
        [],
        ends_early
    ),
    check!(
        "ready.a-launcher-does-not-make-a-proc-ready",
        "A proc that runs and does not call back is not ready, whatever its launcher says.",
        "nothing: the host decides this. If it fails, the program given to the kit calls back by itself",
        [Output],
        not_by_running
    ),
    check!(
        "ready.a-refused-launch-is-never-ready",
        "A proc whose launch fails is said not to be ready.",
        "launch() has to err, or the exit channel has to tell a failure",
        [],
        refused
    ),
    check!(
        "ready.a-proc-that-calls-back-is-ready",
        "A proc that calls back is ready.",
        "how procs reach their host: Capabilities.dial_back, the network between them, and the payload's variable",
        [CallsBack],
        calls_back
    ),
    check!(
        "ready.several-call-back-each-as-itself",
        "Procs that start together call back each with its own payload.",
        "state that launches share: each has a payload of its own",
        [CallsBack],
        several
    ),
    check!(
        "ready.a-ready-proc-is-stopped-by-its-own-agent",
        "A ready proc that is stopped ends by itself, and its launcher is not asked.",
        "whether the connection stands: a launcher that ends a proc which was not to be ended yet",
        [CallsBack],
        stopped
    ),
    check!(
        "ready.a-ready-proc-that-is-killed-is-told-as-that",
        "A ready proc that is killed ends by SIGKILL, and that is what is told.",
        "kill(), and what the exit channel says of a signal",
        [CallsBack],
        killed
    ),
    check!(
        "ready.it-calls-back-from-another-directory",
        "A proc calls back wherever its working directory is.",
        "relative paths in what a proc is given",
        [CallsBack, CommandAttributes],
        elsewhere
    ),
];

/// What runs `deeds`, and is expected to call back.
fn booting(stage: &Stage, deeds: &[Deed]) -> SpawnSpec {
    let mut spec = stage.spec(deeds);
    spec.policy.readiness = Readiness::CallBack;
    spec
}

async fn payload(stage: &Stage) -> Verdict {
    let run = stage.start_spec(booting(stage, &[Deed::PrintVariable(BOOTSTRAP_ENV.to_owned())]))?;
    run.exit().await?;
    let Some(asked) = run.told().asked else { return failed("a launch", run.seen()) };
    let seen = run.stdout().join("\n");
    let same = seen == format!("{BOOTSTRAP_ENV}={}", asked.bootstrap_payload);
    // It has a token in it, which is nobody's business.
    let (given, got) = (asked.bootstrap_payload.len(), seen.len());
    demand(
        same,
        &format!("the payload of {given} bytes after its name"),
        format!("a line of {got} bytes that differs"),
    )
}

async fn never(stage: &Stage) -> Verdict {
    let mut spec = booting(stage, &[Deed::IgnoreTerm, Deed::Forever]);
    spec.policy.ready_timeout = Duration::from_millis(300);
    spec.policy.stop_grace = Duration::from_millis(300);
    let run = stage.start_spec(spec)?;
    let exit = run.exit().await?;
    let by = exit.requested.as_ref().map(|request| request.by.as_str());
    demand(by == Some("ready deadline"), "an end that the ready deadline asked for", run.seen())?;
    not_ready(&run).await
}

async fn not_ready(run: &Run) -> Verdict {
    match timeout(run.patience, run.proc_.ready()).await {
        Ok(Err(_)) => Ok(()),
        Ok(Ok(())) => failed("it not to be ready", "that it is"),
        Err(_) => failed("the word that it is not ready", "none"),
    }
}

async fn ends_early(stage: &Stage) -> Verdict {
    let run = stage.start_spec(booting(stage, &[Deed::Exit(3)]))?;
    run.exits_with(3).await?;
    let exit = run.exit().await?;
    demand(
        exit.verdict.starts_with("boot failed"),
        "a verdict that begins with \"boot failed\"",
        run.seen(),
    )?;
    not_ready(&run).await
}

async fn not_by_running(stage: &Stage) -> Verdict {
    let run = stage.start_spec(booting(stage, &[Deed::say("runs"), Deed::Forever]))?;
    run.says("runs").await?;
    demand(run.proc_.ready_now().is_none(), "nothing to be known of its readiness", run.seen())
}

async fn refused(stage: &Stage) -> Verdict {
    let mut spec = booting(stage, &[]);
    spec.command = BootstrapCommand::new("/nonexistent/of-a-conformance-check");
    let run = stage.start_spec(spec)?;
    run.exit().await?;
    not_ready(&run).await
}

/// A proc of the command that was given, once it is ready.
async fn ready(stage: &Stage, change: impl FnOnce(&mut SpawnSpec)) -> Verdict<Run> {
    let Some(command) = stage.ready_command.clone() else { unreachable!("the check says that it needs one") };
    let mut spec = stage.spec_of(command);
    change(&mut spec);
    let run = stage.start_spec(spec)?;
    match timeout(stage.patience, run.proc_.ready()).await {
        Ok(Ok(())) => Ok(run),
        Ok(Err(why)) => failed("it to be ready", why),
        Err(_) => failed(&format!("it to be ready within {:?}", stage.patience), run.seen()),
    }
}

async fn calls_back(stage: &Stage) -> Verdict {
    ready(stage, |_| ()).await.map(drop)
}

async fn several(stage: &Stage) -> Verdict {
    let (first, second, third) =
        tokio::join!(ready(stage, |_| ()), ready(stage, |_| ()), ready(stage, |_| ()));
    for run in [first?, second?, third?] {
        demand(run.proc_.exit().is_none(), "each to live and be ready", run.seen())?;
    }
    Ok(())
}

async fn stopped(stage: &Stage) -> Verdict {
    let run = ready(stage, |_| ()).await?;
    let stopping = timeout(stage.patience, run.proc_.stop("the check is over", Some(stage.patience)));
    if stopping.await.is_err() {
        return no_end("its end", run.seen());
    }
    run.exits_with(0).await?;
    let asked = run.told().terminations + run.told().kills;
    demand(asked == 0, "no terminate and no kill", format!("{asked}"))
}

async fn killed(stage: &Stage) -> Verdict {
    let run = ready(stage, |_| ()).await?;
    crate::run::answered(stage.patience, "kill", run.proc_.kill("check")).await?;
    run.exits_by(9).await
}

async fn elsewhere(stage: &Stage) -> Verdict {
    ready(stage, |spec| spec.command.cwd = Some("/".into())).await.map(drop)
}
