//! Rows of the fault matrix about launchers, as far as they are decided here.

use procession_model::{ProcExitKind, ReportedExit};
use procession_supervise::{Event, Note, Policy, StopHow};

use crate::world::*;

fn lost(world: &World) -> &str {
    match &world.ended().kind {
        ProcExitKind::Lost { reason } => reason,
        kind => panic!("{kind}"),
    }
}

/// How many notes say that no report came.
fn unreported(world: &World) -> usize {
    world.notes().iter().filter(|note| matches!(note, Note::NoExitReport { .. })).count()
}

mod f39 {
    use super::*;

    #[test]
    fn the_kernels_word_is_the_exit_of_a_proc_that_its_launcher_forgot_and_the_launcher_is_noted() {
        let mut world = World::up(Policy { os_tells: true, ..Policy::default() });
        world.feed(Event::OsGone);
        world.feed(os(exited(7)));
        world.run_out();
        assert_eq!((&world.ended().kind, world.now.as_millis()), (&exited(7), 200));
        assert_eq!(unreported(&world), 1);
    }

    #[test]
    fn a_proc_that_nobody_sees_is_lost_without_a_report_at_the_deadline_of_its_kill() {
        let mut world = World::new(no_call_back());
        world.feed(acknowledged_unseen());
        world.feed(stop(StopHow::Terminate, 10));
        world.feed(Event::TerminateAnswered(Ok(())));
        world.pass(secs(10));
        world.feed(Event::KillAnswered(Ok(())));
        world.run_out();
        assert_eq!(world.now, secs(40));
        assert!(lost(&world).starts_with("NoExitReport: no exit within 30s of the kill"), "{}", lost(&world));
        assert_eq!(unreported(&world), 1);
    }

    #[test]
    fn a_launcher_that_is_the_parent_owes_no_report_beside_the_status() {
        let mut world = World::up(native());
        world.feed(os(exited(0)));
        assert_eq!(unreported(&world), 0);
    }
}

mod f45 {
    use super::*;

    #[test]
    fn the_facts_of_an_ambiguous_report_are_kept_beside_the_exit_and_noted() {
        for (exit_code, signal) in [(Some(3), Some(9)), (None, None)] {
            let mut world = World::new(no_call_back());
            world.feed(acknowledged_unseen());
            let facts = ReportedExit { exit_code, signal, core_dumped: false, failed_reason: None };
            let kind = signal.map_or(exited(-1), signaled);
            let mut result = procession_model::ProcExitResult::new(kind.clone());
            result.reported = Some(facts.clone());
            world.feed(Event::LauncherReported(result));
            assert_eq!((&world.ended().kind, &world.ended().reported), (&kind, &Some(facts.clone())));
            assert_eq!(world.notes(), [&Note::AmbiguousExit { reported: facts }]);
        }
    }
}

mod f51 {
    use super::*;

    #[test]
    fn a_launch_without_an_acknowledgement_is_a_launch_timeout_and_whatever_came_of_it_is_killed() {
        let mut world = World::new(Policy::default());
        world.run_out();
        assert_eq!(world.now, secs(30));
        let ProcExitKind::Failed { reason } = &world.ended().kind else { panic!("{:?}", world.ended()) };
        assert!(reason.starts_with("LaunchTimeout: "), "{reason}");
        assert_eq!(world.kills(), [30.0]);
    }
}

mod f57 {
    use super::*;

    #[test]
    fn a_kill_that_cannot_be_done_is_in_the_note_and_in_the_exit() {
        let mut world = World::new(no_call_back());
        world.feed(acknowledged_unseen());
        world.feed(stop(StopHow::Terminate, 1));
        world.feed(Event::TerminateAnswered(Err("no such method".to_owned())));
        assert!(world.kills().is_empty(), "the kill comes at the timeout, also where the terminate failed");
        world.pass(secs(1));
        assert_eq!(world.kills(), [1.0]);
        world.feed(Event::KillAnswered(Err("not implemented".to_owned())));
        let note = Note::KillUnavailable { why: "not implemented".to_owned() };
        assert!(world.notes().contains(&&note));
        world.run_out();
        assert_eq!(world.now, secs(31));
        let reason = lost(&world);
        assert!(reason.starts_with("KillUnavailable: no exit within 30s of the kill"), "{reason}");
        assert!(reason.contains("kill failed: not implemented"), "{reason}");
    }
}

mod f61 {
    use super::*;

    #[test]
    fn a_proc_that_never_calls_back_is_a_ready_timeout_with_a_hint_at_what_its_launcher_may_have_dropped() {
        let mut world = World::new(Policy::default());
        world.feed(acknowledged());
        world.pass(secs(30));
        let [(phase, why)] = world.ready_failures()[..] else { panic!("{:?}", world.ready_failures()) };
        assert_eq!(phase, "running");
        assert!(
            why.starts_with("ReadyTimeout: not ready within 30s; ") && why.contains("PROCESSION_BOOTSTRAP")
        );
    }

    #[test]
    fn where_the_host_is_the_parent_the_environment_was_not_lost_on_the_way() {
        let mut world = World::new(native());
        world.feed(acknowledged());
        world.pass(secs(30));
        assert_eq!(world.ready_failures(), [("running", "ReadyTimeout: not ready within 30s")]);
    }
}
