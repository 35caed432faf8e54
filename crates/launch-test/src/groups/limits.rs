//! Limits: what a launcher says that it holds a proc to, it does; what it does not, it refuses.

use procession_host::SpawnSpec;
use procession_model::{Confinement, DropCapabilities, Rlimits, User};

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed, not_capable};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "limits.what-is-not-claimed-is-refused",
        "A part of a confinement that a launcher does not claim is refused by check(), before anything starts.",
        "check(): leave it as it is, or refuse there what Capabilities.confines does not claim",
        [],
        refused
    ),
    check!(
        "limits.memory-is-limited",
        "A proc that fills more memory than its limit does not get it.",
        "resources.memory: it is passed to what the substrate limits memory with, in bytes",
        [Output, Memory],
        memory
    ),
    check!(
        "limits.memory-within-the-limit-is-there",
        "A proc that stays within its limit on memory gets what it asks for.",
        "the unit of the limit: resources.memory is in bytes",
        [Output, Memory],
        enough_memory
    ),
    check!(
        "limits.want-of-memory-is-told",
        "The end of a proc that was killed for want of memory says so.",
        "ProcExitResult.oom: the counter of the control group, or what the substrate says of it",
        [Output, Memory],
        oom
    ),
    check!(
        "limits.want-of-memory-is-not-made-up",
        "The end of a proc that had enough memory does not say that it ran out.",
        "ProcExitResult.oom: code 137 alone says nothing about memory",
        [],
        no_oom
    ),
    check!(
        "limits.processes-are-limited",
        "A proc cannot start more processes than its limit.",
        "resources.pids: it counts processes and threads, the proc itself too",
        [Output, Pids],
        pids
    ),
    check!(
        "limits.rlimits-are-set",
        "A limit of the kernel on open files is what the proc finds.",
        "rlimits: each of them, by its name without RLIMIT_",
        [Output, Rlimits],
        rlimits
    ),
    check!(
        "limits.the-user-is-another",
        "A proc of another user has that user's number, and the group's.",
        "user: uid, gid and groups, set before the program is executed",
        [Output, User],
        user
    ),
    check!(
        "limits.new-privileges-are-given-up",
        "With no_new_privs a proc has given them up.",
        "security.no_new_privs",
        [Output, Security],
        privileges
    ),
    check!(
        "limits.capabilities-are-dropped",
        "A proc that drops all capabilities can never have one.",
        "security.drop_capabilities: the bounding set too",
        [Output, Security],
        capabilities
    ),
    check!(
        "limits.processors-are-bound",
        "A proc that is bound to one processor may use that one alone.",
        "binding.cpus",
        [Output, Binding],
        processors
    ),
    check!(
        "limits.who-is-not-limited-is-not",
        "A proc without limits beside one with them has none of them.",
        "state that launches share",
        [Output, Rlimits],
        unlimited
    ),
];

const MIB: usize = 1 << 20;

/// What runs `deeds` under a confinement that the launcher takes.
fn confined(stage: &Stage, deeds: &[Deed], change: impl FnOnce(&mut Confinement)) -> Verdict<SpawnSpec> {
    let mut spec = stage.spec(deeds);
    change(&mut spec.command.confinement);
    match stage.launcher().check(&spec.command.confinement) {
        Ok(()) => Ok(spec),
        Err(error) => not_capable(format!("it is refused here: {error}")),
    }
}

async fn refused(stage: &Stage) -> Verdict {
    let claimed = stage.capabilities().confines;
    let mut parts: [(&str, bool, Confinement); 7] = [
        ("memory", claimed.memory, Confinement::default()),
        ("pids", claimed.pids, Confinement::default()),
        ("cpu", claimed.cpu, Confinement::default()),
        ("user", claimed.user, Confinement::default()),
        ("rlimits", claimed.rlimits, Confinement::default()),
        ("security", claimed.security, Confinement::default()),
        ("binding", claimed.binding, Confinement::default()),
    ];
    parts[0].2.resources.memory = Some(256 << 20);
    parts[1].2.resources.pids = Some(64);
    parts[2].2.resources.cpu_millis = Some(500);
    parts[3].2.user = Some(User { uid: 65534, gid: 65534, groups: vec![] });
    parts[4].2.rlimits = [("core".to_owned(), Rlimits { soft: Some(0), hard: Some(0) })].into();
    parts[5].2.security.no_new_privs = true;
    parts[6].2.binding.cpus = Some("0".to_owned());
    if parts.iter().all(|(_, claimed, _)| *claimed) {
        return not_capable("it claims all there is, and so has nothing to refuse");
    }
    for (name, _, confinement) in parts.iter().filter(|(_, claimed, _)| !claimed) {
        if stage.launcher().check(confinement).is_ok() {
            return failed(&format!("check() to refuse {name}, which confines does not claim"), "Ok");
        }
    }
    Ok(())
}

/// What a proc says that may use 64 MiB and fills as much as told.
async fn eats(stage: &Stage, bytes: usize) -> Verdict<(Option<bool>, String, String)> {
    let deeds = [Deed::say("begins"), Deed::Eat(bytes)];
    let spec = confined(stage, &deeds, |confinement| {
        confinement.resources.memory = Some(64 << 20);
    })?;
    let run = stage.start_spec(spec)?;
    let exit = run.exit().await?;
    let lines = run.stdout();
    demand(lines.first().is_some_and(|line| line == "begins"), "the program to begin", run.seen())?;
    Ok((exit.oom, lines.get(1).cloned().unwrap_or_default(), run.seen()))
}

async fn memory(stage: &Stage) -> Verdict {
    let (_, line, seen) = eats(stage, 256 * MIB).await?;
    demand(line.is_empty(), "a proc with a limit of 64 MiB not to get 256 MiB", seen)
}

async fn enough_memory(stage: &Stage) -> Verdict {
    let (_, line, seen) = eats(stage, 4 * MIB).await?;
    demand(line == format!("ate {}", 4 * MIB), "a proc with a limit of 64 MiB to get 4 MiB", seen)
}

async fn oom(stage: &Stage) -> Verdict {
    let (oom, line, seen) = eats(stage, 256 * MIB).await?;
    if !line.is_empty() {
        return not_capable("the limit does not hold; see limits.memory-is-limited");
    }
    if oom.is_none() && !stage.capabilities().oom_facts {
        return not_capable("it does not claim to say whether memory ran out (oom_facts), and does not");
    }
    demand(oom == Some(true), "oom to be true", format!("{oom:?}; {seen}"))
}

async fn no_oom(stage: &Stage) -> Verdict {
    let (exit, _) = stage.runs(&[Deed::Exit(137)]).await?;
    demand(exit.oom != Some(true), "oom not to be true", format!("{:?}", exit.oom))
}

async fn pids(stage: &Stage) -> Verdict {
    let spec = confined(stage, &[Deed::Fork(60), Deed::say("after")], |confinement| {
        confinement.resources.pids = Some(20);
    })?;
    let run = stage.start_spec(spec)?;
    run.exit().await?;
    let forked = run.stdout().iter().filter(|line| line.starts_with("forked ")).count();
    demand(
        (1..20).contains(&forked),
        "between 1 and 19 processes beside the proc",
        format!("{forked}; {}", run.seen()),
    )
}

async fn rlimits(stage: &Stage) -> Verdict {
    let spec = confined(stage, &[Deed::PrintOpenFiles], |confinement| {
        confinement.rlimits = [("nofile".to_owned(), Rlimits { soft: Some(77), hard: Some(99) })].into();
    })?;
    let run = stage.start_spec(spec)?;
    run.exit().await?;
    demand(run.stdout() == ["nofile 77"], "\"nofile 77\"", run.seen())
}

async fn unlimited(stage: &Stage) -> Verdict {
    let (_, before) = stage.runs(&[Deed::PrintOpenFiles]).await?;
    rlimits(stage).await?;
    let (_, after) = stage.runs(&[Deed::PrintOpenFiles]).await?;
    demand(before == after, &format!("{before:?}"), format!("{after:?}"))
}

async fn user(stage: &Stage) -> Verdict {
    let other =
        if stage.runs(&[Deed::PrintUser]).await?.1 == ["uid 65534 gid 65534"] { 65533 } else { 65534 };
    let spec = confined(stage, &[Deed::PrintUser], |confinement| {
        confinement.user = Some(User { uid: other, gid: other, groups: vec![] });
        // A directory that everybody may enter.
    })?;
    let run = stage.start_spec(spec)?;
    run.exit().await?;
    let told = run.told();
    if let Some(Err(why)) =
        told.answer.as_ref().filter(|answer| matches!(answer, Err(why) if why.contains("ermission")))
    {
        return not_capable(format!("the other user may not run the kit's programs here: {why}"));
    }
    demand(run.stdout() == [format!("uid {other} gid {other}")], &format!("uid and gid {other}"), run.seen())
}

/// The field of the status of a proc without anything of a confinement, and with.
async fn status(
    stage: &Stage,
    field: &'static str,
    change: impl FnOnce(&str, &mut Confinement),
) -> Verdict<(String, String)> {
    let of = |lines: Vec<String>| {
        lines.first().and_then(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
    };
    let Some(free) = of(stage.runs(&[Deed::PrintStatus(field)]).await?.1) else {
        return not_capable(format!("where its procs run /proc/self/status has no {field}"));
    };
    let spec = confined(stage, &[Deed::PrintStatus(field)], |confinement| change(&free, confinement))?;
    let run = stage.start_spec(spec)?;
    run.exit().await?;
    match of(run.stdout()) {
        Some(bound) => Ok((free, bound)),
        None => failed(&format!("a line of {field}"), run.seen()),
    }
}

async fn privileges(stage: &Stage) -> Verdict {
    let (free, bound) =
        status(stage, "NoNewPrivs", |_, confinement| confinement.security.no_new_privs = true).await?;
    if free == "1" {
        return not_capable("its procs have given them up anyway");
    }
    demand(bound == "1", "NoNewPrivs 1", bound)
}

async fn capabilities(stage: &Stage) -> Verdict {
    let (free, bound) = status(stage, "CapBnd", |_, confinement| {
        confinement.security.drop_capabilities = DropCapabilities::All;
    })
    .await?;
    if free.bytes().all(|byte| byte == b'0') {
        return not_capable("its procs have none anyway");
    }
    demand(bound.bytes().all(|byte| byte == b'0'), "CapBnd 0", bound)
}

async fn processors(stage: &Stage) -> Verdict {
    let mut one = String::new();
    let (free, bound) = status(stage, "Cpus_allowed_list", |free, confinement| {
        one = free.rsplit([',', '-']).next().unwrap_or_default().to_owned();
        confinement.binding.cpus = Some(one.clone());
    })
    .await?;
    if free == one {
        return not_capable("there is one processor only");
    }
    demand(bound == one, &format!("Cpus_allowed_list {one}"), bound)
}
