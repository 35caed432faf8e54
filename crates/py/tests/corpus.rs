//! What is fuzzed in `fuzz/`, without a fuzzer.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "../../../fuzz/targets/exit.rs"]
mod exit;
#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../fuzz/targets/value.rs"]
mod value;

#[test]
fn the_corpus_of_exits_of_launchers_and_what_is_like_it_is_taken_or_refused_in_order() {
    replay::replay("exit", exit::run);
}

#[test]
fn the_corpus_of_values_of_python_and_what_is_like_it_is_read_or_refused_in_order() {
    replay::replay("value", value::run);
}
