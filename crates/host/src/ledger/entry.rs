use std::collections::VecDeque;
use std::time::SystemTime;

use procession_model::{BootTiming, ProcExit, ProcId, Secret, StopRequest};
use serde::{Deserialize, Serialize};

use crate::spec::SpawnSpec;

/// How many ended launches are kept, newest last.
const ENDED: usize = 1000;

/// One fact, in the order in which the facts came about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A launch is about to be asked for. Written before anything can have been started.
    Asked(Box<Asked>),
    /// It runs as this process, which started then, in clock ticks since that boot of the machine.
    Started { proc_id: ProcId, pid: u32, started: u64, boot: String },
    /// It was ready, after a boot that took so long.
    Ready { proc_id: ProcId, at: SystemTime, boot: BootTiming },
    /// One of us wants it to end.
    StopAsked { proc_id: ProcId, request: StopRequest },
    /// It ended. Nothing follows about this launch.
    Ended(Box<Ended>),
}

/// All that is needed to supervise a launch, and to do it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) proc_id: ProcId,
    pub(crate) incarnation: u32,
    pub(crate) at: SystemTime,
    /// What proves the proc to every host in turn.
    pub(crate) token: Secret,
    pub(crate) spec: SpawnSpec,
}

/// How a launch ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) exit: ProcExit,
    /// As in its spec.
    pub(crate) mesh: String,
}

/// A launch whose end nobody has written down.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) asked: Asked,
    /// Pid, start time and boot.
    pub(crate) leader: Option<(u32, u64, String)>,
    pub(crate) ready_at: Option<SystemTime>,
    pub(crate) boot: BootTiming,
    pub(crate) stop: Option<StopRequest>,
}

/// What the hosts before this one have written down.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// In the order of their launches.
    pub(crate) open: Vec<Open>,
    /// The last ones, oldest first.
    pub(crate) ended: VecDeque<Ended>,
}

impl Past {
    pub(crate) fn replay(entries: Vec<Entry>) -> Self {
        let mut past = Self::default();
        for entry in entries {
            past.take(entry);
        }
        past
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Asked(asked) => {
                let boot = BootTiming::default();
                self.open.push(Open { asked: *asked, leader: None, ready_at: None, boot, stop: None });
            }
            Entry::Started { proc_id, pid, started, boot } => {
                if let Some(open) = self.find(&proc_id) {
                    open.leader = Some((pid, started, boot));
                }
            }
            Entry::Ready { proc_id, at, boot } => {
                if let Some(open) = self.find(&proc_id).filter(|open| open.ready_at.is_none()) {
                    open.ready_at = Some(at);
                    open.boot = boot;
                }
            }
            Entry::StopAsked { proc_id, request } => {
                if let Some(open) = self.find(&proc_id) {
                    open.stop.get_or_insert(request);
                }
            }
            Entry::Ended(ended) => {
                self.open.retain(|open| open.asked.proc_id != ended.exit.proc_id);
                self.ended.push_back(*ended);
                if self.ended.len() > ENDED {
                    self.ended.pop_front();
                }
            }
        }
    }

    fn find(&mut self, proc_id: &ProcId) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.asked.proc_id == *proc_id)
    }

    /// The fewest entries that say the same.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        entries.extend(self.ended.iter().cloned().map(|ended| Entry::Ended(Box::new(ended))));
        for Open { asked, leader, ready_at, boot, stop } in &self.open {
            let proc_id = &asked.proc_id;
            entries.push(Entry::Asked(Box::new(asked.clone())));
            let start =
                |(pid, started, boot)| Entry::Started { proc_id: proc_id.clone(), pid, started, boot };
            entries.extend(leader.clone().map(start));
            entries.extend(ready_at.map(|at| Entry::Ready {
                proc_id: proc_id.clone(),
                at,
                boot: boot.clone(),
            }));
            entries
                .extend(stop.clone().map(|request| Entry::StopAsked { proc_id: proc_id.clone(), request }));
        }
        entries
    }
}
