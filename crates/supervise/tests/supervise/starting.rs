use procession_model::{ProcExitKind, ProcStatus};
use procession_supervise::{Effect, Event, Note, StopHow, Timer};

use crate::world::*;

#[test]
fn a_refused_launch_fails_once_with_the_reason() {
    let mut world = World::new(native());
    world.feed(refused());
    world.run_out();
    assert_eq!(world.ended().kind, ProcExitKind::Failed { reason: "no such program".to_owned() });
    assert_eq!(world.ended().verdict, "launcher failed: no such program");
    assert_eq!(world.ready_failures(), [("starting", "no such program")]);
    assert!(world.kills().is_empty());
}

#[test]
fn a_refusal_although_something_was_seen_kills_it() {
    for sign in [
        Event::CalledBack { pid: None },
        Event::Reported { pid: Some(PID), handle: None, progress: None },
        acknowledged_unseen(),
    ] {
        let mut world = World::new(native());
        world.feed(sign);
        world.feed(refused());
        assert_eq!(world.kills().len(), 1);
        assert_eq!(world.ended().kind, ProcExitKind::Failed { reason: "no such program".to_owned() });
    }
}

#[test]
fn a_launch_that_is_never_acknowledged_fails_at_the_deadline_and_is_killed() {
    let mut world = World::new(native());
    world.run_out();
    assert_eq!(world.now, secs(30));
    assert_eq!(world.kills(), [30.0]);
    let ProcExitKind::Failed { reason } = &world.ended().kind else { panic!("{:?}", world.ended()) };
    assert!(
        reason.starts_with("LaunchTimeout: the launcher did not acknowledge the launch within 30s"),
        "{reason}"
    );
    assert_eq!(world.ready_failures().len(), 1);
    assert_eq!(world.ready_failures()[0].0, "starting");
}

#[test]
fn a_late_start_is_noted_and_killed() {
    for sign in [acknowledged(), Event::CalledBack { pid: Some(PID) }, Event::NotifiedReady] {
        let mut world = World::new(native());
        world.run_out();
        let late = world.feed(sign);
        assert!(matches!(&late[..], [Effect::Note(Note::LateReport { .. }), Effect::AskKill]), "{late:?}");
        let failed = world.feed(Event::KillAnswered(Err("gone".to_owned())));
        assert_eq!(failed, [Effect::Note(Note::KillUnavailable { why: "gone".to_owned() })]);
        assert_eq!(world.state.status(), ProcStatus::Failed);
    }
}

#[test]
fn an_exit_before_the_acknowledgement_is_the_exit() {
    let mut world = World::new(native());
    world.feed(os(exited(42)));
    assert_eq!(world.statuses(), [ProcStatus::Starting, ProcStatus::Exited]);
    assert_eq!(world.ended().verdict, "boot failed (starting: ended before it was ready): exit code 42");
    assert_eq!(world.ready_failures(), [("starting", "ended before it was ready: exit code 42")]);
    let late = world.feed(acknowledged());
    assert!(matches!(&late[..], [Effect::Note(Note::LateReport { .. })]), "it is gone, no kill: {late:?}");
}

#[test]
fn a_report_before_the_acknowledgement_is_the_exit_and_a_late_start_is_killed() {
    let mut world = World::new(native());
    world.feed(reported(exited(0)));
    assert_eq!(world.ended().kind, exited(0));
    assert!(world.kills().is_empty());
    world.feed(acknowledged());
    assert_eq!(world.kills().len(), 1);
}

#[test]
fn a_call_back_before_the_acknowledgement_is_ready_and_needs_no_acknowledgement() {
    let mut world = World::new(native());
    world.feed(Event::CalledBack { pid: None });
    world.pass(secs(3600));
    world.feed(acknowledged());
    world.pass(secs(3600));
    assert_eq!(world.statuses(), [ProcStatus::Starting, ProcStatus::Ready]);
    assert_eq!(world.armed(), []);
    world.feed(stop(StopHow::Kill, 0));
    world.run_out();
    assert!(world.ended().verdict.contains(&format!("process {PID})")), "{}", world.ended().verdict);
}

#[test]
fn a_stop_before_the_acknowledgement_cancels_with_one_exit() {
    for how in [StopHow::AgentFirst, StopHow::Terminate, StopHow::Kill] {
        let mut world = World::new(native());
        world.feed(stop(how, 60));
        world.feed(refused());
        let reason = "cancelled before start: no such program".to_owned();
        assert_eq!(world.ended().kind, ProcExitKind::Failed { reason: reason.clone() });
        assert!(world.ended().verdict.starts_with("stopped by us ("), "{}", world.ended().verdict);
        assert!(world.ended().verdict.ends_with(&format!("failed: {reason}")), "{}", world.ended().verdict);
        assert_eq!(world.ready_failures().len(), 1);
    }
}

#[test]
fn a_cancelled_launch_that_is_never_acknowledged_ends_at_the_acknowledgement_deadline() {
    for how in [StopHow::AgentFirst, StopHow::Terminate, StopHow::Kill] {
        let mut world = World::new(native());
        world.feed(stop(how, 60));
        world.feed(Event::KillAnswered(Ok(())));
        world.run_out();
        assert_eq!(world.now, secs(30));
        let ProcExitKind::Failed { reason } = &world.ended().kind else { panic!("{:?}", world.ended()) };
        assert!(reason.starts_with("cancelled before start: "), "{reason}");
        world.feed(acknowledged());
        assert_eq!(*world.kills().last().unwrap(), 30.0);
    }
}

#[test]
fn a_kill_that_came_before_the_acknowledgement_is_asked_again_after_it() {
    for answer in [None, Some(Ok(())), Some(Err("no such proc".to_owned()))] {
        let mut world = World::new(native());
        world.feed(stop(StopHow::Kill, 0));
        if let Some(answer) = answer {
            world.feed(Event::KillAnswered(answer));
        }
        world.pass(secs(3));
        world.feed(acknowledged());
        assert_eq!(world.kills(), [0.0, 3.0]);
        assert_eq!(world.deadline(Timer::KillGone), Some(secs(33)));
        assert_eq!(world.notes(), Vec::<&Note>::new());
        world.feed(os(signaled(9)));
        assert_eq!(world.ended().verdict, "stopped by us (kill: test): signal 9 (SIGKILL)");
    }
}

#[test]
fn a_terminate_that_failed_before_the_acknowledgement_is_asked_again_once() {
    let answer = || Event::TerminateAnswered(Err("no such proc".to_owned()));
    for answered_first in [true, false] {
        let mut world = World::new(native());
        world.feed(stop(StopHow::Terminate, 10));
        world.pass(secs(2));
        if answered_first {
            world.feed(answer());
            world.feed(acknowledged());
        } else {
            world.feed(acknowledged());
            world.feed(answer());
        }
        assert_eq!(world.terminates(), [0.0, 2.0]);
        world.feed(answer());
        assert_eq!(world.terminates(), [0.0, 2.0]);
        assert_eq!(world.deadline(Timer::Terminate), Some(secs(10)), "the deadline stays");
    }
}

#[test]
fn a_process_that_comes_into_sight_after_the_kill_is_swept() {
    let mut world = World::new(native());
    world.feed(stop(StopHow::Kill, 0));
    let effects =
        world.feed(Event::Reported { pid: Some(PID), handle: Some("c0ffee".to_owned()), progress: None });
    assert_eq!(effects, [Effect::Sweep]);
}
