//! What hosts have left that were killed together with their keeper and guard.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use procession_sys::{Process, Snapshot, Tree};

use crate::run_dir::{Abandoned, abandoned};
use crate::run_record::{RunRecord, Standing};
use crate::witness::until_empty;

/// A keeper that lives ends what it keeps, and knows that better; then it is ended itself.
const GRACE: Duration = Duration::from_millis(1500);
/// How long all of it may take.
const BOUND: Duration = Duration::from_millis(4500);

/// A host of this user on this machine that died without ending what it had launched.
#[derive(Clone, Debug)]
pub struct DeadHost {
    /// Its run directory.
    pub run_dir: PathBuf,
    /// The pid that it had.
    pub pid: u32,
    /// What lives of it: its guards and keepers, and what it launched.
    pub processes: Vec<LeftProcess>,
}

/// A process of a dead host.
#[derive(Clone, Debug)]
pub struct LeftProcess {
    /// Its pid.
    pub pid: u32,
    /// Its command line, with spaces between the arguments; empty for who may not be looked at.
    pub command: String,
}

/// The dead hosts of this user of which something lives, or may. The next host that starts ends that.
/// Blocks for a look at `/proc`.
pub fn dead_hosts() -> Vec<DeadHost> {
    let all = Snapshot::take();
    let mut found = Vec::new();
    for Abandoned { path: run_dir, lock: _, record } in abandoned() {
        let Some(record) = record.filter(|record| record.standing() == Standing::Here) else { continue };
        let shown = |process: &Process| {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            let command = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
            LeftProcess { pid: process.pid, command }
        };
        let mut marked = Tree::marked(record.session.as_str());
        let living = |all| left(&record, &mut marked, all).into_iter().map(shown).collect();
        let processes = all.as_ref().map_or_else(|_| Vec::new(), living);
        found.push(DeadHost { run_dir, pid: record.host.0, processes });
    }
    found
}

/// The guards and keepers that live; a stranger that has the pid of one started at another time.
fn helpers<'a>(record: &RunRecord, all: &'a Snapshot) -> Vec<&'a Process> {
    let found = record.helpers.iter().filter_map(|&(pid, started)| {
        all.find(pid).filter(|process| process.started == started && process.is_alive())
    });
    found.collect()
}

/// All that lives of a dead host, the guards and keepers last.
fn left<'a>(record: &RunRecord, marked: &mut Tree, all: &'a Snapshot) -> Vec<&'a Process> {
    let helpers = helpers(record, all);
    let is_helper = |process: &Process| helpers.iter().any(|helper| helper.pid == process.pid);
    let below = all.descendants(helpers.iter().map(|helper| helper.pid));
    let mut found: Vec<_> = below.into_iter().chain(marked.members(all)).collect();
    found.retain(|process| process.is_alive() && !is_helper(process));
    found.sort_by_key(|process| process.pid);
    found.dedup_by_key(|process| process.pid);
    found.extend(helpers);
    found
}

/// Ends what a dead host has left; false when that could not be done.
pub(crate) fn end(record: &RunRecord) -> bool {
    let start = Instant::now();
    let mut marked = Tree::marked(record.session.as_str());
    let swept = until_empty(BOUND, |all| {
        if start.elapsed() < GRACE && !helpers(record, all).is_empty() {
            return 1;
        }
        let left = left(record, &mut marked, all);
        left.iter().for_each(|process| process.signal(9));
        left.len()
    });
    match swept {
        Ok(0) => return true,
        Ok(left) => tracing::warn!(session = record.session, left, "what a dead host left does not end"),
        Err(error) => tracing::warn!(session = record.session, %error, "what a dead host left was not found"),
    }
    false
}
