//! Procs that outlive their host: their output, their ends, and the next host that takes them over.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod keepers;
mod output;
mod refused;
mod world;
