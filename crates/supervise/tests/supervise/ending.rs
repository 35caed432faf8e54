use procession_model::{ProcExitKind, ProcExitResult, ReportedExit};
use procession_supervise::{Effect, Event, Note, Policy, StopHow};

use crate::world::*;

const CLOSED: &str = "exit port closed (spawner crashed or forgot to send)";

fn lines(text: &str) -> Option<Vec<String>> {
    Some(vec![text.to_owned()])
}

fn with_tail(kind: ProcExitKind) -> ProcExitResult {
    ProcExitResult { stderr_tail: lines("last words"), ..ProcExitResult::new(kind) }
}

fn raw(exit_code: Option<i32>, signal: Option<i32>, failed_reason: Option<&str>) -> ReportedExit {
    ReportedExit { exit_code, signal, core_dumped: false, failed_reason: failed_reason.map(str::to_owned) }
}

#[test]
fn a_status_by_parenthood_is_published_at_once_where_no_report_can_follow() {
    let mut world = World::up(native());
    world.feed(Event::OsExit(with_tail(exited(0))));
    assert_eq!(world.now, secs(0));
    let ended = world.ended();
    assert_eq!((ended.verdict.as_str(), &ended.stderr_tail), ("clean exit", &lines("last words")));
    assert_eq!((&ended.requested, &ended.reported, &ended.stdout_tail), (&None, &None, &None));
}

#[test]
fn a_status_by_parenthood_waits_a_moment_for_the_launchers_report_and_no_longer() {
    let mut world = World::up(Policy::default());
    world.feed(os(exited(7)));
    assert_eq!(
        world.log.last().unwrap().1,
        Effect::Arm(procession_supervise::Timer::ReportWait, Policy::default().report_wait)
    );
    world.run_out();
    assert_eq!(world.now.as_millis(), 200);
    assert_eq!(world.ended().kind, exited(7));
}

#[test]
fn the_operating_system_wins_and_the_contradiction_is_recorded() {
    for os_first in [true, false] {
        let mut world = World::up(Policy::default());
        let report = ProcExitResult { reported: Some(raw(Some(0), None, None)), ..with_tail(exited(0)) };
        let mut events = vec![os(signaled(9)), Event::LauncherReported(report)];
        if !os_first {
            events.reverse();
        }
        for event in events {
            world.feed(event);
        }
        let what =
            "the launcher reported exit code 0; the operating system says signal 9 (SIGKILL), which stands";
        let ended = world.ended();
        assert_eq!((&ended.kind, &ended.stderr_tail), (&signaled(9), &lines("last words")));
        assert_eq!(ended.contradictions, [what]);
        assert_eq!(ended.reported, Some(raw(Some(0), None, None)));
        assert_eq!(ended.verdict, "killed: signal 9 (SIGKILL), not requested by us");
        assert_eq!(world.notes(), [&Note::Contradiction { what: what.to_owned() }]);
        assert!(world.kills().is_empty());
    }
}

#[test]
fn where_the_operating_system_tells_a_launchers_report_waits_for_its_word() {
    let os_tells = || Policy { os_tells: true, ..Policy::default() };
    for (told, kind, contradictions) in
        [(os(signaled(9)), signaled(9), 1), (os(exited(0)), exited(0), 0), (Event::OsUntold, exited(0), 0)]
    {
        let mut world = World::up(os_tells());
        world.feed(reported(exited(0)));
        world.feed(Event::OsGone);
        assert_eq!(
            world.times(|effect| matches!(effect, Effect::Publish(_))),
            [0.0; 0],
            "the last word is missing"
        );
        world.feed(told);
        assert_eq!(world.ended().kind, kind);
        assert_eq!(world.ended().contradictions.len(), contradictions);
        assert_eq!(world.now.as_millis(), 0);
    }
    // It does not wait for longer than for anything else at the end.
    let mut world = World::up(os_tells());
    world.feed(Event::OsGone);
    world.feed(reported(exited(0)));
    world.run_out();
    assert_eq!(world.ended().kind, exited(0));
    assert_eq!(world.now, Policy::default().report_wait);
}

#[test]
fn another_signal_is_a_contradiction() {
    let mut world = World::up(Policy::default());
    world.feed(os(signaled(9)));
    world.feed(reported(signaled(15)));
    assert_eq!(world.ended().kind, signaled(9));
    assert_eq!(world.ended().contradictions.len(), 1);
}

#[test]
fn a_timer_that_fires_while_it_is_ending_has_no_effect() {
    let mut world = World::up(Policy::default());
    world.feed(stop(StopHow::Terminate, 10));
    world.pass(secs(10) - Policy::default().report_wait / 2);
    world.feed(Event::OsGone);
    world.run_out();
    assert!(world.kills().is_empty());
    assert_eq!(world.now.as_millis(), 10_100);
}

#[test]
fn a_closed_exit_port_does_not_cost_a_known_status() {
    let mut world = World::up(Policy::default());
    world.feed(os(exited(0)));
    world.feed(Event::LauncherReported(ProcExitResult::failed(CLOSED)));
    assert_eq!(world.ended().kind, exited(0));
    assert!(world.ended().contradictions.is_empty(), "nobody has said anything else");
    assert_eq!(world.notes(), Vec::<&Note>::new());
    assert_eq!(world.ended().verdict, format!("clean exit; its launcher: {CLOSED}"));
}

#[test]
fn a_launcher_that_agrees_or_does_not_know_contradicts_nobody() {
    let cored = ProcExitKind::Signaled { signal: 11, core_dumped: true };
    for (truth, report) in [(exited(3), exited(3)), (exited(3), exited(-1)), (cored.clone(), signaled(11))] {
        let mut world = World::up(Policy::default());
        world.feed(os(truth.clone()));
        world.feed(reported(report));
        assert_eq!(world.ended().kind, truth);
        assert_eq!(world.notes(), Vec::<&Note>::new());
    }
}

#[test]
fn a_status_that_the_operating_system_lost_is_taken_from_the_launcher() {
    let mut world = World::up(Policy::default());
    world.feed(Event::OsExit(with_tail(ProcExitKind::Lost { reason: "keeper gone".to_owned() })));
    world.feed(Event::LauncherReported(ProcExitResult {
        stderr_tail: Some(vec![]),
        ..ProcExitResult::new(exited(3))
    }));
    assert_eq!(world.ended().kind, exited(3));
    assert_eq!(world.ended().stderr_tail, lines("last words"), "an empty tail does not hide a full one");
    assert_eq!(world.notes(), Vec::<&Note>::new());
}

#[test]
fn gone_without_a_status_takes_the_launchers_report_within_a_moment() {
    for gone_first in [true, false] {
        let mut world = World::up(Policy::default());
        let mut events = vec![Event::OsGone, Event::LauncherReported(with_tail(exited(5)))];
        if !gone_first {
            events.reverse();
        }
        for event in events {
            world.feed(event);
            world.pass(Policy::default().report_wait / 2);
        }
        assert_eq!((&world.ended().kind, &world.ended().stderr_tail), (&exited(5), &lines("last words")));
        assert!(world.kills().is_empty());
        assert_eq!(world.notes(), Vec::<&Note>::new());
    }
}

#[test]
fn gone_without_any_report_is_lost() {
    let mut world = World::up(Policy::default());
    world.feed(Event::OsGone);
    world.feed(Event::OsGone);
    world.run_out();
    assert_eq!(world.now.as_millis(), 200);
    assert!(
        world
            .ended()
            .verdict
            .starts_with("lost: NoExitReport: the process is gone and its launcher did not report")
    );
    assert!(world.kills().is_empty());
}

#[test]
fn a_report_is_the_exit_where_no_process_is_watched() {
    let mut world = World::new(Policy::default());
    world.feed(acknowledged_unseen());
    world.feed(Event::CalledBack { pid: None });
    world.feed(reported(exited(3)));
    assert_eq!(world.now, secs(0));
    assert_eq!(world.ended().verdict, "app error: exit code 3");
    assert!(world.kills().is_empty());
}

#[test]
fn a_launcher_that_failed_has_not_said_that_nothing_is_left() {
    let mut world = World::new(Policy::default());
    world.feed(acknowledged_unseen());
    world.feed(Event::LauncherReported(ProcExitResult::failed(CLOSED)));
    assert_eq!(world.ended().kind, ProcExitKind::Failed { reason: CLOSED.to_owned() });
    assert_eq!(world.kills().len(), 1);
}

#[test]
fn an_exit_that_is_reported_of_a_living_process_kills_it() {
    let mut world = World::up(Policy::default());
    world.feed(reported(exited(0)));
    world.run_out();
    assert_eq!(world.now.as_millis(), 200);
    assert_eq!(world.notes(), [&Note::EarlyExit { pid: PID, what: "exit code 0".to_owned() }]);
    assert_eq!(world.kills(), [0.2]);
    assert_eq!(world.times(|effect| *effect == Effect::Sweep), [0.2]);
    assert_eq!(world.ended().kind, exited(0));
    let late = world.feed(os(signaled(9)));
    let what = "the operating system says signal 9 (SIGKILL)".to_owned();
    assert_eq!(late, [Effect::Note(Note::LateReport { what })], "recorded beside, never instead");
}

#[test]
fn a_second_report_is_counted_and_not_delivered() {
    for (first, settled) in [(acknowledged_unseen(), true), (acknowledged(), false)] {
        let mut world = World::new(Policy::default());
        world.feed(first);
        world.feed(reported(exited(1)));
        world.feed(reported(exited(2)));
        world.run_out();
        assert_eq!(world.ended().kind, exited(1), "{settled}");
        let late = |note: &&&Note| matches!(note, Note::LateReport { what } if what.contains("exit code 2"));
        assert_eq!(world.notes().iter().filter(late).count(), 1);
    }
}

#[test]
fn a_report_of_nothing_or_of_two_things_is_noted_as_ambiguous() {
    for (facts, ambiguous) in [
        (raw(None, None, None), true),
        (raw(Some(0), Some(9), None), true),
        (raw(Some(0), None, Some("oom")), true),
        (raw(Some(0), None, None), false),
        (raw(None, Some(9), None), false),
        (raw(None, None, Some("oom")), false),
    ] {
        let mut world = World::new(Policy::default());
        world.feed(acknowledged_unseen());
        let report = ProcExitResult { reported: Some(facts.clone()), ..ProcExitResult::new(exited(-1)) };
        world.feed(Event::LauncherReported(report));
        let note = Note::AmbiguousExit { reported: facts.clone() };
        assert_eq!(world.notes().contains(&&note), ambiguous, "{facts:?}");
        assert_eq!(world.ended().reported, Some(facts));
    }
}

#[test]
fn nothing_else_matters_once_it_is_ending() {
    let mut world = World::up(Policy::default());
    world.feed(Event::OsGone);
    for event in [
        stop(StopHow::Kill, 0),
        unreachable(),
        Event::HeardAgain,
        Event::NotifiedReady,
        progress("up"),
        Event::KillAnswered(Err("no".to_owned())),
    ] {
        assert_eq!(world.feed(event), []);
    }
    world.feed(refused());
    assert_eq!(world.ended().kind, ProcExitKind::Failed { reason: "no such program".to_owned() });
    assert_eq!(world.ended().requested, None, "it ended before anybody asked");
}

#[test]
fn whatever_is_left_of_the_tree_is_swept_before_the_exit_is_published() {
    let mut world = World::up(native());
    let effects = world.feed(os(exited(0)));
    let at = |what: fn(&Effect) -> bool| effects.iter().position(what).unwrap();
    assert!(at(|e| *e == Effect::Sweep) < at(|e| matches!(e, Effect::Publish(_))));
}

#[test]
fn that_memory_ran_out_is_the_first_that_the_verdict_says_and_nothing_is_said_of_what_nobody_knows() {
    const KILLED: &str = "killed: signal 9 (SIGKILL), not requested by us";
    for (oom, verdict) in [
        (Some(true), format!("out of memory: {KILLED}")),
        (Some(false), KILLED.to_owned()),
        (None, KILLED.to_owned()),
    ] {
        let exit = ProcExitResult { oom, ..ProcExitResult::new(signaled(9)) };
        let mut by_parenthood = World::up(native());
        by_parenthood.feed(Event::OsExit(exit.clone()));
        let mut by_report = World::up(Policy::default());
        by_report.feed(Event::LauncherReported(exit));
        by_report.run_out();
        for world in [by_parenthood, by_report] {
            assert_eq!((world.ended().oom, &world.ended().verdict), (oom, &verdict));
        }
    }
}
