use std::time::Duration;

use procession_model::{ProcExitKind, ProcStatus};
use procession_supervise::{Effect, Event, Note, Policy, StopHow, Timer};

use crate::world::*;

fn agent_asks(world: &World) -> Vec<f64> {
    world.times(|effect| matches!(effect, Effect::AskAgentStop { .. }))
}

#[test]
fn a_stop_climbs_from_the_agent_over_terminate_to_kill() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::AgentFirst, 10));
    world.pass(secs(25));
    assert_eq!((agent_asks(&world), world.terminates(), world.kills()), (vec![0.0], vec![10.0], vec![20.0]));
    assert!(world.log.contains(&(Duration::ZERO, Effect::AskAgentStop { reason: "stop: test".to_owned() })));
    assert!(world.log.contains(&(secs(10), Effect::AskTerminate { timeout: secs(10) })));
    assert!(world.log.contains(&(secs(20), Effect::Sweep)));
    world.feed(os(signaled(9)));
    assert_eq!(world.ended().verdict, "stopped by us (stop: test): signal 9 (SIGKILL)");
}

#[test]
fn a_stop_that_works_asks_for_no_more() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::AgentFirst, 10));
    world.pass(secs(1));
    world.feed(os(exited(0)));
    world.run_out();
    assert_eq!((world.terminates(), world.kills()), (vec![], vec![]));
    assert_eq!(world.ended().verdict, "stopped by us (stop: test): exit code 0");
    assert_eq!(world.ended().requested, Some(request("stop")));
}

#[test]
fn the_agent_is_skipped_when_nobody_called_back() {
    let ready_without_agent = [acknowledged(), Event::NotifiedReady];
    for before in [&[][..], &ready_without_agent[..1], &ready_without_agent[..]] {
        let mut world = World::new(native());
        for event in before {
            world.feed(event.clone());
        }
        world.feed(stop(StopHow::AgentFirst, 10));
        assert_eq!((agent_asks(&world), world.terminates()), (vec![], vec![0.0]));
    }
}

#[test]
fn an_agent_that_cannot_be_asked_is_passed_over_at_once() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::AgentFirst, 10));
    world.pass(secs(2));
    world.feed(Event::AgentStopFailed);
    world.feed(Event::AgentStopFailed);
    world.pass(secs(10));
    assert_eq!((world.terminates(), world.kills()), (vec![2.0], vec![12.0]));
}

#[test]
fn terminate_and_kill_begin_on_their_own_rung() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Terminate, 7));
    assert_eq!((agent_asks(&world), world.terminates(), world.kills()), (vec![], vec![0.0], vec![]));
    let mut world = World::up(native());
    world.feed(stop(StopHow::Kill, 7));
    assert_eq!((agent_asks(&world), world.terminates(), world.kills()), (vec![], vec![], vec![0.0]));
}

#[test]
fn a_timeout_of_zero_terminates_and_kills_at_once() {
    let mut world = World::up(native());
    let effects = world.feed(stop(StopHow::Terminate, 0));
    let asks: Vec<_> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::AskTerminate { .. } | Effect::AskKill | Effect::Sweep))
        .collect();
    assert_eq!(asks, [&Effect::AskTerminate { timeout: Duration::ZERO }, &Effect::AskKill, &Effect::Sweep]);
    let mut world = World::up(native());
    world.feed(stop(StopHow::AgentFirst, 0));
    assert_eq!((agent_asks(&world), world.terminates(), world.kills()), (vec![0.0], vec![0.0], vec![0.0]));
}

#[test]
fn the_shortest_of_two_deadlines_wins() {
    for (first, second, kill) in [(10, 3, 4.0), (10, 9, 10.0), (10, 60, 10.0), (10, 0, 1.0)] {
        let mut world = World::up(native());
        world.feed(stop(StopHow::Terminate, first));
        world.pass(secs(1));
        world.feed(stop(StopHow::Terminate, second));
        world.pass(secs(60));
        assert_eq!((world.terminates(), world.kills()), (vec![0.0], vec![kill]), "{first} then {second}");
    }
}

#[test]
fn a_second_stop_on_the_agents_rung_is_never_later_than_the_first() {
    use StopHow::{AgentFirst, Kill, Terminate};
    for (how, grace, terminate, kill) in [
        (AgentFirst, 3, vec![4.0], 7.0),
        (AgentFirst, 60, vec![10.0], 20.0),
        (AgentFirst, 0, vec![1.0], 1.0),
        (Terminate, 3, vec![1.0], 4.0),
        (Terminate, 60, vec![1.0], 11.0),
        (Kill, 60, vec![], 1.0),
    ] {
        let mut world = World::up(native());
        world.feed(stop(AgentFirst, 10));
        world.pass(secs(1));
        world.feed(stop(how, grace));
        world.pass(secs(28));
        assert_eq!((world.terminates(), world.kills()), (terminate, vec![kill]), "{how:?} {grace}");
        assert_eq!(agent_asks(&world), [0.0]);
    }
}

#[test]
fn escalation_is_never_taken_back() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Kill, 0));
    for how in [StopHow::AgentFirst, StopHow::Terminate, StopHow::Kill] {
        assert_eq!(world.feed(stop(how, 60)), []);
    }
    world.feed(os(signaled(9)));
    assert_eq!(world.ended().requested, Some(request("kill")), "the first request is kept");
}

#[test]
fn a_hundred_stops_at_once_have_one_effect_and_one_exit() {
    let mut world = World::up(native());
    for _ in 0..100 {
        world.feed(stop(StopHow::Terminate, 10));
        world.feed(stop(StopHow::Kill, 0));
    }
    world.feed(Event::TerminateAnswered(Ok(())));
    world.feed(Event::KillAnswered(Ok(())));
    world.feed(os(signaled(9)));
    world.feed(stop(StopHow::Kill, 0));
    world.run_out();
    assert_eq!((world.terminates(), world.kills()), (vec![0.0], vec![0.0]));
    assert_eq!(world.ended().kind, signaled(9));
    assert_eq!(world.notes(), Vec::<&Note>::new());
}

#[test]
fn a_failed_terminate_goes_on_to_kill_at_the_deadline() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Terminate, 10));
    world.feed(Event::TerminateAnswered(Err("not implemented".to_owned())));
    assert_eq!(world.notes(), [&Note::TerminateFailed { why: "not implemented".to_owned() }]);
    world.pass(secs(9));
    assert!(world.kills().is_empty());
    world.pass(secs(1));
    assert_eq!((world.terminates(), world.kills()), (vec![0.0], vec![10.0]));
}

#[test]
fn the_deadline_counts_from_delivery_and_not_from_the_answer() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Terminate, 10));
    world.pass(secs(8));
    world.feed(Event::TerminateAnswered(Ok(())));
    world.pass(secs(2));
    assert_eq!(world.kills(), [10.0]);
}

#[test]
fn a_failed_request_is_asked_again_when_somebody_asks_again() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Terminate, 10));
    world.feed(Event::TerminateAnswered(Err("busy".to_owned())));
    world.pass(secs(4));
    world.feed(stop(StopHow::Terminate, 60));
    assert_eq!(world.terminates(), [0.0, 4.0]);
    assert_eq!(world.deadline(Timer::Terminate), Some(secs(10)));
    world.feed(stop(StopHow::Kill, 0));
    world.feed(Event::KillAnswered(Err("busy".to_owned())));
    world.feed(stop(StopHow::Kill, 0));
    assert_eq!(world.kills(), [4.0, 4.0]);
    assert_eq!(world.deadline(Timer::KillGone), Some(secs(34)), "asking again does not prolong");
}

#[test]
fn a_failed_kill_is_surfaced_at_once_without_a_process_and_at_the_bound_with_one() {
    for (acknowledge, at) in [(acknowledged_unseen(), 0.0), (acknowledged(), 5.0)] {
        let mut world = World::new(native());
        world.feed(acknowledge);
        world.feed(stop(StopHow::Kill, 0));
        world.feed(Event::KillAnswered(Err("not implemented".to_owned())));
        world.pass(secs(20));
        let note = Effect::Note(Note::KillUnavailable { why: "not implemented".to_owned() });
        assert_eq!(world.times(|effect| *effect == note), [at]);
        assert_eq!(world.notes().len(), 1);
    }
}

#[test]
fn a_launcher_that_answers_nothing_ends_every_stop_in_lost_that_says_what_was_tried() {
    for (how, kill) in [(StopHow::AgentFirst, 20), (StopHow::Terminate, 10), (StopHow::Kill, 0)] {
        let mut world = World::up(native());
        world.feed(stop(how, 10));
        world.run_out();
        assert_eq!(world.now, secs(kill + 30), "{how:?}");
        assert!(
            world.notes().contains(&&Note::KillUnavailable {
                why: "the launcher did not answer within 5s".to_owned()
            })
        );
        let ProcExitKind::Lost { reason } = &world.ended().kind else { panic!("{:?}", world.ended()) };
        assert!(
            reason.starts_with("KillUnavailable: no exit within 30s of the kill (terminate "),
            "{reason}"
        );
        assert!(
            reason.contains("; kill failed: the launcher did not answer within 5s; process 4711)"),
            "nothing is swept where the launcher is the parent: {reason}"
        );
        assert_eq!(reason.contains("(terminate not asked;"), how == StopHow::Kill);
        assert!(world.ended().verdict.starts_with("lost: "));
        assert!(world.ended().verdict.contains("we had asked for its end"));
    }
}

#[test]
fn what_was_swept_in_vain_is_said_where_the_launchers_word_is_only_a_claim() {
    let mut world = World::up(Policy::default());
    world.feed(stop(StopHow::Kill, 0));
    world.run_out();
    let ProcExitKind::Lost { reason } = &world.ended().kind else { panic!("{:?}", world.ended()) };
    assert!(reason.contains("; process 4711 swept)"), "{reason}");
}

#[test]
fn a_launcher_that_does_not_answer_a_kill_is_ended_and_one_that_fails_to_is_not() {
    let ended = |answer: Option<Event>| {
        let mut world = World::new(native());
        world.feed(acknowledged_unseen());
        world.feed(stop(StopHow::Kill, 0));
        answer.map(|answer| world.feed(answer));
        world.pass(secs(20));
        world.times(|effect| *effect == Effect::EndLauncher)
    };
    assert_eq!(ended(None), [5.0]);
    assert_eq!(ended(Some(Event::KillUnanswered)), [0.0]);
    assert!(ended(Some(Event::KillAnswered(Ok(())))).is_empty());
    assert!(ended(Some(Event::KillAnswered(Err("no daemon answers".to_owned())))).is_empty());
}

#[test]
fn a_kill_that_is_acknowledged_but_without_effect_is_bounded_too() {
    let mut world = World::up(native());
    world.feed(stop(StopHow::Kill, 0));
    world.feed(Event::KillAnswered(Ok(())));
    world.run_out();
    assert_eq!(world.now, secs(30));
    assert_eq!(world.notes(), Vec::<&Note>::new());
    let ProcExitKind::Lost { reason } = &world.ended().kind else { panic!("{:?}", world.ended()) };
    assert!(reason.contains("kill acknowledged"), "{reason}");
}

#[test]
fn an_endless_grace_waits_without_overflow() {
    let mut world = World::up(native());
    let endless =
        || Event::StopAsked { how: StopHow::Terminate, grace: Duration::MAX, request: request("stop") };
    world.feed(endless());
    world.pass(secs(1_000_000));
    assert_eq!(world.state.status(), ProcStatus::Stopping);
    world.feed(endless());
    world.feed(stop(StopHow::Terminate, 1));
    world.run_out();
    assert_eq!(world.kills(), [1_000_001.0]);
}

#[test]
fn a_caller_is_told_what_the_launcher_answered() {
    let no = || Err::<(), _>("no".to_owned());
    let mut world = World::up(native());
    assert_eq!(world.state.answer(StopHow::Terminate), None);
    world.feed(stop(StopHow::Terminate, 10));
    assert_eq!(world.state.answer(StopHow::Terminate), None);
    world.feed(Event::TerminateAnswered(Ok(())));
    assert_eq!(world.state.answer(StopHow::Terminate), Some(Ok(())));
    assert_eq!(world.state.answer(StopHow::Kill), None);
    world.feed(stop(StopHow::Kill, 0));
    world.feed(Event::KillAnswered(no()));
    assert_eq!(world.state.answer(StopHow::Kill), Some(no()));
    world.feed(os(signaled(9)));
    for how in [StopHow::AgentFirst, StopHow::Terminate, StopHow::Kill] {
        assert_eq!(world.state.answer(how), Some(Ok(())), "an ended proc");
    }
    let mut world = World::up(native());
    world.feed(stop(StopHow::Kill, 0));
    world.feed(Event::KillAnswered(no()));
    assert_eq!(world.state.answer(StopHow::Terminate), Some(no()), "the kill stands for the terminate");
}

#[test]
fn a_failure_for_want_of_something_to_stop_is_no_answer_yet() {
    for how in [StopHow::Terminate, StopHow::Kill] {
        let no = || Err::<(), _>("there is none".to_owned());
        let answered: fn(Result<(), String>) -> Event =
            if how == StopHow::Kill { Event::KillAnswered } else { Event::TerminateAnswered };
        let mut world = World::new(native());
        world.feed(stop(how, 10));
        world.feed(answered(no()));
        assert_eq!(world.state.answer(how), None);
        world.feed(Event::LaunchAcknowledged { pid: Some(7) });
        assert_eq!(world.state.answer(how), None, "it is asked again");
        world.feed(answered(no()));
        assert_eq!(world.state.answer(how), Some(no()));
    }
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let mut world = World::up(native());
    let before = world.state.clone();
    for answer in [Ok(()), Err("?".to_owned())] {
        assert_eq!(world.feed(Event::TerminateAnswered(answer.clone())), []);
        assert_eq!(world.feed(Event::KillAnswered(answer)), []);
    }
    assert_eq!(world.feed(Event::AgentStopFailed), []);
    assert_eq!(world.state, before);
}
