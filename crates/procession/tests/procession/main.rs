//! A session: a client, its procs and the actors in them, on real processes.
#![expect(clippy::unwrap_used, reason = "tests")]

mod actors;
mod client;
mod common;
mod example;
mod ports;
mod program;
mod restarts;
