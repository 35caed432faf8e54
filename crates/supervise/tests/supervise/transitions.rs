use procession_model::ProcStatus::{self, *};
use procession_supervise::{Event, StopHow};

use crate::world::*;

/// A launch in this status, without a watched process.
fn world_in(status: ProcStatus) -> World {
    let mut world = World::new(native());
    let before: &[Event] = match status {
        Starting => &[],
        Running => &[acknowledged_unseen()],
        Ready => &[acknowledged_unseen(), Event::CalledBack { pid: None }],
        Stopping => &[acknowledged_unseen(), stop(StopHow::Terminate, 10)],
        Unknown => &[unreachable()],
        Exited => &[os(exited(0))],
        Signaled => &[os(signaled(9))],
        Failed => &[refused()],
        Lost => &[os(lost())],
    };
    for event in before {
        world.feed(event.clone());
    }
    assert_eq!(world.state.status(), status);
    world
}

fn lost() -> procession_model::ProcExitKind {
    procession_model::ProcExitKind::Lost { reason: "keeper gone".to_owned() }
}

fn failed() -> procession_model::ProcExitKind {
    procession_model::ProcExitKind::Failed { reason: "exec".to_owned() }
}

#[test]
fn every_event_leads_from_every_status_where_the_table_says() {
    // What the event asks for is the column; a blank in the table is "stays".
    let called_back = || Event::CalledBack { pid: None };
    let table: [(ProcStatus, [ProcStatus; 9]); 9] = [
        //           acknowledged, call back, stop, exited, signaled, failed, unreachable, lost, heard
        (Starting, [Running, Ready, Stopping, Exited, Signaled, Failed, Unknown, Lost, Starting]),
        (Running, [Running, Ready, Stopping, Exited, Signaled, Failed, Unknown, Lost, Running]),
        (Ready, [Ready, Ready, Stopping, Exited, Signaled, Failed, Unknown, Lost, Ready]),
        (Stopping, [Stopping, Stopping, Stopping, Exited, Signaled, Failed, Unknown, Lost, Stopping]),
        (Unknown, [Running, Ready, Stopping, Exited, Signaled, Failed, Unknown, Lost, Starting]),
        (Exited, [Exited; 9]),
        (Signaled, [Signaled; 9]),
        (Failed, [Failed; 9]),
        (Lost, [Lost; 9]),
    ];
    for (from, row) in table {
        let events = [
            acknowledged_unseen(),
            called_back(),
            stop(StopHow::Terminate, 10),
            os(exited(0)),
            os(signaled(9)),
            os(failed()),
            unreachable(),
            os(lost()),
            Event::HeardAgain,
        ];
        for (event, to) in events.into_iter().zip(row) {
            let mut world = world_in(from);
            let text = format!("{event:?}");
            world.feed(event);
            assert_eq!(world.state.status(), to, "{from} + {text}");
        }
    }
}

#[test]
fn unknown_goes_back_to_what_it_was_and_to_nothing_else() {
    for was in [Starting, Running, Ready, Stopping] {
        for heard in [Event::HeardAgain, progress("pulled")] {
            let mut world = world_in(was);
            world.feed(unreachable());
            assert_eq!(world.state.status(), Unknown);
            world.feed(heard);
            assert_eq!(world.state.status(), was);
        }
    }
}

#[test]
fn a_call_back_from_unknown_makes_ready_what_is_not_being_stopped() {
    for (was, to) in [(Starting, Ready), (Running, Ready), (Ready, Ready), (Stopping, Stopping)] {
        let mut world = world_in(was);
        world.feed(unreachable());
        world.feed(Event::CalledBack { pid: None });
        assert_eq!(world.state.status(), to);
    }
}

#[test]
fn a_refusal_ends_every_live_status_as_failed() {
    for from in [Starting, Running, Ready, Stopping, Unknown] {
        let mut world = world_in(from);
        world.feed(refused());
        assert_eq!(world.state.status(), Failed);
    }
}

#[test]
fn nothing_leaves_a_terminal_status() {
    for from in [Exited, Signaled, Failed, Lost] {
        let mut world = world_in(from);
        let exit = world.ended().clone();
        for event in
            [Event::NotifiedReady, refused(), Event::OsGone, Event::AgentStopFailed, reported(exited(1))]
        {
            world.feed(event);
        }
        world.run_out();
        assert_eq!(world.state.status(), from);
        assert_eq!(*world.ended(), exit);
    }
}
