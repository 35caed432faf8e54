//! The host, on real processes.
#![expect(clippy::unwrap_used, reason = "tests")]

mod admission;
mod apart;
mod certificates;
mod common;
mod ending;
mod exits;
mod faults;
mod floods;
mod held_up;
mod holdings;
mod launchers;
mod leaks;
mod left;
mod log_files;
mod network;
mod notices;
mod output;
mod panics;
mod pools;
mod puppet;
mod restarts;
mod stopping;
mod trees;
mod virtual_time;
mod workers;
mod zygotes;
