//! The tree: what a proc has started goes with it. The host is told of no pid, and so does nothing of it by itself.

use super::check;
use super::stop::{UNREACHED, terminate};
use crate::check::Check;
use crate::deed::{Apart, Deed};
use crate::fault::{Fault, Verdict, not_capable};
use crate::looking::{Look, sweep};
use crate::run::{Run, answered};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "tree.kill-reaches-a-child",
        "kill() ends what the proc has started.",
        "kill(): a signal to the process group, the control group or the namespace, and not to the leader alone",
        [Output, TreeKill],
        child
    ),
    check!(
        "tree.kill-reaches-a-child-in-a-session-of-its-own",
        "kill() ends a child that has made a session of its own.",
        "kill(): a process group is not the tree; walk it by parenthood before the leader dies, or use a control group",
        [Output, TreeKill],
        session
    ),
    check!(
        "tree.kill-reaches-a-grandchild",
        "kill() ends what a child of the proc has started.",
        "kill(): whether it goes down more than one level",
        [Output, TreeKill],
        grandchild
    ),
    check!(
        "tree.kill-reaches-twenty-children",
        "kill() ends all of twenty children.",
        "kill(): processes that are found, and not signalled, or signalled one at a time with a bound",
        [Output, TreeKill],
        twenty
    ),
    check!(
        "tree.kill-reaches-a-child-that-ignores-sigterm",
        "kill() ends a child that ignores SIGTERM.",
        "kill(): whether the tree gets SIGKILL, or SIGTERM only",
        [Output, TreeKill],
        deaf
    ),
    check!(
        "tree.terminate-reaches-a-child",
        "terminate() asks what the proc has started too.",
        "terminate(): a signal to the whole tree, and not to the leader alone",
        [Output, TreeKill],
        terminated
    ),
    check!(
        "tree.kill-leaves-the-tree-of-a-neighbour-alone",
        "kill() ends nothing that another proc has started.",
        "kill(): groups or sessions that procs share",
        [Output, TreeKill],
        neighbour
    ),
    check!(
        "tree.kill-reaches-a-daemon",
        "kill() ends what has left its session and its parents behind.",
        "kill(): a control group, a namespace, or a mark in the environment; without one leave group_kill out",
        [Output, GroupKill],
        daemon
    ),
    check!(
        "tree.kill-reaches-a-daemon-with-an-empty-environment",
        "kill() ends what has left its session, its parents and its environment behind.",
        "kill(): a control group or a namespace; without one leave group_kill out",
        [Output, GroupKill],
        stranger
    ),
];

const MEMBER: &str = "member";

/// Starts a proc whose program has started `count` of `deed`, each of which says what it is.
async fn family(stage: &Stage, deeds: &[Deed], count: usize) -> Verdict<(Run, Vec<u32>)> {
    stage.recorder.keep_pids();
    let run = stage.start(&[deeds, &[Deed::Forever]].concat())?;
    let mut pids = vec![run.number(MEMBER).await?];
    for nth in 1..count {
        let line = run.says_again("member ", nth).await?;
        pids.extend(line.strip_prefix("member ").and_then(|pid| pid.parse::<u32>().ok()));
    }
    Ok((run, pids))
}

fn member(apart: Apart) -> Deed {
    Deed::Start(apart, vec![Deed::PrintPid(MEMBER), Deed::Forever])
}

/// The family of `deeds` is gone once the launcher was asked to kill it.
async fn killed(stage: &Stage, deeds: &[Deed], count: usize) -> Verdict {
    let (run, pids) = family(stage, deeds, count).await?;
    let look = Look::at(stage, pids).await?;
    // Not through the host, which sweeps what it can see.
    let answer = answered(stage.patience, "kill()", stage.launcher().kill(run.id())).await;
    let gone = look.gone().await;
    look.sweep(stage).await;
    answer.and(gone)
}

async fn child(stage: &Stage) -> Verdict {
    killed(stage, &[member(Apart::Child)], 1).await
}

async fn session(stage: &Stage) -> Verdict {
    killed(stage, &[member(Apart::Session)], 1).await
}

async fn grandchild(stage: &Stage) -> Verdict {
    let below = Deed::Start(Apart::Child, vec![member(Apart::Child), Deed::PrintPid(MEMBER), Deed::Forever]);
    killed(stage, &[below], 2).await
}

async fn twenty(stage: &Stage) -> Verdict {
    killed(stage, &vec![member(Apart::Child); 20], 20).await
}

async fn deaf(stage: &Stage) -> Verdict {
    killed(stage, &[Deed::IgnoreTerm, member(Apart::Child)], 1).await
}

async fn daemon(stage: &Stage) -> Verdict {
    killed(stage, &[member(Apart::Daemon)], 1).await
}

async fn stranger(stage: &Stage) -> Verdict {
    killed(stage, &[member(Apart::Stranger)], 1).await
}

async fn terminated(stage: &Stage) -> Verdict {
    let told = Deed::Start(Apart::Child, vec![Deed::OnTerm(None), Deed::PrintPid(MEMBER), Deed::Forever]);
    let (run, pids) = family(stage, &[Deed::OnTerm(None), told], 1).await?;
    let look = Look::at(stage, pids).await?;
    let answer = terminate(stage, &run).await;
    // The proc itself says so, and what it has started.
    let heard = match run.says_again("got TERM", 1).await {
        Err(_) if !run.stdout().contains(&"got TERM".to_owned()) => not_capable(UNREACHED),
        heard => heard.map(drop),
    };
    let _its_end_is_not_the_point = run.proc_.kill("the check is over").await;
    let _asked_before = stage.launcher().kill(run.id()).await;
    look.sweep(stage).await;
    answer.and(heard)
}

async fn neighbour(stage: &Stage) -> Verdict {
    let (first, pids) = family(stage, &[member(Apart::Child)], 1).await?;
    let ticking = Deed::Start(Apart::Child, vec![Deed::PrintPid(MEMBER), Deed::Tick]);
    let (second, others) = family(stage, &[ticking], 1).await?;
    let look = Look::at(stage, pids).await?;
    answered(stage.patience, "kill()", stage.launcher().kill(first.id())).await?;
    let reached = look.gone().await;
    look.sweep(stage).await;
    let lives = second.ticks_on().await;
    let _its_end_is_not_the_point = second.proc_.kill("the check is over").await;
    sweep(stage, others).await;
    lives?;
    match reached {
        Err(Fault::NotCapable(why)) => not_capable(why),
        Err(_) => {
            not_capable("kill() does not reach what the proc has started; see tree.kill-reaches-a-child")
        }
        Ok(()) => Ok(()),
    }
}
