use std::sync::Arc;
use std::time::Duration;

use procession_launch::ProcLauncherError;
use procession_model::{Certificate, Head, Packet, ProcExit, ProcExitKind, ProcStatus, Verdict, cut_reason};
use procession_supervise::{Beside, Effect, Ended, Event, HOST, Note, StopHow};
use tokio::time::Instant;

use crate::alarms::Alarm;
use crate::driver::Driver;
use crate::holdings::owner_ended;
use crate::input::Input;
use crate::observers::ProcEvent;
use crate::output::Stream;
use crate::proc_ref::ProcRef;
use crate::recording::Owed;
use crate::witness;

/// How many lines of stderr an error quotes.
const QUOTED: usize = 20;
/// How much of the last line of stderr is told to those who waited for an answer, in characters.
const LAST_LINE: usize = 200;
/// How long the driver stays after the exit, for a launcher that answers late.
const LATE: Duration = Duration::from_secs(60);

impl Driver {
    pub(crate) async fn apply(&mut self, effects: Vec<Effect>) {
        if effects.iter().any(|effect| matches!(effect, Effect::Publish(_))) {
            self.ended_at.get_or_insert_with(|| self.core.clock.time_of_day());
            // Its last words are among the reasons that are given below.
            self.drain.finish().await;
            if let Some(files) = &self.shared.files {
                self.log_dropped_bytes = files.finish().await;
            }
            self.shared.output.finish();
        }
        for effect in effects {
            self.case.done(&effect, self.time());
            match effect {
                Effect::Status(status) => self.set_status(status).await,
                Effect::Arm(timer, after) => self.alarms.set(Alarm::State(timer), after),
                Effect::ArmSooner(timer, after) => self.alarms.set_sooner(Alarm::State(timer), after),
                Effect::Disarm(timer) => self.alarms.clear(Alarm::State(timer)),
                Effect::AskAgentStop { reason } => self.ask_agent(reason),
                Effect::AskTerminate { timeout } => self.ask_to_terminate(timeout),
                Effect::AskKill => self.ask_to_kill(),
                Effect::EndLauncher => self.end_launcher(),
                Effect::Sweep => {
                    if let Some(leader) = self.watched.clone() {
                        let launch = self.shared.id.launch_id();
                        tokio::task::spawn_blocking(move || witness::sweep(&leader, launch));
                    }
                }
                Effect::FailReady { phase, why } => {
                    // Nobody waits for its call back any more, and its token must not serve anybody else.
                    self.core.door.forget(self.shared.id.launch_id());
                    self.fail_ready(phase, &why);
                }
                Effect::Publish(ended) => self.publish(*ended),
                Effect::Note(note) => self.note(&note),
            }
        }
    }

    async fn set_status(&mut self, status: ProcStatus) {
        // A terminal status shows together with the exit, never before it.
        if status.is_terminal() {
            return;
        }
        let now = self.time();
        let first_ready = status == ProcStatus::Ready && !std::mem::replace(&mut self.told_ready, true);
        let noted = self.shared.snapshot().ready_at.is_some();
        if first_ready && !noted {
            // First: what a host has told before it is killed, the next one knows too.
            self.write_ready(now).await;
        }
        {
            let mut snapshot = self.shared.snapshot();
            snapshot.status = status;
            match status {
                ProcStatus::Running => drop(snapshot.running_at.get_or_insert(now)),
                ProcStatus::Ready => drop(snapshot.ready_at.get_or_insert(now)),
                _ => {}
            }
        }
        self.shared.observers.tell(ProcEvent::Status(status));
        if first_ready {
            self.shared.observers.tell(ProcEvent::Ready);
        }
        if status == ProcStatus::Ready || (status == ProcStatus::Running && self.never_calls_back) {
            self.shared.settle_ready(Ok(()));
            if let Some(slot) = &self.slot {
                slot.became_ready(&self.shared.id);
            }
        }
    }

    fn ask_agent(&mut self, reason: String) {
        let stop = Packet::bare(Head::Stop { reason: cut_reason(reason) });
        if self.link.as_ref().is_none_or(|link| link.post(stop).is_err()) {
            let _self_lives = self.shared.driver.send(Input::Event(Event::AgentStopFailed));
        }
    }

    fn ask_to_terminate(&mut self, timeout: Duration) {
        let (launcher, shared) = (Arc::clone(&self.launcher), Arc::clone(&self.shared));
        let ask = async move {
            if !shared.request.settled().await {
                return Ok(());
            }
            procession_sys::failpoint!("host-asking-to-terminate");
            launcher.terminate(&shared.id, timeout).await.map_err(cause)
        };
        let answer = |answer| Input::Event(Event::TerminateAnswered(answer));
        self.spawn(async move { answer(ask.await) }, |why| Input::Event(Event::TerminateAnswered(Err(why))));
    }

    fn ask_to_kill(&mut self) {
        let (launcher, shared) = (Arc::clone(&self.launcher), Arc::clone(&self.shared));
        let bound = self.state.policy().kill_ack;
        let ask = async move {
            if !shared.request.settled().await {
                return Event::KillAnswered(Ok(()));
            }
            procession_sys::failpoint!("host-asking-to-kill");
            let asked = Instant::now();
            match launcher.kill(&shared.id).await {
                // The launcher has a bound of its own, and said only that this is over.
                Err(_) if asked.elapsed() >= bound => Event::KillUnanswered,
                answer => Event::KillAnswered(answer.map_err(cause)),
            }
        };
        self.spawn(async move { Input::Event(ask.await) }, |why| Input::Event(Event::KillAnswered(Err(why))));
    }

    /// A launcher that hangs cannot end what it has launched, and its own end does. It is spared for
    /// as long as it has procs that nobody wants to end.
    fn end_launcher(&self) {
        let Some(own) = self.launcher.own_proc() else { return };
        let (core, shared) = (Arc::clone(&self.core), Arc::clone(&self.shared));
        tokio::spawn(async move {
            let is_wanted = |proc_: &ProcRef| {
                proc_.0.launched_in.get() == Some(&own) && proc_.0.snapshot().status != ProcStatus::Stopping
            };
            let idle = async {
                while let Some(wanted) = core.live().into_iter().find(is_wanted) {
                    wanted.ended().await;
                }
            };
            let mut exit = shared.exit.subscribe();
            tokio::select! {
                () = idle => {}
                _ = exit.wait_for(Option::is_some) => return,
            }
            if let Some(launcher) = core.find(&own) {
                let why = format!("it did not answer when asked to kill {}", shared.id);
                launcher.ask(StopHow::Kill, Duration::ZERO, HOST, &why, None);
            }
        });
    }

    fn fail_ready(&self, phase: &str, why: &str) {
        let id = &self.shared.id;
        let text = format!("proc {id} is not ready: {why} (while {phase}){}", self.quoted_stderr());
        self.shared.settle_ready(Err(text));
    }

    fn quoted_stderr(&self) -> String {
        let lines = self.shared.output.lines(Stream::Stderr);
        let from = lines.len().saturating_sub(QUOTED);
        if lines.is_empty() {
            let started = self.shared.snapshot().running_at.is_some();
            return if started { "; it wrote nothing to stderr".to_owned() } else { String::new() };
        }
        format!("; its stderr so far:\n  {}", lines[from..].join("\n  "))
    }

    /// The exit, to all who wait for it. Neither waits nor can it fail.
    fn publish(&mut self, ended: Ended) {
        self.check_promises();
        let snapshot = self.shared.snapshot().clone();
        let certificate = self.certificate(&ended);
        let seen = |given: Option<Vec<String>>, stream| {
            given.filter(|lines| !lines.is_empty()).unwrap_or_else(|| self.shared.output.lines(stream))
        };
        let mut exit = ProcExit {
            proc_id: self.shared.id.clone(),
            rank: self.shared.rank,
            incarnation: self.shared.incarnation,
            launcher: snapshot.launcher,
            stderr_tail: seen(ended.stderr_tail, Stream::Stderr),
            stdout_tail: seen(ended.stdout_tail, Stream::Stdout),
            kind: ended.kind,
            reported: ended.reported,
            oom: ended.oom,
            stdout_path: snapshot.stdout_path,
            stderr_path: snapshot.stderr_path,
            log_dropped_bytes: self.log_dropped_bytes,
            pid: snapshot.pid,
            requested: ended.requested,
            started_at: snapshot.started_at,
            ready_at: snapshot.ready_at,
            ended_at: self.ended_at.unwrap_or_else(|| self.time()),
            verdict: ended.verdict,
            certificate,
        };
        let next = self.slot.as_ref().map(|slot| slot.ended_so(&mut exit));
        let exit = Arc::new(exit);
        self.note_end(&exit);
        self.published = true;
        self.link = None;
        self.alarms.clear(Alarm::LinkLost);
        self.alarms.clear(Alarm::LinkStillLost);
        self.alarms.set(Alarm::Late, LATE);
        let owed = Owed::new(&self.core, &self.recording, &exit, snapshot.handle);
        // From here on: whoever knows of the exit finds its traces gone.
        self.core.forget(&self.shared.id);
        self.core.hub.gone(&self.shared.id, &obituary(&exit));
        owner_ended(&self.core, &self.shared.id);
        self.shared.exit.send_replace(Some(Arc::clone(&exit)));
        self.fail_ready("ending", &exit.verdict);
        self.shared
            .observers
            .put([ProcEvent::Status(exit.kind.status()), ProcEvent::Exit(Arc::clone(&exit))]);
        if let (Some(slot), Some(next)) = (&self.slot, next) {
            slot.published(Arc::clone(&exit), next);
        }
        self.shared.observers.tell_all();
        owed.pay_soon();
    }

    /// What all witnesses say, with what the proc itself has left.
    fn certificate(&mut self, ended: &Ended) -> Certificate {
        let shared = &self.shared;
        let beside = Beside {
            boot: shared.boot.timing(),
            flight: Some(shared.read_flight()),
            stdout_head: shared.output.head(Stream::Stdout),
            stderr_head: shared.output.head(Stream::Stderr),
            launched_in: shared.launched_in.get().cloned(),
            // That it had dialled back was an earlier host's to see.
            calls_back: shared.calls_back
                && !(shared.is_adopted && self.shared.snapshot().ready_at.is_some()),
            parent: shared.native,
        };
        shared.close_flight();
        self.case.close(ended, beside, self.ended_at.unwrap_or_else(|| self.time()))
    }

    fn note(&mut self, note: &Note) {
        let text = match note {
            Note::LateReport { what } => return self.shared.late_report(what),
            Note::Contradiction { what } => format!("contradiction: {what}"),
            Note::AmbiguousExit { reported } => format!(
                "ambiguous exit: not exactly one of code, signal and failure (exit_code {}, signal {}, core_dumped {}, failed_reason {})",
                or_none(reported.exit_code),
                or_none(reported.signal),
                reported.core_dumped,
                or_none(reported.failed_reason.as_deref().map(|reason| format!("{reason:?}"))),
            ),
            Note::NoExitReport { what } => {
                format!(
                    "NoExitReport: launcher {:?} did not report how it ended: {what}",
                    self.launcher.name()
                )
            }
            Note::EarlyExit { pid, what } => {
                format!("early exit: process {pid} still lived when {what} was reported; it was killed")
            }
            Note::TerminateFailed { why } => format!("terminate failed: {why}"),
            Note::KillUnavailable { why } => format!("KillUnavailable: {why}"),
        };
        // Of a contradiction the certificate speaks by itself.
        if !matches!(note, Note::Contradiction { .. }) {
            self.case.noted(&text, self.time());
        }
        let (proc_id, launcher) = (&self.shared.id, self.launcher.name());
        match note {
            Note::Contradiction { .. } | Note::EarlyExit { .. } | Note::NoExitReport { .. } => {
                tracing::warn!(%proc_id, launcher, note = text);
            }
            Note::KillUnavailable { .. } if !self.published => {
                tracing::warn!(%proc_id, launcher, note = text);
            }
            _ => tracing::info!(%proc_id, launcher, note = text),
        }
        self.shared.observers.tell(ProcEvent::Note(text));
    }

    /// Tells of what the launcher says that it does, and did not do for this launch.
    fn check_promises(&self) {
        let started = self.shared.snapshot().running_at.is_some() && !self.shared.is_adopted;
        if started && self.launcher.capabilities().pid && !self.told_pid {
            let text = "its launcher has the capability pid, and reported none; report it, or leave the capability out";
            tracing::warn!(proc_id = %self.shared.id, launcher = self.launcher.name(), note = text);
            self.shared.observers.tell(ProcEvent::Note(text.to_owned()));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // One that outlives this host is not at its end: the next one takes it over.
        if self.published || self.shared.outlives {
            return;
        }
        let reason = "the host's runtime ended, or failed, before the proc did; it was killed".to_owned();
        let kind = ProcExitKind::Lost { reason };
        let verdict = format!("host lost: {kind}");
        let (launcher, id) = (Arc::clone(&self.launcher), self.shared.id.clone());
        // Where the runtime has ended this does nothing, and the end of the connections does it.
        self.core.runtime.spawn(async move {
            let _nobody_hears = launcher.kill(&id).await;
        });
        self.publish(Ended {
            kind,
            reported: None,
            stderr_tail: None,
            stdout_tail: None,
            oom: None,
            requested: None,
            stops: Vec::new(),
            more_stops: 0,
            verdict,
            judged: Verdict::HostLost,
            contradictions: Vec::new(),
        });
    }
}

/// Why a launcher did not do what it was asked; that it did not is said by who tells of it.
fn cause(error: ProcLauncherError) -> String {
    match error {
        ProcLauncherError::Terminate(why) | ProcLauncherError::Kill(why) => why,
        error => error.to_string(),
    }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "None".to_owned(), |value| value.to_string())
}

/// What those hear who waited for an answer from the proc.
pub(crate) fn obituary(exit: &ProcExit) -> String {
    let mut text = format!("proc {} ended: {}", exit.proc_id, exit.verdict);
    if let Some(line) = exit.stderr_tail.last() {
        text.push_str("; its last line on stderr: ");
        text.extend(line.chars().take(LAST_LINE));
    }
    text
}
