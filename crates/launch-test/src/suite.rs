use std::fmt::Write;

use tokio::runtime::Builder;

use crate::kit::Kit;
use crate::table::Outcome;

/// Runs the check `group.name`, where `name` is written as an identifier; for [`suite!`](crate::suite).
///
/// # Panics
/// It failed, with what was expected, what was seen and what to look at; or there is no such check.
pub fn conforms(group: &str, name: &str, kit: &Kit) {
    let name = format!("{group}.{}", name.replace('_', "-"));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime could be started: {error}"));
    let row = runtime.block_on(kit.run_one(&name)).unwrap_or_else(|| panic!("there is no check {name}"));
    match &row.outcome {
        Outcome::Passed => {}
        Outcome::NotCapable(why) => println!("{name}: not capable: {why}"),
        Outcome::Failed(why) => {
            let mut text = format!("{name}: {why}");
            let _ = write!(text, "\n    promised: {}\n    look at: {}", row.promise, row.hint);
            panic!("{text}");
        }
    }
}

/// Makes a module of tests, one for each check and named after it, that run the checks of a [`Kit`].
///
/// A check that fails panics with what to look at. One that the launcher is not capable of prints why, and passes.
///
/// ```no_run
/// procession_launch_test::suite!(native, procession_launch_test::Kit::new(|host| host.native_launcher()));
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! suite {
    ($name:ident, $kit:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "for what the expression of the kit names")]
            use super::*;
            $crate::__each_check! { [$crate::__tests] { $kit } }
        }
    };
}

/// A test for each check.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ({ $kit:expr } $($group:ident { $($check:ident)* })*) => {
        $(mod $group {
            #[allow(unused_imports, reason = "for what the expression of the kit names")]
            use super::*;
            $(
                #[test]
                fn $check() {
                    $crate::conforms(stringify!($group), stringify!($check), &$kit);
                }
            )*
        })*
    };
}

/// Hands the names of all checks to a macro, as identifiers.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_check {
    ([$($callback:tt)+] { $($with:tt)* }) => {
        $($callback)+! {
            { $($with)* }
            exec {
                arguments_arrive_as_they_were_given
                an_empty_argument_is_an_argument
                an_argument_with_line_ends_is_one
                a_long_argument_arrives_whole
                the_environment_is_added
                a_value_arrives_with_every_character
                an_empty_value_is_a_value
                the_base_environment_stays
                nothing_of_one_launch_is_in_the_next
                the_process_name_arrives
                a_missing_program_fails_the_launch
                a_failed_launch_names_the_program
                a_directory_is_no_program
                the_working_directory_is_the_one_given
                a_missing_directory_fails_the_launch
                a_cleared_environment_is_empty
                a_cleared_environment_has_what_was_added
                a_removed_variable_is_not_there
                a_path_that_is_no_text_is_executed
                sigterm_is_not_blocked_at_the_start
            }
            ready {
                the_payload_arrives_whole
                who_never_calls_back_is_ended_at_its_deadline
                who_ends_before_it_calls_back_says_how
                a_launcher_does_not_make_a_proc_ready
                a_refused_launch_is_never_ready
                a_proc_that_calls_back_is_ready
                several_call_back_each_as_itself
                a_ready_proc_is_stopped_by_its_own_agent
                a_ready_proc_that_is_killed_is_told_as_that
                it_calls_back_from_another_directory
            }
            exit {
                every_end_is_told
                an_end_is_told_to_observers_once
                code_0_is_told_as_code_0
                a_code_is_told_as_it_is
                the_highest_code_is_told_as_it_is
                a_code_above_128_is_no_signal
                a_signal_is_told_as_a_signal
                a_crash_is_told_by_its_signal
                a_termination_is_told_by_its_signal
                a_kill_of_ours_is_told_by_its_signal
                a_kill_from_outside_is_told
                closed_output_is_no_end
                an_end_is_told_although_a_child_holds_the_output
                the_last_words_are_in_the_exit
                the_times_are_in_their_order
            }
            output {
                stdout_arrives
                stderr_arrives
                stdout_holds_nothing_of_stderr
                stderr_holds_nothing_of_stdout
                a_silent_proc_says_nothing
                lines_arrive_in_their_order
                a_mebibyte_written_at_once_arrives_whole
                a_line_of_100_kib_arrives_whole
                an_open_last_line_arrives
                empty_lines_arrive
                blanks_at_the_edges_stay
                letters_of_any_language_arrive
                bytes_that_are_no_text_cost_nothing_else
                a_line_arrives_while_the_proc_runs
                neither_stream_waits_for_the_other
                last_words_before_a_signal_arrive
                last_words_before_a_kill_arrive
                the_tail_is_as_long_as_asked
                who_wants_none_gets_the_exit
            }
            stop {
                terminate_reaches_the_program
                terminate_ends_who_does_not_handle_it
                terminate_only_asks
                terminate_is_answered_before_the_end
                who_ignores_sigterm_is_killed_at_the_timeout
                kill_ends_who_ignores_sigterm
                terminate_may_be_asked_for_again
                kill_may_be_asked_for_again
                terminate_of_an_ended_proc_is_ok
                kill_of_an_ended_proc_is_ok
                a_proc_that_was_never_launched_is_not_found
                a_neighbour_lives_on
                a_stop_ends_a_proc_that_never_calls_back
                an_end_after_terminate_is_told_as_it_was
            }
            tree {
                kill_reaches_a_child
                kill_reaches_a_child_in_a_session_of_its_own
                kill_reaches_a_grandchild
                kill_reaches_twenty_children
                kill_reaches_a_child_that_ignores_sigterm
                terminate_reaches_a_child
                kill_leaves_the_tree_of_a_neighbour_alone
                kill_reaches_a_daemon
                kill_reaches_a_daemon_with_an_empty_environment
            }
            identity {
                the_pid_is_that_of_the_program
                two_procs_are_two
                a_name_serves_again
                a_late_kill_does_not_reach_the_next_of_its_name
                exits_are_not_exchanged
                a_long_name_is_launched
                it_says_the_same_of_itself_each_time
            }
            limits {
                what_is_not_claimed_is_refused
                memory_is_limited
                memory_within_the_limit_is_there
                want_of_memory_is_told
                want_of_memory_is_not_made_up
                processes_are_limited
                rlimits_are_set
                the_user_is_another
                new_privileges_are_given_up
                capabilities_are_dropped
                processors_are_bound
                who_is_not_limited_is_not
            }
            adopt {
                what_is_not_claimed_is_refused
                what_is_not_there_has_ended
                another_process_of_that_number_is_a_stranger
            }
            chaos {
                twenty_at_once_are_told_each_with_its_code
                twenty_in_a_row_leave_nothing_behind
                a_kill_right_after_the_launch_ends_the_proc
                a_stop_right_after_the_launch_ends_the_proc
                ten_kills_at_once_are_one
                terminate_and_kill_at_once_are_answered
                a_crowd_is_killed
                a_flood_of_output_keeps_nobody_waiting
                who_floods_is_killed
                a_failed_launch_costs_the_next_nothing
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::checks;

    macro_rules! names {
        ({} $($group:ident { $($check:ident)* })*) => {
            [$($(concat!(stringify!($group), ".", stringify!($check))),*),*]
        };
    }

    #[test]
    fn a_suite_has_a_test_for_each_check_and_for_nothing_else() {
        let named = crate::__each_check!([names] {}).map(|name| name.replace('_', "-"));
        let all: Vec<_> = checks().iter().map(|check| check.name).collect();
        assert_eq!(named.to_vec(), all);
    }
}
