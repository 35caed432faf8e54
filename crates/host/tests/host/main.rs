//! The host, on real processes.
#![expect(clippy::unwrap_used, reason = "tests")]

mod apart;
mod common;
mod ending;
mod exits;
mod faults;
mod floods;
mod launchers;
mod leaks;
mod left;
mod network;
mod notices;
mod output;
mod puppet;
mod stopping;
mod trees;
