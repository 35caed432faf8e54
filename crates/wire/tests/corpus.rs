//! What is fuzzed in `fuzz/`, without a fuzzer.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "../../../fuzz/targets/frame.rs"]
mod frame;
#[path = "../../../fuzz/targets/handshake.rs"]
mod handshake;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_frames_and_what_is_like_it_is_taken_or_refused_in_order() {
    replay::replay("frame", frame::run);
}

#[test]
fn the_corpus_of_hellos_and_proofs_and_what_is_like_it_is_taken_or_refused_in_order() {
    replay::replay("handshake", handshake::run);
}
