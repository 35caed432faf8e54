//! A launcher with a fault fails the checks that name it, and no other; one without passes them all.
#![expect(clippy::unwrap_used, reason = "tests")]

mod broken;
mod plain;

use std::sync::Arc;
use std::time::Duration;

use procession_launch::ProcLauncher;
use procession_launch_test::{Kit, Outcome, Table};

use crate::broken::{Broken, Fault};
use crate::plain::Plain;

/// What is broken is waited for as long.
const PATIENCE: Duration = Duration::from_secs(10);

fn run(kit: &Kit) -> Table {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(kit.run())
}

fn expect_failed(kit: Kit, expected: &[&str]) -> Table {
    let table = run(&kit.patience(PATIENCE).jobs(6));
    println!("{table}");
    assert_eq!(table.failed(), expected);
    table
}

/// The native launcher with this fault fails these, in the order of the checks.
fn fails(fault: Fault, expected: &[&str]) {
    let table = expect_failed(Kit::new(move |host| Broken::new(host.native_launcher(), fault)), expected);
    assert!(table.passed().len() > 90, "{}", table.summary());
}

fn plain_fails(fault: Fault, leader_only: bool, expected: &[&str]) {
    let make = move |_: &_| -> Arc<dyn ProcLauncher> {
        Broken::new(Arc::new(Plain { leader_only, ..Plain::default() }), fault)
    };
    let table = expect_failed(Kit::new(make), expected);
    assert!(table.passed().len() > 90, "{}", table.summary());
}

#[test]
fn a_launcher_of_this_process_without_a_fault_passes() {
    plain_fails(Fault::None, false, &[]);
}

/// As [`fails`], where most other checks stand on what is broken, and so say nothing.
fn fails_alone(fault: Fault, expected: &str) {
    let make = move |host: &procession_host::Host| -> Arc<dyn ProcLauncher> {
        Broken::new(host.native_launcher(), fault)
    };
    let table = run(&Kit::new(make).patience(Duration::from_secs(3)).jobs(12));
    println!("{table}");
    assert_eq!(table.failed(), [expected]);
    let others = table.rows.iter().filter(|row| row.outcome.why().ends_with(expected)).count();
    assert!(others > 5, "{}", table.summary());
}

#[test]
fn an_exit_that_is_never_told_is_found() {
    fails_alone(Fault::ExitNeverTold, "exit.every-end-is-told");
}

#[test]
fn an_exit_channel_that_is_dropped_is_found() {
    fails_alone(Fault::ExitDropped, "exit.every-end-is-told");
}

#[test]
fn an_exit_that_is_told_too_early_is_found() {
    fails(Fault::ToldAtEndOfOutput, &["exit.closed-output-is-no-end"]);
}

#[test]
fn an_exit_that_waits_for_the_output_is_found() {
    plain_fails(
        Fault::ToldAfterEndOfOutput,
        false,
        &["exit.an-end-is-told-although-a-child-holds-the-output"],
    );
}

#[test]
fn a_code_that_is_always_0_is_found() {
    fails_alone(Fault::AlwaysCode0, "exit.a-code-is-told-as-it-is");
}

#[test]
fn a_signal_that_is_told_as_a_code_is_found() {
    fails(
        Fault::SignalAsCode,
        &[
            "exit.a-signal-is-told-as-a-signal",
            "exit.a-crash-is-told-by-its-signal",
            "exit.a-termination-is-told-by-its-signal",
            "exit.a-kill-of-ours-is-told-by-its-signal",
        ],
    );
}

#[test]
fn a_code_that_is_told_as_a_signal_is_found() {
    fails(Fault::CodeAsSignal, &["exit.a-code-above-128-is-no-signal"]);
}

#[test]
fn stderr_that_is_swallowed_is_found() {
    fails(Fault::StderrSwallowed, &["exit.the-last-words-are-in-the-exit", "output.stderr-arrives"]);
}

#[test]
fn output_that_is_cut_is_found() {
    fails(
        Fault::OutputCut,
        &[
            "output.a-mebibyte-written-at-once-arrives-whole",
            "output.a-line-of-100-kib-arrives-whole",
            "output.neither-stream-waits-for-the-other",
        ],
    );
}

#[test]
fn an_environment_that_is_dropped_is_found() {
    fails(
        Fault::EnvironmentDropped,
        &[
            "exec.the-environment-is-added",
            "exec.a-value-arrives-with-every-character",
            "exec.an-empty-value-is-a-value",
            "exec.a-cleared-environment-has-what-was-added",
        ],
    );
}

#[test]
fn empty_values_that_are_dropped_are_found() {
    fails(Fault::EmptyValuesDropped, &["exec.an-empty-value-is-a-value"]);
}

#[test]
fn an_environment_that_stays_is_found() {
    fails(Fault::EnvironmentKept, &["exec.nothing-of-one-launch-is-in-the-next"]);
}

#[test]
fn a_process_name_that_is_dropped_is_found() {
    fails(Fault::NameDropped, &["exec.the-process-name-arrives"]);
}

#[test]
fn arguments_that_are_joined_by_blanks_are_found() {
    fails(
        Fault::ArgumentsJoined,
        &[
            "exec.arguments-arrive-as-they-were-given",
            "exec.an-empty-argument-is-an-argument",
            "exec.an-argument-with-line-ends-is-one",
        ],
    );
}

#[test]
fn a_directory_that_is_ignored_is_found() {
    fails(
        Fault::DirectoryIgnored,
        &["exec.the-working-directory-is-the-one-given", "exec.a-missing-directory-fails-the-launch"],
    );
}

#[test]
fn a_terminate_that_does_nothing_is_found() {
    fails(
        Fault::TerminateDoesNothing,
        &["stop.terminate-reaches-the-program", "stop.terminate-ends-who-does-not-handle-it"],
    );
}

#[test]
fn a_terminate_that_kills_is_found() {
    fails(
        Fault::TerminateKills,
        &[
            "exit.a-termination-is-told-by-its-signal",
            "stop.terminate-reaches-the-program",
            "stop.terminate-only-asks",
        ],
    );
}

#[test]
fn a_terminate_that_waits_for_the_end_is_found() {
    fails(Fault::TerminateWaits, &["stop.terminate-is-answered-before-the-end"]);
}

#[test]
fn a_kill_that_errs_for_what_has_ended_is_found() {
    fails(Fault::KillOfEndedErrs, &["stop.kill-may-be-asked-for-again", "stop.kill-of-an-ended-proc-is-ok"]);
}

#[test]
fn a_kill_that_goes_by_the_name_is_found() {
    fails(Fault::KillByName, &["identity.a-late-kill-does-not-reach-the-next-of-its-name"]);
}

#[test]
fn a_kill_that_reaches_neighbours_is_found() {
    fails(Fault::KillsAll, &["stop.a-neighbour-lives-on", "tree.kill-leaves-the-tree-of-a-neighbour-alone"]);
}

#[test]
fn a_kill_that_reaches_the_leader_alone_is_found() {
    plain_fails(
        Fault::None,
        true,
        &[
            "tree.kill-reaches-a-child",
            "tree.kill-reaches-a-child-in-a-session-of-its-own",
            "tree.kill-reaches-a-grandchild",
            "tree.kill-reaches-twenty-children",
            "tree.kill-reaches-a-child-that-ignores-sigterm",
            "tree.terminate-reaches-a-child",
        ],
    );
}

#[test]
fn a_refused_launch_that_is_never_answered_is_found() {
    fails(
        Fault::RefusedNeverAnswers,
        &[
            "exec.a-missing-program-fails-the-launch",
            "exec.a-failed-launch-names-the-program",
            "exec.a-directory-is-no-program",
            "exec.a-missing-directory-fails-the-launch",
            "ready.a-refused-launch-is-never-ready",
        ],
    );
}

#[test]
fn a_name_that_serves_once_is_found() {
    fails(Fault::NameServesOnce, &["identity.a-name-serves-again"]);
}

#[test]
fn a_limit_that_does_not_hold_is_found() {
    fails(Fault::MemoryNotLimited, &["limits.memory-is-limited"]);
}

#[test]
fn limits_that_are_neither_claimed_nor_refused_are_found() {
    fails(Fault::ChecksNothing, &["limits.what-is-not-claimed-is-refused"]);
}

#[test]
fn a_check_that_hangs_costs_its_own_deadline_and_no_more() {
    let make = |host: &procession_host::Host| -> Arc<dyn ProcLauncher> {
        Broken::new(host.native_launcher(), Fault::RefusedNeverAnswers)
    };
    let kit = Kit::new(make)
        .only("exec.a-missing-program-fails-the-launch")
        .only("exit.code-0-is-told-as-code-0")
        .deadline(Duration::from_millis(200));
    let table = run(&kit);
    let why = table.rows[0].outcome.why();
    assert!(why.contains("an end of the check within 200ms"), "{why}");
    assert_eq!(table.rows[1].outcome, Outcome::Passed, "{}", table.rows[1].outcome.why());
}

#[test]
fn a_launcher_whose_procs_nobody_sees_from_here_passes() {
    fails(Fault::Elsewhere, &[]);
}

#[test]
fn a_launcher_whose_procs_are_the_first_of_a_namespace_passes() {
    let may = std::process::Command::new("unshare").args(["-pf", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        println!("not capable: no pid namespace can be made here");
        return;
    }
    // What makes the namespace has no right to any more under some limits.
    let groups = ["exec.*", "ready.*", "exit.*", "output.*", "stop.*", "tree.*", "identity.*", "chaos.*"];
    let kit = Kit::new(|host| Broken::new(host.native_launcher(), Fault::Contained));
    let table = expect_failed(groups.into_iter().fold(kit, Kit::only), &[]);
    assert!(table.passed().len() > 70, "{}", table.summary());
    let unseen = |name: &&str| name.starts_with("tree.");
    assert_eq!(table.not_capable().into_iter().filter(unseen).count(), 9, "{}", table.summary());
}
