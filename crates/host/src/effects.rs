use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_model::{Head, Packet, ProcExit, ProcExitKind};
use procession_supervise::{Effect, Ended, Event, Note};
use tokio::time::Instant;

use crate::driver::{Driver, Input};
use crate::output::Stream;
use crate::proc_ref::ProcEvent;
use crate::witness;

/// How many lines of stderr an error quotes.
const QUOTED: usize = 20;

impl Driver {
    pub(crate) async fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Status(status) => self.set_status(status),
                Effect::Arm(timer, after) => drop(self.timers.insert(timer, at(after))),
                Effect::ArmSooner(timer, after) => {
                    let sooner = at(after);
                    self.timers.entry(timer).and_modify(|at| *at = sooner.min(*at)).or_insert(sooner);
                }
                Effect::Disarm(timer) => drop(self.timers.remove(&timer)),
                Effect::AskAgentStop { reason } => self.ask_agent(reason),
                Effect::AskTerminate { timeout } => self.ask_launcher(Some(timeout)),
                Effect::AskKill => self.ask_launcher(None),
                Effect::Sweep => {
                    if let Some(pid) = self.watched {
                        let launch = self.shared.id.launch_id();
                        tokio::task::spawn_blocking(move || witness::sweep(pid, launch));
                    }
                }
                Effect::FailReady { phase, why } => self.fail_ready(phase, &why),
                Effect::Publish(ended) => self.publish(ended).await,
                Effect::Note(note) => self.note(&note),
            }
        }
    }

    fn set_status(&mut self, status: procession_model::ProcStatus) {
        use procession_model::ProcStatus as S;
        // A terminal status shows together with the exit, never before it.
        if status.is_terminal() {
            return;
        }
        let now = SystemTime::now();
        {
            let mut snapshot = self.shared.snapshot();
            snapshot.status = status;
            match status {
                S::Running => drop(snapshot.running_at.get_or_insert(now)),
                S::Ready => drop(snapshot.ready_at.get_or_insert(now)),
                _ => {}
            }
        }
        self.shared.observers.tell(&ProcEvent::Status(status));
        if status == S::Ready {
            self.shared.observers.tell(&ProcEvent::Ready);
        }
        if status == S::Ready || (status == S::Running && self.never_calls_back) {
            self.shared.settle_ready(Ok(()));
        }
    }

    fn ask_agent(&mut self, reason: String) {
        let asked =
            self.link.as_ref().is_some_and(|link| link.post(Packet::bare(Head::Stop { reason })).is_ok());
        if !asked {
            let _self_lives = self.shared.driver.send(Input::Event(Event::AgentStopFailed));
        }
    }

    /// Terminates with a timeout, kills without; in a task, because a launcher may never answer.
    fn ask_launcher(&mut self, terminate: Option<Duration>) {
        let (launcher, shared) = (Arc::clone(&self.launcher), Arc::clone(&self.shared));
        tokio::spawn(async move {
            let event = match terminate {
                Some(timeout) => Event::TerminateAnswered(
                    launcher.terminate(&shared.id, timeout).await.map_err(|error| error.to_string()),
                ),
                None => Event::KillAnswered(launcher.kill(&shared.id).await.map_err(|error| error.to_string())),
            };
            let _driver_gone = shared.driver.send(Input::Event(event));
        });
    }

    fn fail_ready(&mut self, phase: &str, why: &str) {
        let text = format!("proc {} is not ready: {why} (while {phase}){}", self.shared.id, self.quoted_stderr());
        self.shared.settle_ready(Err(text));
    }

    fn quoted_stderr(&self) -> String {
        let lines = self.shared.output.lines(Stream::Stderr);
        let from = lines.len().saturating_sub(QUOTED);
        if lines.is_empty() {
            return "; it wrote nothing to stderr".to_owned();
        }
        format!("; its stderr so far:\n  {}", lines[from..].join("\n  "))
    }

    async fn publish(&mut self, ended: Ended) {
        let ended_at = SystemTime::now();
        self.pump.drain().await;
        self.shared.output.finish();
        let seen = |given: Option<Vec<String>>, stream| {
            given.filter(|lines| !lines.is_empty()).unwrap_or_else(|| self.shared.output.lines(stream))
        };
        let exit = {
            let mut snapshot = self.shared.snapshot();
            snapshot.status = status_of(&ended.kind);
            snapshot.ended_at = Some(ended_at);
            Arc::new(ProcExit {
                proc_id: self.shared.id.clone(),
                rank: self.shared.rank,
                incarnation: self.shared.incarnation,
                launcher: snapshot.launcher.clone(),
                stderr_tail: seen(ended.stderr_tail, Stream::Stderr),
                stdout_tail: seen(ended.stdout_tail, Stream::Stdout),
                kind: ended.kind,
                reported: ended.reported,
                oom: None,
                pid: snapshot.pid,
                requested: ended.requested,
                started_at: snapshot.started_at,
                ready_at: snapshot.ready_at,
                ended_at,
                verdict: ended.verdict,
            })
        };
        self.published = true;
        self.link = None;
        self.core.forget(&self.shared.id);
        self.core.hub.gone(&self.shared.id, &obituary(&exit));
        self.fail_ready("starting", &format!("it ended: {}", exit.verdict));
        self.shared.observers.tell(&ProcEvent::Status(status_of(&exit.kind)));
        self.shared.exit.send_replace(Some(Arc::clone(&exit)));
        self.shared.observers.tell(&ProcEvent::Exit(exit));
        self.shared.observers.clear();
        for (_, ack) in self.acks.drain(..) {
            let _nobody_waits = ack.send(Ok(()));
        }
    }

    fn note(&self, note: &Note) {
        let text = match note {
            Note::LateReport { what } => format!("late: {what}"),
            Note::Contradiction { what } => format!("contradiction: {what}"),
            Note::AmbiguousExit { .. } => "ambiguous exit: not exactly one of code, signal and failure".to_owned(),
            Note::EarlyExit { pid, what } => format!("early exit: process {pid} still lived when {what}; it was killed"),
            Note::TerminateFailed { why } => format!("terminate failed: {why}"),
            Note::KillUnavailable { why } => format!("kill unavailable: {why}"),
        };
        tracing::warn!(proc_id = %self.shared.id, launcher = self.launcher.name(), note = text);
        self.shared.observers.tell(&ProcEvent::Note(text));
    }
}

fn at(after: Duration) -> Instant {
    let now = Instant::now();
    // Far enough to never come, near enough to be a time.
    now.checked_add(after).unwrap_or_else(|| now + Duration::from_secs(u64::from(u32::MAX)))
}

fn status_of(kind: &ProcExitKind) -> procession_model::ProcStatus {
    use procession_model::ProcStatus as S;
    match kind {
        ProcExitKind::Exited { .. } => S::Exited,
        ProcExitKind::Signaled { .. } => S::Signaled,
        ProcExitKind::Failed { .. } => S::Failed,
        ProcExitKind::Lost { .. } => S::Lost,
    }
}

/// What those hear who waited for an answer from the proc.
fn obituary(exit: &ProcExit) -> String {
    let mut text = format!("proc {} ended: {}", exit.proc_id, exit.verdict);
    if let Some(line) = exit.stderr_tail.last() {
        text.push_str("; its last line on stderr: ");
        text.push_str(line);
    }
    text
}
