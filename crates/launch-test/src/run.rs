use std::sync::Arc;
use std::time::Duration;

use procession_host::{ProcRef, Stream};
use procession_model::{ProcExit, ProcExitKind, ProcExitResult, ProcId};
use tokio::time::timeout;

use crate::fault::{Fault, Verdict, failed, no_end, not_capable};
use crate::heard::Heard;
use crate::recorder::{Recorder, Told};

/// How much later than the exit a report may come that a check can do without.
const REPORT: Duration = Duration::from_secs(2);
/// As much is quoted of what a proc has said.
const QUOTED: usize = 300;

/// One launch of a check.
pub(crate) struct Run {
    pub(crate) proc_: ProcRef,
    pub(crate) heard: Arc<Heard>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) patience: Duration,
}

impl Run {
    pub(crate) fn id(&self) -> &ProcId {
        self.proc_.id()
    }

    pub(crate) fn told(&self) -> Told {
        self.recorder.told(self.id())
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.heard.lines(Stream::Stdout)
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.heard.lines(Stream::Stderr)
    }

    /// Where it stands and what it said, for who reads why a check failed.
    pub(crate) fn seen(&self) -> String {
        let quoted = |lines: Vec<String>| {
            let text: String = lines.join("\\n").chars().take(QUOTED).collect();
            format!("{text:?}")
        };
        let how = match self.proc_.exit() {
            Some(exit) => format!("ended: {}", exit.verdict),
            None => self.proc_.status().status.to_string(),
        };
        format!("{how}, stdout {}, stderr {}", quoted(self.stdout()), quoted(self.stderr()))
    }

    /// The nth line (from 0) of stdout that begins with `beginning`.
    pub(crate) async fn says_again(&self, beginning: &str, nth: usize) -> Verdict<String> {
        let find = || self.stdout().into_iter().filter(|line| line.starts_with(beginning)).nth(nth);
        let expected =
            || format!("line {beginning:?} number {} on stdout within {:?}", nth + 1, self.patience);
        match timeout(self.patience, self.heard.wait(find)).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) | Err(_) => failed(&expected(), self.seen()),
        }
    }

    /// A line of stdout that begins so.
    pub(crate) async fn says(&self, beginning: &str) -> Verdict<String> {
        self.says_again(beginning, 0).await
    }

    /// It goes on with [`Deed::Tick`](crate::deed::Deed::Tick): what it writes from now on shows that it lives.
    pub(crate) async fn ticks_on(&self) -> Verdict {
        let so_far = self.stdout().len();
        // The first of them may have been written before.
        self.says_again("tick", so_far + 1).await?;
        match self.told().report {
            None => Ok(()),
            Some(report) => failed("no report of its end, since it lives", format!("{report:?}")),
        }
    }

    /// The number in the line `<label> <number>`.
    pub(crate) async fn number(&self, label: &str) -> Verdict<u32> {
        let wanted = format!("{label} ");
        let find = || self.stdout().into_iter().find(|line| line.starts_with(&wanted) || line == "no setsid");
        let line = match timeout(self.patience, self.heard.wait(find)).await {
            Ok(Some(line)) => line,
            Ok(None) | Err(_) => {
                return failed(
                    &format!("the line \"{label} <number>\" within {:?}", self.patience),
                    self.seen(),
                );
            }
        };
        match line.strip_prefix(&wanted).map(str::parse) {
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => failed(&format!("a number after {label:?}"), format!("{line:?}")),
            None => not_capable("where its procs run there is no program setsid"),
        }
    }

    /// Its end, in the host's words.
    pub(crate) async fn exit(&self) -> Verdict<Arc<ProcExit>> {
        let ended = async {
            let exit = self.proc_.ended().await;
            // Observers are told a moment later: by then all that it has said is heard.
            self.heard.wait(|| (self.heard.exits() > 0).then_some(())).await;
            exit
        };
        match timeout(self.patience, ended).await {
            Ok(exit) => Ok(exit),
            Err(_) => no_end(&format!("its end within {:?}", self.patience), self.seen()),
        }
    }

    /// The launcher's own report, however late; none when it let go of the channel.
    pub(crate) async fn report(&self) -> Verdict<Option<ProcExitResult>> {
        match timeout(self.patience, self.recorder.wait(self.id(), |told| told.report.clone())).await {
            Ok(report) => Ok(report),
            Err(_) => no_end(
                &format!("the launcher's report of the end (exit_rx) within {:?}", self.patience),
                format!("none; {}", self.seen()),
            ),
        }
    }

    /// How it ended in the launcher's own words, or in the host's where the launcher has none.
    pub(crate) async fn kind(&self) -> Verdict<ProcExitKind> {
        let exit = self.exit().await?;
        let report = self.recorder.wait(self.id(), |told| told.report.clone());
        let own = timeout(REPORT, report).await.ok().flatten();
        Ok(own.map_or_else(|| exit.kind.clone(), |own| own.kind))
    }

    /// It exits with this code, in the launcher's own words.
    pub(crate) async fn ends_with(&self, code: i32) -> Verdict {
        let kind = self.kind().await?;
        self.is_code(&kind, code)
    }

    /// It exits with this code, in the host's words.
    pub(crate) async fn exits_with(&self, code: i32) -> Verdict {
        let exit = self.exit().await?;
        self.is_code(&exit.kind, code)
    }

    fn is_code(&self, kind: &ProcExitKind, code: i32) -> Verdict {
        if *kind == (ProcExitKind::Exited { code }) {
            return Ok(());
        }
        Err(Fault::OtherCode(format!("expected exit code {code}; saw {kind}; {}", self.seen())))
    }

    /// This signal ends it, in the launcher's own words.
    pub(crate) async fn ends_by(&self, signal: i32) -> Verdict {
        let kind = self.kind().await?;
        self.is_signal(&kind, signal)
    }

    /// This signal ends it, in the host's words.
    pub(crate) async fn exits_by(&self, signal: i32) -> Verdict {
        let exit = self.exit().await?;
        self.is_signal(&exit.kind, signal)
    }

    fn is_signal(&self, kind: &ProcExitKind, number: i32) -> Verdict {
        let (expected, seen) = (format!("an end by signal {number}"), format!("{kind}; {}", self.seen()));
        match kind {
            ProcExitKind::Signaled { signal, .. } if *signal == number => Ok(()),
            ProcExitKind::Failed { .. } | ProcExitKind::Lost { .. } => no_end(&expected, seen),
            _ => failed(&expected, seen),
        }
    }
}

/// The answer of a launcher that was asked, within the patience of a check.
pub(crate) async fn answered<T>(
    patience: Duration,
    what: &str,
    answer: impl Future<Output = Result<T, impl std::fmt::Display>>,
) -> Verdict<T> {
    match timeout(patience, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => failed(
            &format!("{what} to be answered with Ok"),
            format!("the error {error:?}", error = error.to_string()),
        ),
        Err(_) => failed(&format!("{what} to be answered within {patience:?}"), "no answer"),
    }
}
