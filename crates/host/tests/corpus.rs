//! What is fuzzed in `fuzz/`, without a fuzzer.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "../../../fuzz/targets/journal.rs"]
mod journal;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_journals_and_what_is_like_it_is_taken_or_refused_in_order() {
    replay::replay("journal", journal::run);
}
