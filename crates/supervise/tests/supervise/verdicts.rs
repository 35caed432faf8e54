use procession_model::{BootPhase, Eviction, ExitClass, ProcExitKind, Verdict};
use procession_supervise::{BootFailure, HOST, counts_as, judge, verdict};

use crate::world::{exited, request, signaled};

#[test]
fn every_end_has_its_sentence() {
    let boot = BootFailure { phase: BootPhase::Interpreter, why: "not ready within 30s".to_owned() };
    let asked = request("terminate");
    let failed = ProcExitKind::Failed { reason: "spawner raised: boom".to_owned() };
    let lost = ProcExitKind::Lost { reason: "not heard of".to_owned() };
    let cored = |signal| ProcExitKind::Signaled { signal, core_dumped: true };
    for (kind, boot, requested, sentence) in [
        (exited(0), None, None, "clean exit"),
        (exited(3), None, None, "app error: exit code 3"),
        (exited(255), None, None, "app error: exit code 255"),
        (exited(-1), None, None, "exited, code unknown"),
        (cored(11), None, None, "crash: signal 11 (SIGSEGV), core dumped"),
        (signaled(11), None, None, "crash: signal 11 (SIGSEGV)"),
        (signaled(6), None, None, "crash: signal 6 (SIGABRT)"),
        (cored(3), None, None, "crash: signal 3 (SIGQUIT), core dumped"),
        (signaled(9), None, None, "killed: signal 9 (SIGKILL), not requested by us"),
        (signaled(15), None, None, "killed: signal 15 (SIGTERM), not requested by us"),
        (signaled(10), None, None, "killed: signal 10 (SIGUSR1), not requested by us"),
        (failed.clone(), None, None, "launcher failed: spawner raised: boom"),
        (failed.clone(), Some(&boot), None, "launcher failed: spawner raised: boom"),
        (exited(0), None, Some(&asked), "stopped by us (terminate: test): exit code 0"),
        (signaled(9), None, Some(&asked), "stopped by us (terminate: test): signal 9 (SIGKILL)"),
        (failed, None, Some(&asked), "stopped by us (terminate: test): failed: spawner raised: boom"),
        (exited(1), Some(&boot), None, "boot failed (running: not ready within 30s): exit code 1"),
        (
            signaled(9),
            Some(&boot),
            Some(&asked),
            "boot failed (running: not ready within 30s): signal 9 (SIGKILL)",
        ),
        (lost.clone(), None, None, "lost: not heard of"),
        (lost.clone(), Some(&boot), None, "lost: not heard of"),
        (lost, None, Some(&asked), "lost: not heard of; we had asked for its end (terminate: test)"),
    ] {
        assert_eq!(verdict(&kind, boot, requested, None), sentence);
    }
}

#[test]
fn a_policy_counts_an_end_by_its_verdict_and_lays_what_is_left_to_the_launcher_or_the_proc() {
    let boot = BootFailure { phase: BootPhase::Interpreter, why: "not ready within 30s".to_owned() };
    let by_host = request(HOST);
    let failed = ProcExitKind::Failed { reason: "spawner raised: boom".to_owned() };
    let lost = ProcExitKind::Lost { reason: "not heard of".to_owned() };
    for (kind, boot, requested, oom, class) in [
        (exited(0), None, None, None, ExitClass::Clean),
        (exited(3), None, None, Some(false), ExitClass::App),
        (signaled(9), None, None, Some(true), ExitClass::Oom),
        (exited(1), Some(&boot), None, None, ExitClass::Boot),
        (failed, None, None, None, ExitClass::Launcher),
        (lost, None, None, None, ExitClass::Launcher),
        (exited(-1), None, None, None, ExitClass::Launcher),
        // However well it took that: the host had a reason.
        (exited(0), None, Some(&by_host), None, ExitClass::App),
    ] {
        assert_eq!(counts_as(judge(&kind, boot, requested, oom, None)), class, "{kind}");
    }
    assert_eq!(counts_as(Verdict::HostLost), ExitClass::Launcher);
}

#[test]
fn whose_place_was_taken_away_has_not_failed_by_itself_however_it_ended() {
    let boot = BootFailure { phase: BootPhase::Interpreter, why: "ended before it was ready".to_owned() };
    for (why, sentence) in [
        (Eviction::Preempted, "preempted: signal 15 (SIGTERM)"),
        (Eviction::TimeLimit, "time limit: signal 15 (SIGTERM)"),
        (Eviction::Requeued, "requeued: signal 15 (SIGTERM)"),
    ] {
        for boot in [None, Some(&boot)] {
            assert_eq!(verdict(&signaled(15), boot, None, Some(why)), sentence);
            let judged = judge(&signaled(15), boot, None, Some(false), Some(why));
            assert_eq!((judged, counts_as(judged)), (Verdict::Evicted { why }, ExitClass::Evicted));
        }
    }
    let judged = |requested, oom| judge(&exited(0), None, requested, oom, Some(Eviction::Preempted));
    assert_eq!(judged(None, None).class(), ExitClass::Evicted);
    assert_eq!(judged(None, Some(true)).class(), ExitClass::Oom);
    assert_eq!(judged(Some(&request("stop")), None).class(), ExitClass::Stopped);
}
