//! What a proc finds when it begins: its program, arguments and environment.

use procession_model::{BootstrapCommand, PROCESS_NAME_ENV, ProcExitKind};

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed, not_capable};
use crate::stage::{Stage, names};

pub(super) const CHECKS: &[Check] = &[
    check!(
        "exec.arguments-arrive-as-they-were-given",
        "Every argument arrives as one, with its blanks, quotes, dollars, stars and backslashes.",
        "how the argument list is passed on: as a list, never as text that a shell splits again; quote each where a shell stands between",
        [Output],
        arguments
    ),
    check!(
        "exec.an-empty-argument-is-an-argument",
        "An argument that is empty arrives as one.",
        "whether empty arguments are dropped where the list is joined, filtered or quoted",
        [Output],
        empty_argument
    ),
    check!(
        "exec.an-argument-with-line-ends-is-one",
        "An argument of several lines arrives whole.",
        "whether the command line is written to a file or a protocol that is read line by line",
        [Output],
        argument_of_lines
    ),
    check!(
        "exec.a-long-argument-arrives-whole",
        "An argument of 32 KiB arrives whole.",
        "limits of what carries the command line to where the proc starts",
        [Output],
        long_argument
    ),
    check!(
        "exec.the-environment-is-added",
        "What command.env names is in the environment of the proc, with its value.",
        "whether LaunchOptions::variables() is passed on, all of it",
        [Output],
        environment
    ),
    check!(
        "exec.a-value-arrives-with-every-character",
        "A value with blanks, quotes, equals signs, line ends and letters of any language arrives as it was given.",
        "how variables are quoted where they go through a shell, a file or a command line: KEY=VALUE is split at the first equals sign",
        [Output],
        characters
    ),
    check!(
        "exec.an-empty-value-is-a-value",
        "A variable whose value is empty is set.",
        "whether variables with an empty value are skipped",
        [Output],
        empty_value
    ),
    check!(
        "exec.the-base-environment-stays",
        "What command.env names is added to the launcher's own environment, and replaces nothing else of it.",
        "whether the environment is built anew from command.env alone, though clear_env is false",
        [Output],
        base_stays
    ),
    check!(
        "exec.nothing-of-one-launch-is-in-the-next",
        "What one proc was given the next one does not find.",
        "state that the launcher keeps between launches, or sets in its own process",
        [Output],
        nothing_stays
    ),
    check!(
        "exec.the-process-name-arrives",
        "The proc finds its name, for people, as PROCESSION_PROCESS_NAME.",
        "whether LaunchOptions::variables() is passed on, and not command.env alone",
        [Output],
        process_name
    ),
    check!(
        "exec.a-missing-program-fails-the-launch",
        "A program that is not there fails its launch: launch() errs, or the exit is a failure or code 126 or 127.",
        "what becomes of an error of the substrate: launch() has to return it, or the exit channel has to tell it",
        [],
        missing_program
    ),
    check!(
        "exec.a-failed-launch-names-the-program",
        "Whoever reads why a launch failed reads which program was not found.",
        "the text of the error: it names what was wrong and with which value",
        [],
        names_program
    ),
    check!(
        "exec.a-directory-is-no-program",
        "A directory is not executed, and fails its launch.",
        "what becomes of EACCES or EISDIR where the program is executed",
        [],
        directory
    ),
];

async fn prints(stage: &Stage, given: &[&str]) -> Verdict {
    let given: Vec<String> = given.iter().map(|&argument| argument.to_owned()).collect();
    let (_, lines) = stage.runs(&[Deed::PrintArguments(given.clone())]).await?;
    let shown = given.iter().map(|argument| format!("<{argument}>")).collect::<Vec<_>>().join("\n");
    let expected = format!("argc {}\n{shown}", given.len());
    let seen = lines.join("\n");
    let cut = |text: &str| format!("{:?} ({} bytes)", text.chars().take(300).collect::<String>(), text.len());
    demand(seen == expected, &cut(&expected), cut(&seen))
}

async fn arguments(stage: &Stage) -> Verdict {
    prints(stage, &["a b", "  c  ", "\"d\"", "'e'", "$HOME `f` $(g)", "*", "h\\n", "-i", "--", "j;k&l|m>n"])
        .await
}

async fn empty_argument(stage: &Stage) -> Verdict {
    prints(stage, &["", "a", "", ""]).await
}

async fn argument_of_lines(stage: &Stage) -> Verdict {
    prints(stage, &["one\ntwo\n\nfour", "end"]).await
}

async fn long_argument(stage: &Stage) -> Verdict {
    prints(stage, &[&"y".repeat(32 << 10), "end"]).await
}

async fn with(stage: &Stage, name: &str, value: &str) -> Verdict<String> {
    let mut spec = stage.spec(&[Deed::PrintVariable(name.to_owned())]);
    spec.command.env.insert(name.to_owned(), value.to_owned());
    Ok(stage.runs_spec(spec).await?.1.join("\n"))
}

async fn finds(stage: &Stage, value: &str) -> Verdict {
    let seen = with(stage, "CHECK_VALUE", value).await?;
    demand(seen == format!("CHECK_VALUE={value}"), &format!("CHECK_VALUE={value:?}"), format!("{seen:?}"))
}

async fn environment(stage: &Stage) -> Verdict {
    finds(stage, "given").await
}

async fn characters(stage: &Stage) -> Verdict {
    finds(stage, "a=b \"c\" 'd' $e `f` \\g\th\ni grün 🌍").await
}

async fn empty_value(stage: &Stage) -> Verdict {
    finds(stage, "").await
}

async fn base_stays(stage: &Stage) -> Verdict {
    let base = stage.base_names().await?;
    if base.is_empty() {
        return not_capable("its own environment is empty");
    }
    let mut spec = stage.spec(&[Deed::PrintNames]);
    spec.command.env.insert("CHECK_MORE".to_owned(), "more".to_owned());
    let with_more = names(&stage.runs_spec(spec).await?.1);
    let lost: Vec<_> = base.difference(&with_more).cloned().collect();
    demand(lost.is_empty(), "all variables of a proc to which nothing was added", format!("{lost:?} missing"))
}

async fn nothing_stays(stage: &Stage) -> Verdict {
    let first = with(stage, "CHECK_ONCE", "first").await?;
    let (_, lines) = stage.runs(&[Deed::PrintVariable("CHECK_ONCE".to_owned())]).await?;
    let seen = lines.join("\n");
    let expected = "CHECK_ONCE is not set";
    demand(seen == expected, &format!("{expected:?} after a proc that had {first:?}"), format!("{seen:?}"))
}

async fn process_name(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::PrintVariable(PROCESS_NAME_ENV.to_owned())])?;
    run.exit().await?;
    let Some(asked) = run.told().asked else { return failed("a launch", run.seen()) };
    let (expected, seen) = (format!("{PROCESS_NAME_ENV}={}", asked.process_name), run.stdout().join("\n"));
    demand(seen == expected, &format!("{expected:?}"), format!("{seen:?}"))
}

const NOWHERE: &str = "/nonexistent/of-a-conformance-check";

/// How the launch of `program` ends, which cannot be executed; once the launcher has answered.
async fn refused(stage: &Stage, program: &str) -> Verdict<ProcExitKind> {
    let mut spec = stage.spec(&[]);
    spec.command = BootstrapCommand::new(program);
    let run = stage.start_spec(spec)?;
    let exit = run.exit().await?;
    demand(run.told().answer.is_some(), "an answer to the launch", format!("none; {}", run.seen()))?;
    match exit.kind {
        ProcExitKind::Failed { .. } | ProcExitKind::Exited { code: 126 | 127 } => Ok(exit.kind.clone()),
        _ => failed(&format!("the launch of {program} to fail"), run.seen()),
    }
}

async fn missing_program(stage: &Stage) -> Verdict {
    refused(stage, NOWHERE).await.map(drop)
}

async fn directory(stage: &Stage) -> Verdict {
    refused(stage, "/").await.map(drop)
}

async fn names_program(stage: &Stage) -> Verdict {
    let mut spec = stage.spec(&[]);
    spec.command = BootstrapCommand::new(NOWHERE);
    let run = stage.start_spec(spec)?;
    match &run.exit().await?.kind {
        ProcExitKind::Failed { reason } => demand(
            reason.contains("of-a-conformance-check"),
            "the program in the reason",
            format!("{reason:?}"),
        ),
        ProcExitKind::Exited { code } => {
            not_capable(format!("where its procs run this is told as code {code}"))
        }
        _ => failed("the launch to fail", run.seen()),
    }
}
