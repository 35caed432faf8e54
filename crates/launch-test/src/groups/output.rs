//! The output: all of it, in order, on the stream that it was written to.

use procession_host::Stream;

use super::check;
use crate::check::Check;
use crate::deed::Deed;
use crate::fault::{Verdict, demand, failed};
use crate::run::{Run, answered};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(
        "output.stdout-arrives",
        "What a proc writes to stdout arrives as lines of stdout.",
        "what launch() returns as stdio, or what is fed to the log channel",
        [Output],
        stdout
    ),
    check!(
        "output.stderr-arrives",
        "What a proc writes to stderr arrives as lines of stderr.",
        "whether stderr is thrown away, or read by nobody",
        [Output, StreamsApart],
        stderr
    ),
    check!(
        "output.stdout-holds-nothing-of-stderr",
        "What is written to stderr does not arrive on stdout.",
        "whether both streams share one pipe or one terminal",
        [Output, StreamsApart],
        not_on_stdout
    ),
    check!(
        "output.stderr-holds-nothing-of-stdout",
        "What is written to stdout does not arrive on stderr.",
        "whether the streams are exchanged",
        [Output],
        not_on_stderr
    ),
    check!(
        "output.a-silent-proc-says-nothing",
        "Of a proc that writes nothing there is no line.",
        "banners, notices and warnings of what the proc is started through",
        [Output],
        silence
    ),
    check!(
        "output.lines-arrive-in-their-order",
        "A thousand lines arrive in the order in which they were written.",
        "whether pieces of output are handed on by tasks that overtake each other",
        [Output],
        order
    ),
    check!(
        "output.a-mebibyte-written-at-once-arrives-whole",
        "1 MiB of lines, written as fast as it goes, arrives without a gap.",
        "buffers that drop what they have no room for, and readers that stop at the end of the process",
        [Output],
        mebibyte
    ),
    check!(
        "output.a-line-of-100-kib-arrives-whole",
        "A line of 100 KiB arrives whole.",
        "readers with a limit on lines, such as asyncio's readline with 64 KiB",
        [Output],
        long_line
    ),
    check!(
        "output.an-open-last-line-arrives",
        "A last line without a line end arrives.",
        "whether what is left in a line buffer is handed on at the end",
        [Output],
        open_line
    ),
    check!(
        "output.empty-lines-arrive",
        "Empty lines arrive as lines.",
        "whether lines are filtered, or the text is stripped",
        [Output],
        empty_lines
    ),
    check!(
        "output.blanks-at-the-edges-stay",
        "Blanks at the beginning and the end of a line stay.",
        "whether lines are stripped of more than their end",
        [Output],
        blanks
    ),
    check!(
        "output.letters-of-any-language-arrive",
        "UTF-8 arrives as it was written.",
        "the encoding with which output is read: it is UTF-8, whatever the locale says",
        [Output],
        letters
    ),
    check!(
        "output.bytes-that-are-no-text-cost-nothing-else",
        "A line with bytes that are no UTF-8 arrives, and so do those around it.",
        "whether a strict decoder ends the reading: decode with replacement",
        [Output],
        no_text
    ),
    check!(
        "output.a-line-arrives-while-the-proc-runs",
        "A line arrives when it was written, and not only when its proc ends.",
        "whether output is collected until the end, or held back in a buffer",
        [Output],
        at_once
    ),
    check!(
        "output.neither-stream-waits-for-the-other",
        "A proc that fills both streams in turn gets on.",
        "whether one stream is read to its end before the other: read both at once",
        [Output, StreamsApart],
        both
    ),
    check!(
        "output.last-words-before-a-signal-arrive",
        "What a proc has written before a signal ends it arrives.",
        "whether output is read on after the end of the process",
        [Output],
        before_signal
    ),
    check!(
        "output.last-words-before-a-kill-arrive",
        "What a proc has written before it is killed arrives, and is in the tail of its exit.",
        "whether kill() closes the output before it is read",
        [Output],
        before_kill
    ),
    check!(
        "output.the-tail-is-as-long-as-asked",
        "The exit has the last tail_lines lines of a stream, and no more.",
        "LaunchOptions.tail_lines, where the launcher keeps the tail itself",
        [Output],
        tail
    ),
    check!(
        "output.who-wants-none-gets-the-exit",
        "A proc whose output nobody wants runs, and its exit is told.",
        "LaunchOptions.want_stdio: without it and without tail_lines the output may go anywhere, the exit may not",
        [],
        unwanted
    ),
];

const FEW: [&str; 3] = ["first", "second", "third"];

async fn says(stage: &Stage, deeds: &[Deed], stream: Stream, expected: &[&str]) -> Verdict {
    let run = stage.start(deeds)?;
    run.exit().await?;
    let lines = run.heard.lines(stream);
    demand(
        lines == expected,
        &format!("{expected:?} on {}", stream.as_str()),
        format!("{lines:?}; {}", run.seen()),
    )
}

async fn stdout(stage: &Stage) -> Verdict {
    says(stage, &FEW.map(Deed::say), Stream::Stdout, &FEW).await
}

async fn stderr(stage: &Stage) -> Verdict {
    says(stage, &FEW.map(Deed::warn), Stream::Stderr, &FEW).await
}

async fn not_on_stdout(stage: &Stage) -> Verdict {
    says(stage, &[Deed::say("out"), Deed::warn("err"), Deed::say("out")], Stream::Stdout, &["out", "out"])
        .await
}

async fn not_on_stderr(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::warn("err"), Deed::say("out"), Deed::warn("err")])?;
    run.exit().await?;
    let strange = run.stderr().into_iter().filter(|line| line != "err").collect::<Vec<_>>();
    demand(strange.is_empty(), "nothing on stderr but \"err\"", format!("{strange:?}"))
}

async fn silence(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::Exit(3)])?;
    run.exits_with(3).await?;
    demand(run.stdout().is_empty() && run.stderr().is_empty(), "no output", run.seen())
}

/// All of `count` lines of `width` arrive, and nothing else.
async fn counted(stage: &Stage, count: usize, width: usize) -> Verdict {
    let run = stage.start(&[Deed::Lines(Stream::Stdout, count, width)])?;
    run.exit().await?;
    let (lines, pad) = (run.stdout(), "x".repeat(width));
    for (number, line) in lines.iter().enumerate() {
        if *line != format!("{number} {pad}") {
            return failed(
                &format!("line {number}"),
                format!("{:?}", line.chars().take(80).collect::<String>()),
            );
        }
    }
    demand(lines.len() == count, &format!("{count} lines"), lines.len())
}

async fn order(stage: &Stage) -> Verdict {
    counted(stage, 1000, 3).await
}

async fn mebibyte(stage: &Stage) -> Verdict {
    counted(stage, 1 << 10, 1 << 10).await
}

async fn long_line(stage: &Stage) -> Verdict {
    let long = 100 << 10;
    let fill = Deed::Fill(Stream::Stdout, long);
    let run = stage.start(&[Deed::say("before"), fill, Deed::say(""), Deed::say("after")])?;
    run.exit().await?;
    let lines = run.stdout();
    let lengths: Vec<_> = lines.iter().map(String::len).collect();
    demand(lengths == [6, long, 5], "lines of 6, 102400 and 5 bytes", format!("{lengths:?}"))?;
    demand(lines[1].bytes().all(|byte| byte == b'x'), "nothing but x in the long line", "something else")
}

async fn open_line(stage: &Stage) -> Verdict {
    let open = Deed::Write(Stream::Stdout, b"open".to_vec());
    says(stage, &[Deed::say("whole"), open], Stream::Stdout, &["whole", "open"]).await
}

async fn empty_lines(stage: &Stage) -> Verdict {
    let lines = ["", "a", "", "", "b", ""];
    says(stage, &lines.map(Deed::say), Stream::Stdout, &lines).await
}

async fn blanks(stage: &Stage) -> Verdict {
    let lines = ["  two before", "two behind  ", "\ttab\t", "   "];
    says(stage, &lines.map(Deed::say), Stream::Stdout, &lines).await
}

async fn letters(stage: &Stage) -> Verdict {
    let lines = ["grün, naïve", "日本語", "🌍 e\u{301}"];
    says(stage, &lines.map(Deed::say), Stream::Stdout, &lines).await
}

async fn no_text(stage: &Stage) -> Verdict {
    let strange = Deed::Write(Stream::Stdout, b"begin \xff\xfe\x80 end\n".to_vec());
    let run = stage.start(&[Deed::say("before"), strange, Deed::say("after")])?;
    run.exit().await?;
    let lines = run.stdout();
    let [before, strange, after] = &lines[..] else { return failed("3 lines", run.seen()) };
    demand(before == "before" && after == "after", "the lines around it", run.seen())?;
    demand(strange.starts_with("begin ") && strange.ends_with(" end"), "both ends of the line", run.seen())
}

async fn at_once(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::say("runs"), Deed::Forever])?;
    run.says("runs").await?;
    demand(run.proc_.exit().is_none(), "it to run", run.seen())
}

async fn both(stage: &Stage) -> Verdict {
    let times = 8 << 10;
    let run = stage.start(&[Deed::Alternate(times), Deed::Exit(2)])?;
    run.exits_with(2).await?;
    let lengths = (run.stdout().len(), run.stderr().len());
    demand(lengths.0 == times, &format!("{times} lines on stdout"), format!("{lengths:?}"))
}

async fn before_signal(stage: &Stage) -> Verdict {
    let run = stage.start(&[Deed::say("last words"), Deed::SignalSelf(9), Deed::Exit(99)])?;
    run.exit().await?;
    super::exit::may_be_signalled(&run)?;
    demand(run.stdout() == ["last words"], "\"last words\"", run.seen())
}

async fn before_kill(stage: &Stage) -> Verdict {
    let run: Run = stage.start(&[Deed::say("last words"), Deed::Forever])?;
    run.says("last words").await?;
    answered(stage.patience, "kill", run.proc_.kill("check")).await?;
    let tail = run.exit().await?.stdout_tail.clone();
    demand(tail == ["last words"], "\"last words\" in the tail", format!("{tail:?}"))
}

async fn tail(stage: &Stage) -> Verdict {
    let mut spec = stage.spec(&[Deed::Lines(Stream::Stdout, 20, 1)]);
    spec.tail_lines = 3;
    let (exit, _) = stage.runs_spec(spec).await?;
    let expected = ["17 x", "18 x", "19 x"];
    demand(exit.stdout_tail == expected, &format!("{expected:?}"), format!("{:?}", exit.stdout_tail))
}

async fn unwanted(stage: &Stage) -> Verdict {
    let mut spec = stage.spec(&[Deed::Exit(8)]);
    (spec.want_stdio, spec.tail_lines) = (false, 0);
    let run = stage.start_spec(spec)?;
    run.exits_with(8).await
}
