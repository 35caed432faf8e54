//! A launcher whose work an actor does, seen from the host.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "../common/mod.rs"]
mod common;

mod exits;
mod launching;
mod stage;
mod stopping;
