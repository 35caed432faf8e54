use procession_model::ProcStatus;
use procession_supervise::{Event, Note, Policy, READY_DEADLINE, Readiness, StopHow, Timer};

use crate::world::*;

#[test]
fn the_ready_deadline_counts_from_the_acknowledgement() {
    let mut world = World::new(native());
    world.pass(secs(20));
    world.feed(acknowledged());
    world.pass(secs(29));
    assert_eq!(world.state.status(), ProcStatus::Running);
    world.pass(secs(1));
    assert_eq!(world.state.status(), ProcStatus::Stopping);
    assert_eq!(world.ready_failures(), [("running", "ReadyTimeout: not ready within 30s")]);
    assert_eq!(world.terminates(), [50.0]);
}

#[test]
fn a_missed_ready_deadline_climbs_the_ladder_and_keeps_the_real_exit() {
    let mut world = World::new(native());
    world.feed(acknowledged());
    world.feed(progress("image pulled"));
    world.pass(secs(40));
    assert_eq!((world.terminates(), world.kills()), (vec![30.0], vec![40.0]));
    world.feed(os(signaled(9)));
    let ended = world.ended();
    assert_eq!(ended.kind, signaled(9));
    assert_eq!(ended.requested.as_ref().unwrap().by, READY_DEADLINE);
    assert_eq!(
        ended.verdict,
        "boot failed (running: not ready within 30s, last progress: image pulled): signal 9 (SIGKILL)"
    );
    assert_eq!(world.ready_failures().len(), 1);
}

#[test]
fn progress_restarts_the_deadline_up_to_the_cap() {
    let mut world = World::new(native());
    world.feed(acknowledged());
    while world.state.status() == ProcStatus::Running {
        world.pass(secs(29));
        world.feed(progress("still pulling"));
    }
    assert_eq!(world.terminates(), [600.0]);
    assert_eq!(
        world.ready_failures(),
        [("running", "ReadyTimeout: not ready within 600s, last progress: still pulling")]
    );
}

#[test]
fn a_deadline_beyond_the_cap_is_not_cut_by_it() {
    let mut world = World::new(Policy { ready_timeout: secs(1200), ..native() });
    world.feed(acknowledged());
    world.pass(secs(1199));
    assert_eq!(world.state.status(), ProcStatus::Running);
    world.pass(secs(1));
    assert_eq!(world.state.status(), ProcStatus::Stopping);
}

#[test]
fn only_progress_restarts_the_deadline() {
    let mut world = World::new(native());
    world.feed(acknowledged());
    world.pass(secs(10));
    world.feed(Event::Reported { pid: None, handle: Some("c0ffee".to_owned()), progress: None });
    assert_eq!(world.deadline(Timer::Ready), Some(secs(30)));
    world.feed(progress("pulled"));
    assert_eq!(world.deadline(Timer::Ready), Some(secs(40)));
}

#[test]
fn progress_arms_nothing_where_no_call_back_is_awaited() {
    let mut starting = World::new(native());
    let mut stopping = World::new(native());
    stopping.feed(acknowledged());
    stopping.feed(stop(StopHow::Terminate, 3600));
    assert_eq!(stopping.armed(), [Timer::Terminate, Timer::TerminateAck], "no deadline cuts the grace short");
    for world in [&mut starting, &mut stopping, &mut World::up(native()), &mut World::up(no_call_back())] {
        assert_eq!(world.feed(progress("moved")), []);
    }
}

#[test]
fn a_call_back_in_time_ends_the_wait() {
    let mut world = World::up(native());
    world.pass(secs(3600));
    assert_eq!(world.statuses(), [ProcStatus::Starting, ProcStatus::Running, ProcStatus::Ready]);
    assert_eq!(world.armed(), []);
    assert_eq!(world.ready_failures(), []);
}

#[test]
fn without_a_call_back_running_is_the_steady_state() {
    let mut world = World::up(no_call_back());
    world.pass(secs(3600));
    assert_eq!(world.state.status(), ProcStatus::Running);
    assert_eq!(world.armed(), []);
    world.feed(Event::NotifiedReady);
    assert_eq!(world.state.status(), ProcStatus::Ready);
    world.feed(Event::OsGone);
    world.feed(reported(exited(3)));
    assert_eq!(world.ended().verdict, "app error: exit code 3");
    assert_eq!(world.ready_failures(), []);
}

#[test]
fn a_program_that_says_it_is_ready_needs_no_call_back() {
    let mut world = World::new(native());
    world.feed(acknowledged());
    world.feed(Event::NotifiedReady);
    world.pass(secs(3600));
    assert_eq!(world.state.status(), ProcStatus::Ready);
}

#[test]
fn an_end_before_readiness_fails_it_at_once_in_either_mode() {
    for (readiness, acknowledge, failures) in [
        (Readiness::CallBack, false, 1),
        (Readiness::CallBack, true, 1),
        (Readiness::None, false, 1),
        (Readiness::None, true, 0),
    ] {
        let mut world = World::new(Policy { readiness, ..native() });
        if acknowledge {
            world.feed(acknowledged());
        }
        world.feed(os(exited(1)));
        assert_eq!(world.ready_failures().len(), failures, "{readiness:?} {acknowledge}");
    }
}

#[test]
fn a_stop_before_readiness_fails_it_at_once() {
    let mut world = World::new(native());
    world.feed(acknowledged());
    world.feed(stop(StopHow::Terminate, 10));
    assert_eq!(world.ready_failures(), [("running", "stopped by us (terminate: test)")]);
    world.feed(Event::CalledBack { pid: None });
    world.feed(os(exited(0)));
    assert_eq!(world.ready_failures().len(), 1);
    assert_eq!(world.ended().verdict, "stopped by us (terminate: test): exit code 0");
    assert_eq!(world.notes(), Vec::<&Note>::new());
}

#[test]
fn a_timer_that_fired_after_it_was_disarmed_is_not_heard() {
    let mut world = World::up(native());
    for timer in [Timer::LaunchAck, Timer::Ready, Timer::ReadyCap, Timer::KillGone, Timer::ReportWait] {
        assert_eq!(world.feed(fired(timer)), []);
    }
    assert_eq!(world.state.status(), ProcStatus::Ready);
}
