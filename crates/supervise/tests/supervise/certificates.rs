use std::time::{Duration, SystemTime};

use procession_model::{
    BootPhase, Certificate, ExitClass, FlightRecord, ProcExitKind, ProcExitResult, ReportedExit, Rung,
    Source, Verdict,
};
use procession_supervise::{Beside, BootFailure, CaseFile, Effect, Event, Policy, StopHow, judge};

use crate::world::*;

/// A launch, and what its driver writes down of it.
struct Case {
    world: World,
    file: CaseFile,
    parent: bool,
    oom: Option<bool>,
}

impl Case {
    fn up(policy: Policy) -> Self {
        let parent = !policy.launcher_reports;
        Self { world: World::up(policy), file: CaseFile::default(), parent, oom: None }
    }

    fn at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.world.now
    }

    fn feed(&mut self, event: Event) {
        self.file.heard(&event, self.at(), self.parent);
        for effect in self.world.feed(event) {
            self.file.done(&effect, self.at());
            if let Effect::Note(note) = &effect {
                self.file.noted(&format!("{note:?}"), self.at());
            }
        }
    }

    fn certificate(mut self, beside: Beside) -> Certificate {
        self.world.run_out();
        let mut ended = self.world.ended().clone();
        ended.oom = self.oom.or(ended.oom);
        let at = self.at();
        self.file.close(&ended, Beside { parent: self.parent, ..beside }, at)
    }
}

fn says(certificate: &Certificate) -> Vec<(Source, &str)> {
    certificate.evidence.iter().map(|witness| (witness.source, witness.says.as_str())).collect()
}

#[test]
fn every_end_has_its_verdict_and_its_class() {
    let boot = BootFailure { phase: BootPhase::Imports, why: "not ready within 30s".to_owned() };
    let asked = request("terminate");
    let failed = ProcExitKind::Failed { reason: "boom".to_owned() };
    let lost = ProcExitKind::Lost { reason: "not heard of".to_owned() };
    let cored = ProcExitKind::Signaled { signal: 3, core_dumped: true };
    for (kind, boot, requested, oom, verdict, class) in [
        (exited(0), None, None, None, Verdict::Clean, ExitClass::Clean),
        (exited(0), None, None, Some(true), Verdict::OutOfMemory, ExitClass::Oom),
        (signaled(9), None, Some(&asked), Some(true), Verdict::OutOfMemory, ExitClass::Oom),
        (signaled(9), None, None, Some(false), Verdict::Killed { signal: 9 }, ExitClass::App),
        (exited(3), None, None, None, Verdict::AppError { code: 3 }, ExitClass::App),
        (exited(-1), None, None, None, Verdict::Unknown, ExitClass::Lost),
        (signaled(11), None, None, None, Verdict::Crash { signal: 11 }, ExitClass::App),
        (cored, None, None, None, Verdict::Crash { signal: 3 }, ExitClass::App),
        (failed.clone(), Some(&boot), None, None, Verdict::LauncherFailed, ExitClass::Launcher),
        (failed, None, Some(&asked), None, Verdict::Stopped, ExitClass::Stopped),
        (signaled(15), None, Some(&asked), None, Verdict::Stopped, ExitClass::Stopped),
        (lost, None, Some(&asked), None, Verdict::Unknown, ExitClass::Lost),
        (
            signaled(9),
            Some(&boot),
            Some(&asked),
            None,
            Verdict::BootFailed { phase: BootPhase::Imports },
            ExitClass::Boot,
        ),
    ] {
        let judged = judge(&kind, boot, requested, oom, None);
        assert_eq!((judged, judged.class()), (verdict, class), "{kind}");
    }
}

#[test]
fn every_request_to_stop_is_kept_with_the_rungs_that_were_reached() {
    let mut case = Case::up(native());
    case.feed(stop(StopHow::Terminate, 10));
    case.world.now = Duration::from_secs(1);
    for _ in 0..40 {
        case.feed(stop(StopHow::Kill, 0));
    }
    case.feed(os(signaled(9)));
    let certificate = case.certificate(Beside::default());
    let froms: Vec<Rung> = certificate.stops.iter().take(3).map(|stop| stop.from).collect();
    assert_eq!(froms, [Rung::Terminate, Rung::Kill, Rung::Kill]);
    assert_eq!((certificate.stops.len(), certificate.more_stops), (32, 9));
    assert_eq!(certificate.stops[0].request, request("terminate"));
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(certificate.rungs, [(Rung::Terminate, SystemTime::UNIX_EPOCH), (Rung::Kill, second)]);
    assert_eq!((certificate.rung(), certificate.verdict), (Some(Rung::Kill), Verdict::Stopped));
}

#[test]
fn a_ready_deadline_is_a_request_of_ours_and_names_how_far_the_boot_had_come() {
    let mut world = World::new(native());
    world.feed(acknowledged());
    world.feed(Event::Booting { phase: BootPhase::Imports, last_word: Some("loads weights".to_owned()) });
    world.pass(secs(30));
    let why = "not ready within 30s, last word: loads weights";
    assert_eq!(world.ready_failures(), [("importing", format!("ReadyTimeout: {why}").as_str())]);
    world.feed(os(signaled(9)));
    let ended = world.ended();
    assert_eq!(ended.judged, Verdict::BootFailed { phase: BootPhase::Imports });
    assert_eq!(ended.verdict, format!("boot failed (importing: {why}): signal 9 (SIGKILL)"));
    assert_eq!((ended.stops.len(), ended.stops[0].request.by.as_str()), (1, "ready deadline"));
}

#[test]
fn how_far_a_boot_has_come_changes_nothing_else_and_is_never_taken_back() {
    let mut world = World::new(native());
    let before = world.state.clone();
    assert_eq!(world.feed(Event::Booting { phase: BootPhase::Queue, last_word: None }), []);
    world.feed(acknowledged());
    world.feed(os(exited(1)));
    let Verdict::BootFailed { phase } = world.ended().judged else { panic!("{:?}", world.ended()) };
    assert_eq!(phase, BootPhase::Interpreter, "that it runs is known from elsewhere");
    assert_eq!(before.status(), procession_model::ProcStatus::Starting);
}

#[test]
fn what_nobody_saw_is_named_and_never_invented() {
    let mut case = Case::up(Policy::default());
    case.feed(Event::OsGone);
    let flight = Some(Err("the disk is full".to_owned()));
    let certificate = case.certificate(Beside { flight, calls_back: true, ..Beside::default() });
    assert_eq!(certificate.verdict, Verdict::Unknown);
    assert_eq!(
        certificate.missing,
        [
            "nobody saw how the process ended",
            "nobody heard a report from the launcher",
            "nobody could see whether it ran out of memory",
            "nobody saw it dial back",
            "nobody saw what it was busy with: the disk is full",
        ]
    );
    assert_eq!(says(&certificate), [(Source::Pidfd, "the process has ended")]);
}

#[test]
fn where_everybody_has_spoken_nothing_is_missing() {
    let mut case = Case::up(native());
    case.file.linked(SystemTime::UNIX_EPOCH);
    case.file.actor_failed("trainer", "out of patience", SystemTime::UNIX_EPOCH);
    case.feed(os(exited(0)));
    case.file.link_lost("closed", SystemTime::UNIX_EPOCH);
    case.oom = Some(false);
    let flight = Some(Ok(FlightRecord { messages: 3, ..FlightRecord::default() }));
    let certificate = case.certificate(Beside { flight, calls_back: true, ..Beside::default() });
    assert_eq!(certificate.missing, Vec::<String>::new());
    assert_eq!(certificate.flight.as_ref().unwrap().messages, 3);
    assert_eq!(certificate.actors_failed[0].failure, "out of patience");
    let said: Vec<Source> = says(&certificate).into_iter().map(|(source, _)| source).collect();
    assert_eq!(said, [Source::Connection, Source::Parent, Source::Connection, Source::ControlGroup]);
}

#[test]
fn a_launch_that_was_refused_misses_no_witness_of_an_end() {
    let mut case = Case { world: World::new(native()), ..Case::up(native()) };
    case.feed(refused());
    let certificate = case.certificate(Beside { calls_back: true, ..Beside::default() });
    assert_eq!(certificate.missing, Vec::<String>::new());
    assert_eq!(says(&certificate), [(Source::Launcher, "refused the launch: no such program")]);
}

#[test]
fn a_flood_of_words_costs_bounded_memory_and_keeps_the_first_and_the_last() {
    let mut case = Case::up(Policy::default());
    for number in 0..1000 {
        case.feed(Event::Unreachable { why: format!("{number}{}", "x".repeat(10_000)) });
        case.file.actor_failed("a", &format!("{number}"), SystemTime::UNIX_EPOCH);
    }
    case.feed(os(exited(0)));
    let certificate = case.certificate(Beside::default());
    assert_eq!((certificate.evidence.len(), certificate.actors_failed.len()), (64, 16));
    assert!(certificate.evidence[0].says.starts_with("cannot be asked: 0x"));
    assert_eq!(certificate.evidence[63].says, "exit code 0");
    assert!(certificate.evidence.iter().all(|witness| witness.says.len() < 2100));
    assert_eq!(certificate.actors_failed[15].failure, "999");
}

mod f42 {
    use super::*;

    #[test]
    fn a_launcher_that_says_0_where_the_kernel_says_signal_9_is_contradicted_in_the_certificate() {
        let mut case = Case::up(Policy { os_tells: true, ..Policy::default() });
        case.feed(reported(exited(0)));
        case.feed(Event::OsGone);
        case.feed(os(signaled(9)));
        let certificate = case.certificate(Beside::default());
        assert_eq!(certificate.verdict, Verdict::Killed { signal: 9 });
        let what =
            "the launcher reported exit code 0; the operating system says signal 9 (SIGKILL), which stands";
        assert_eq!(certificate.contradictions, [what]);
        let said = says(&certificate);
        assert_eq!(said[0], (Source::Launcher, "reported exit code 0"));
        assert_eq!(said[2], (Source::Pidfd, "signal 9 (SIGKILL)"));
    }
}

mod f45 {
    use super::*;

    #[test]
    fn the_raw_facts_of_an_ambiguous_report_are_in_the_evidence_beside_what_was_made_of_them() {
        let facts = ReportedExit { exit_code: Some(3), signal: Some(9), ..ReportedExit::default() };
        let mut case = Case::up(Policy::default());
        case.feed(Event::OsGone);
        case.feed(Event::LauncherReported(ProcExitResult {
            reported: Some(facts),
            ..ProcExitResult::new(signaled(9))
        }));
        let certificate = case.certificate(Beside::default());
        let said = says(&certificate);
        let raw = "reported signal 9 (SIGKILL) (its facts: exit code 3, signal 9, failure not given)";
        assert_eq!(said[1], (Source::Launcher, raw));
        assert!(said[2].0 == Source::Host && said[2].1.starts_with("AmbiguousExit"), "{said:?}");
        let alone = "nobody but the launcher saw how the process ended; the kernel says only that it did";
        assert_eq!(certificate.missing[0], alone);
    }
}
