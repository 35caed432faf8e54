//! What witnesses have said about one launch, until it is made into a certificate.

use std::time::SystemTime;

use procession_model::{
    ActorFailed, BootTiming, Certificate, FlightRecord, ProcExitKind, ProcExitResult, ProcId, Rung, Source,
    Witness, cut,
};

use crate::{Effect, Ended, Event};

/// How much is kept of each kind; a launch can go on for months.
const WITNESSES: usize = 64;
const ACTORS: usize = 16;
/// The longest thing that a witness says, in bytes.
const SAYS: usize = 2048;

/// Collects what is said, in the order in which it is heard.
#[derive(Clone, Debug, Default)]
pub struct CaseFile {
    evidence: Vec<Witness>,
    rungs: Vec<(Rung, SystemTime)>,
    actors_failed: Vec<ActorFailed>,
    /// Whether the kernel has said how it ended.
    status: bool,
    gone: bool,
    reported: bool,
    refused: bool,
    linked: bool,
}

/// What a certificate holds that the state machine does not know of.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// How long each phase of the boot took.
    pub boot: BootTiming,
    /// What the proc had noted about itself, or why there is nothing to read.
    pub flight: Option<Result<FlightRecord, String>>,
    /// The first lines of stdout.
    pub stdout_head: Vec<String>,
    /// The first lines of stderr.
    pub stderr_head: Vec<String>,
    /// The proc that its launcher has to itself.
    pub launched_in: Option<ProcId>,
    /// Whether it was expected to call back.
    pub calls_back: bool,
    /// Whether its launcher is its parent.
    pub parent: bool,
}

impl CaseFile {
    /// An event that the state machine is about to get; `parent`: the launcher is the process's parent.
    pub fn heard(&mut self, event: &Event, at: SystemTime, parent: bool) {
        match event {
            Event::OsExit(ProcExitResult { kind, ended_at, .. }) => {
                self.status |= !matches!(kind, ProcExitKind::Lost { .. });
                self.gone = true;
                let source = if parent { Source::Parent } else { Source::Pidfd };
                self.say(source, ended_at.unwrap_or(at), kind.to_string());
            }
            Event::OsGone => {
                self.gone = true;
                self.say(Source::Pidfd, at, "the process has ended".to_owned());
            }
            Event::LauncherReported(result) => {
                self.reported = true;
                let facts = result.reported.as_ref();
                let facts = facts.map(|facts| {
                    format!(
                        " (its facts: exit code {}, signal {}, failure {})",
                        told(facts.exit_code.as_ref()),
                        told(facts.signal.as_ref()),
                        told(facts.failed_reason.as_ref())
                    )
                });
                let says = format!("reported {}{}", result.kind, facts.unwrap_or_default());
                self.say(Source::Launcher, result.ended_at.unwrap_or(at), says);
            }
            Event::LaunchRefused { reason } => {
                self.refused = true;
                self.say(Source::Launcher, at, format!("refused the launch: {reason}"));
            }
            Event::Unreachable { why } => {
                self.say(Source::Launcher, at, format!("cannot be asked: {why}"));
            }
            Event::HeardAgain => self.say(Source::Launcher, at, "can be asked again".to_owned()),
            _ => {}
        }
    }

    /// Something that the state machine wants done.
    pub fn done(&mut self, effect: &Effect, at: SystemTime) {
        let rung = match effect {
            Effect::AskAgentStop { .. } => Rung::Agent,
            Effect::AskTerminate { .. } => Rung::Terminate,
            Effect::AskKill => Rung::Kill,
            _ => return,
        };
        if self.rungs.iter().all(|(reached, _)| *reached != rung) {
            self.rungs.push((rung, at));
        }
    }

    /// Something that the host noticed.
    pub fn noted(&mut self, text: &str, at: SystemTime) {
        self.say(Source::Host, at, text.to_owned());
    }

    /// The connection stands.
    pub fn linked(&mut self, at: SystemTime) {
        self.linked = true;
        self.say(Source::Connection, at, "the proc dialled back and proved its token".to_owned());
    }

    /// The connection has ended, before or after the process.
    pub fn link_lost(&mut self, why: &str, at: SystemTime) {
        self.say(Source::Connection, at, format!("ended: {why}"));
    }

    /// An actor ended by a failure.
    pub fn actor_failed(&mut self, actor: &str, failure: &str, at: SystemTime) {
        if self.actors_failed.len() == ACTORS {
            self.actors_failed.remove(0);
        }
        let failure = cut(failure.to_owned(), SAYS);
        self.actors_failed.push(ActorFailed { actor: actor.to_owned(), at, failure });
    }

    fn say(&mut self, source: Source, at: SystemTime, says: String) {
        // The first and the last of a launch say most about it.
        if self.evidence.len() == WITNESSES {
            self.evidence.remove(WITNESSES / 2);
        }
        self.evidence.push(Witness { source, at, says: cut(says, SAYS) });
    }

    /// All that is known when the exit is published, at `at`.
    pub fn close(&mut self, ended: &Ended, beside: Beside, at: SystemTime) -> Certificate {
        match ended.oom {
            Some(true) => self.say(Source::ControlGroup, at, "it ran out of memory".to_owned()),
            Some(false) => self.say(Source::ControlGroup, at, "it had memory left".to_owned()),
            None => {}
        }
        let missing = self.missing(ended, &beside);
        Certificate {
            verdict: ended.judged,
            evidence: std::mem::take(&mut self.evidence),
            missing,
            contradictions: ended.contradictions.clone(),
            stops: ended.stops.clone(),
            more_stops: ended.more_stops,
            rungs: std::mem::take(&mut self.rungs),
            boot: beside.boot,
            flight: beside.flight.and_then(Result::ok),
            actors_failed: std::mem::take(&mut self.actors_failed),
            stdout_head: beside.stdout_head,
            stderr_head: beside.stderr_head,
            launched_in: beside.launched_in,
        }
    }

    fn missing(&self, ended: &Ended, beside: &Beside) -> Vec<String> {
        let mut missing = Vec::new();
        // What was never started has left no witnesses.
        if self.refused {
            return missing;
        }
        if !self.status {
            missing.push(match (self.gone, self.reported) {
                (_, false) => "nobody saw how the process ended".to_owned(),
                (true, true) => {
                    "nobody but the launcher saw how the process ended; the kernel says only that it did"
                        .to_owned()
                }
                (false, true) => "nobody but the launcher saw the process end".to_owned(),
            });
        }
        if !beside.parent && !self.reported {
            missing.push("nobody heard a report from the launcher".to_owned());
        }
        if ended.oom.is_none() {
            missing.push("nobody could see whether it ran out of memory".to_owned());
        }
        if beside.calls_back && !self.linked {
            missing.push("nobody saw it dial back".to_owned());
        }
        if let Some(Err(why)) = &beside.flight {
            missing.push(format!("nobody saw what it was busy with: {why}"));
        }
        missing
    }
}

fn told(fact: Option<&impl ToString>) -> String {
    fact.map_or_else(|| "not given".to_owned(), ToString::to_string)
}
