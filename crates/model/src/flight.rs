use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::BootPhase;

/// What a proc had noted about itself, as it was found after its end.
///
/// All of it was written by a process that may have been broken: nothing in it is more than a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightRecord {
    /// The version of the runtime that wrote it.
    pub version: String,
    /// The process that wrote it, as it knew its own number.
    pub pid: u32,
    /// What phase of its boot it was in, and since when; none once it was ready.
    pub booting: Option<(BootPhase, SystemTime)>,
    /// How many messages its actors had begun to handle.
    pub messages: u64,
    /// The messages that were being handled, the oldest first.
    pub in_progress: Vec<Handling>,
    /// The last one that was done with.
    pub last_done: Option<Handling>,
    /// How many more messages were in progress than could be noted.
    pub unnoted: u64,
    /// The last things that the runtime said, the oldest first.
    pub said: Vec<(SystemTime, String)>,
    /// Its resident memory in bytes, the oldest sample first; taken while messages are handled, once
    /// a second at most.
    pub rss: Vec<(SystemTime, u64)>,
    /// How many entries it was in the middle of writing, or left garbled.
    pub torn: usize,
}

/// A message that an actor handles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// The actor's name.
    pub actor: String,
    /// The endpoint, or the message's type.
    pub endpoint: String,
    /// Who sent it.
    pub sender: String,
    /// Its number among all messages of the proc, from 1 on.
    pub number: u64,
    /// Since when it is handled.
    pub since: SystemTime,
}
