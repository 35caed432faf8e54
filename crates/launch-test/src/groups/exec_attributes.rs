//! What a proc finds when it begins: where it runs, and what was taken away.

use std::os::unix::ffi::OsStringExt;

use procession_model::ProcExitKind;

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed, not_capable};
use crate::stage::{Stage, names};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "exec.the-working-directory-is-the-one-given",
        "A proc begins in the directory that command.cwd names.",
        "whether command.cwd is passed on; a launcher that cannot do it leaves command_attributes out",
        [Output, CommandAttributes],
        directory
    ),
    check!(
        "exec.a-missing-directory-fails-the-launch",
        "A working directory that is not there fails the launch, and the program does not run elsewhere instead.",
        "what becomes of the error when the directory cannot be entered",
        [Output, CommandAttributes],
        missing_directory
    ),
    check!(
        "exec.a-cleared-environment-is-empty",
        "With clear_env a proc finds nothing of the launcher's own environment.",
        "whether command.clear_env is honoured; a launcher that cannot do it leaves command_attributes out",
        [Output, CommandAttributes],
        cleared
    ),
    check!(
        "exec.a-cleared-environment-has-what-was-added",
        "With clear_env a proc finds what command.env names.",
        "the order: first the environment is cleared, then command.env is added",
        [Output, CommandAttributes],
        cleared_and_added
    ),
    check!(
        "exec.a-removed-variable-is-not-there",
        "A variable that command.env_remove names is taken away, and no other.",
        "whether command.env_remove is honoured; a launcher that cannot do it leaves command_attributes out",
        [Output, CommandAttributes],
        removed
    ),
    check!(
        "exec.a-path-that-is-no-text-is-executed",
        "A program is executed whose path is not valid UTF-8.",
        "whether the path goes through a String; a launcher that cannot pass bytes leaves raw_paths out",
        [Local, RawPaths],
        raw_path
    ),
    check!(
        "exec.sigterm-is-not-blocked-at-the-start",
        "A proc begins with SIGTERM neither blocked nor ignored, whatever its launcher does with it.",
        "the signal mask and the ignored signals that a child inherits: reset them before the program is executed",
        [Output],
        sigterm
    ),
];

async fn directory(stage: &Stage) -> Verdict {
    let (_, own) = stage.runs(&[Deed::PrintDirectory]).await?;
    // Directories that every system has, and one of them is not the launcher's own.
    let other = if own == ["cwd /"] { "/usr" } else { "/" };
    let mut spec = stage.spec(&[Deed::PrintDirectory]);
    spec.command.cwd = Some(other.into());
    let (_, seen) = stage.runs_spec(spec).await?;
    demand(seen == [format!("cwd {other}")], &format!("\"cwd {other}\""), format!("{seen:?}"))
}

async fn missing_directory(stage: &Stage) -> Verdict {
    let mut spec = stage.spec(&[Deed::say("runs"), Deed::Exit(0)]);
    spec.command.cwd = Some("/nonexistent/of-a-conformance-check".into());
    let run = stage.start_spec(spec)?;
    let exit = run.exit().await?;
    let ran = run.stdout().contains(&"runs".to_owned());
    let well = exit.kind == ProcExitKind::Exited { code: 0 };
    demand(!ran && !well, "the launch to fail, and no output", run.seen())
}

async fn without_environment(stage: &Stage, added: Option<&str>) -> Verdict<Vec<String>> {
    let mut spec = stage.spec(&[Deed::PrintNames]);
    spec.command.clear_env = true;
    spec.command.env.extend(added.map(|name| (name.to_owned(), "added".to_owned())));
    let run = stage.start_spec(spec)?;
    run.exit().await?;
    let lines = run.stdout();
    demand(lines.contains(&"no more names".to_owned()), "a list of names", run.seen())?;
    Ok(lines)
}

async fn cleared(stage: &Stage) -> Verdict {
    let base = stage.base_name().await?;
    let found = names(&without_environment(stage, None).await?);
    demand(!found.contains(&base), &format!("no {base}, which the launcher has"), format!("{found:?}"))
}

async fn cleared_and_added(stage: &Stage) -> Verdict {
    let found = names(&without_environment(stage, Some("CHECK_ADDED")).await?);
    demand(found.contains("CHECK_ADDED"), "CHECK_ADDED", format!("{found:?}"))
}

async fn removed(stage: &Stage) -> Verdict {
    let mut expected = stage.base_names().await?;
    let taken = stage.base_name().await?;
    let mut spec = stage.spec(&[Deed::PrintNames]);
    spec.command.env_remove = vec![taken.clone()];
    let mut found = names(&stage.runs_spec(spec).await?.1);
    expected.remove(&taken);
    // What a shell makes by itself may be there or not.
    found.remove("PATH");
    expected.remove("PATH");
    demand(found == expected, &format!("{expected:?}, {taken} taken away"), format!("{found:?}"))
}

async fn raw_path(stage: &Stage) -> Verdict {
    let directory = match tempfile::tempdir() {
        Ok(directory) => directory,
        Err(error) => return not_capable(format!("no directory could be made for it: {error}")),
    };
    let mut spec = stage.spec(&[Deed::Exit(23)]);
    let Some(program) = Some(&spec.command.program).filter(|program| program.is_absolute()) else {
        return not_capable("the programs of the kit have no absolute path");
    };
    let path = directory.path().join(std::ffi::OsString::from_vec(b"raw-\xff-path".to_vec()));
    if let Err(error) = std::os::unix::fs::symlink(program, &path) {
        return not_capable(format!("no such path could be made: {error}"));
    }
    spec.command.program = path;
    let run = stage.start_spec(spec)?;
    run.exits_with(23).await
}

async fn sigterm(stage: &Stage) -> Verdict {
    let (_, lines) = stage.runs(&[Deed::PrintStatus("SigBlk"), Deed::PrintStatus("SigIgn")]).await?;
    if lines.len() != 2 {
        return not_capable(format!("where its procs run there is no /proc/self/status: {lines:?}"));
    }
    for line in lines {
        let mask = line.rsplit(' ').next().and_then(|mask| u64::from_str_radix(mask, 16).ok());
        match mask {
            Some(mask) => demand(mask >> 14 & 1 == 0, "bit 15 of the mask to be clear", format!("{line:?}"))?,
            None => return failed("a mask", format!("{line:?}")),
        }
    }
    Ok(())
}
