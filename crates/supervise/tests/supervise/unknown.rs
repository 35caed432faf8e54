use procession_model::{ProcExitKind, ProcStatus};
use procession_supervise::{Event, StopHow, Timer};

use crate::world::*;

#[test]
fn what_cannot_be_asked_is_unknown_for_its_budget_and_then_lost() {
    let mut world = World::up(native());
    world.feed(unreachable());
    world.pass(secs(59));
    world.feed(Event::Unreachable { why: "still mute".to_owned() });
    assert_eq!(world.state.status(), ProcStatus::Unknown);
    world.run_out();
    assert_eq!(world.now, secs(60), "another word of it does not prolong the budget");
    assert_eq!(
        world.ended().kind,
        ProcExitKind::Lost { reason: "not heard of for 60s: still mute".to_owned() }
    );
    assert_eq!(world.ended().verdict, "lost: not heard of for 60s: still mute");
    assert_eq!(world.kills(), [60.0]);
}

#[test]
fn a_lost_proc_that_is_heard_again_is_killed() {
    let mut world = World::up(native());
    world.feed(unreachable());
    world.run_out();
    world.feed(Event::HeardAgain);
    assert_eq!(world.kills(), [60.0, 60.0]);
    assert_eq!(world.state.status(), ProcStatus::Lost);
}

#[test]
fn a_proc_that_is_heard_again_has_its_whole_budget_again() {
    let mut world = World::up(native());
    for _ in 0..3 {
        world.feed(unreachable());
        world.pass(secs(59));
        world.feed(Event::HeardAgain);
        assert_eq!(world.armed(), []);
    }
    assert_eq!(world.state.status(), ProcStatus::Ready);
    assert!(world.kills().is_empty());
}

#[test]
fn an_exit_while_unknown_is_the_exit() {
    let mut world = World::up(native());
    world.feed(unreachable());
    world.feed(os(exited(3)));
    assert_eq!(world.ended().verdict, "app error: exit code 3");
}

#[test]
fn an_acknowledgement_that_nobody_could_give_leads_to_lost_not_failed() {
    let mut world = World::new(native());
    world.feed(unreachable());
    world.run_out();
    assert_eq!(world.now, secs(30));
    assert!(world.ended().verdict.ends_with("(daemon mute)"), "{}", world.ended().verdict);
    assert_eq!(world.state.status(), ProcStatus::Lost);
    assert_eq!(world.kills(), [30.0]);
}

#[test]
fn a_stop_while_unknown_climbs_the_ladder() {
    let mut world = World::up(native());
    world.feed(unreachable());
    world.feed(stop(StopHow::Terminate, 10));
    assert_eq!(world.state.status(), ProcStatus::Stopping);
    assert_eq!(world.deadline(Timer::UnknownBudget), None);
    world.run_out();
    assert_eq!((world.terminates(), world.kills(), world.now), (vec![0.0], vec![10.0], secs(40)));
    assert_eq!(world.state.status(), ProcStatus::Lost);
}

#[test]
fn the_ladder_goes_on_while_unknown_and_asks_again_when_heard() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Terminate, 10));
    world.feed(Event::TerminateAnswered(Ok(())));
    world.feed(unreachable());
    world.pass(secs(10));
    assert_eq!((world.state.status(), world.kills()), (ProcStatus::Unknown, vec![10.0]));
    world.feed(Event::KillAnswered(Err("daemon mute".to_owned())));
    world.pass(secs(2));
    world.feed(Event::HeardAgain);
    assert_eq!((world.state.status(), world.kills()), (ProcStatus::Stopping, vec![10.0, 12.0]));
    assert_eq!(world.deadline(Timer::KillGone), Some(secs(40)), "the bound stays");
    world.feed(Event::KillAnswered(Ok(())));
    world.feed(unreachable());
    world.feed(Event::HeardAgain);
    assert_eq!(world.kills().len(), 2, "what was done is not asked again");
    assert_eq!(world.terminates(), [0.0]);
}
