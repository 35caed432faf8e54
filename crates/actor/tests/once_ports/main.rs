//! Once ports: one answer at most, and an error as soon as nobody can answer.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod cancels;
mod moves;
