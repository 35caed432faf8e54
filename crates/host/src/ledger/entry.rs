use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use procession_launch::Ticket;
use procession_model::{BootTiming, ProcExit, ProcId, Secret, StopRequest};
use procession_supervise::{Fate, RestartPolicy};
use serde::{Deserialize, Serialize};

use crate::spec::SpawnSpec;

/// How many ended launches are kept, newest last.
const ENDED: usize = 1000;

/// A slot of a group that was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) group: u64,
    pub(crate) slot: usize,
}

/// One fact, in the order in which the facts came about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// There are so many slots, which follow, and then their first launches.
    Group {
        id: u64,
        slots: usize,
        restart: RestartPolicy,
        /// What makes its launcher again; none for the native one.
        launcher: Option<Ticket>,
    },
    /// Procs reach back to this port, which was bound for that address.
    Listens {
        bind: String,
        port: u16,
    },
    Slot {
        at: At,
        spec: Box<SpawnSpec>,
    },
    /// A launch is about to be asked for. Written before anything can have been started.
    Asked {
        at: At,
        asked: Asked,
    },
    /// It runs as this process, which started then, in clock ticks since that boot of the machine.
    Started {
        at: At,
        pid: u32,
        started: u64,
        boot: String,
    },
    /// It was ready, after a boot that took so long.
    Ready {
        at: At,
        since: SystemTime,
        boot: BootTiming,
    },
    /// One of us wants it to end.
    StopAsked {
        at: At,
        request: StopRequest,
    },
    /// It ended.
    Ended {
        at: At,
        exit: Box<ProcExit>,
    },
    /// How a launch ended whose slot is forgotten, or had others since.
    Past(Box<ProcExit>),
    /// What becomes of the slot, other than before; a launch makes it free.
    Fate {
        at: At,
        fate: Fate,
    },
    /// Nobody can launch any of its slots again.
    Gone {
        group: u64,
    },
}

/// What is known of a launch before anybody is asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) proc_id: ProcId,
    pub(crate) incarnation: u32,
    pub(crate) since: SystemTime,
    /// What proves the proc to every host in turn.
    pub(crate) token: Secret,
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

/// Where a slot stands.
#[derive(Clone, Debug, Default)]
pub(crate) enum Launch {
    /// Nobody was asked for it yet.
    #[default]
    None,
    Open(Box<Open>),
    Ended(Box<ProcExit>),
}

#[derive(Clone, Debug)]
pub(crate) struct PastSlot {
    pub(crate) spec: SpawnSpec,
    pub(crate) launch: Launch,
    pub(crate) fate: Fate,
}

#[derive(Clone, Debug)]
pub(crate) struct PastGroup {
    pub(crate) restart: RestartPolicy,
    pub(crate) launcher: Option<Ticket>,
    pub(crate) slots: Vec<PastSlot>,
    /// How many there are; of one that was not written down to its end, nothing was launched.
    pub(crate) size: usize,
}

impl PastGroup {
    /// Whether all that is left to say of it is how it ended.
    pub(crate) fn is_over(&self) -> bool {
        let mut slots = self.slots.iter();
        self.slots.len() < self.size
            || slots.all(|slot| matches!(slot.launch, Launch::Ended(_)) && slot.fate != Fate::Due)
    }
}

/// What the hosts before this one have written down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) groups: BTreeMap<u64, PastGroup>,
    /// The ports that procs reach back to, by what they were bound for.
    pub(crate) listens: BTreeMap<String, u16>,
    /// How the last launches ended, oldest first.
    pub(crate) ended: VecDeque<ProcExit>,
}

impl Past {
    pub(crate) fn replay(entries: Vec<Entry>) -> Self {
        let mut past = Self::default();
        for entry in entries {
            past.take(entry);
        }
        past
    }

    pub(crate) fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Group { id, slots, restart, launcher } => {
                self.groups.insert(id, PastGroup { restart, launcher, slots: Vec::new(), size: slots });
            }
            Entry::Listens { bind, port } => drop(self.listens.insert(bind, port)),
            Entry::Slot { at, spec } => {
                if let Some(group) =
                    self.groups.get_mut(&at.group).filter(|group| group.slots.len() == at.slot)
                {
                    group.slots.push(PastSlot { spec: *spec, launch: Launch::None, fate: Fate::Free });
                }
            }
            Entry::Asked { at, asked } => {
                if let Some(slot) = self.slot(at) {
                    let boot = BootTiming::default();
                    let open = Open { asked, leader: None, ready_at: None, boot, stop: None };
                    (slot.launch, slot.fate) = (Launch::Open(Box::new(open)), Fate::Free);
                }
            }
            Entry::Started { at, pid, started, boot } => {
                if let Some(open) = self.open(at) {
                    open.leader = Some((pid, started, boot));
                }
            }
            Entry::Ready { at, since, boot } => {
                if let Some(open) = self.open(at).filter(|open| open.ready_at.is_none()) {
                    (open.ready_at, open.boot) = (Some(since), boot);
                }
            }
            Entry::StopAsked { at, request } => {
                if let Some(open) = self.open(at) {
                    open.stop.get_or_insert(request);
                }
            }
            Entry::Ended { at, exit } => {
                if let Some(slot) = self.slot(at) {
                    slot.launch = Launch::Ended(exit.clone());
                }
                self.remember(*exit);
            }
            Entry::Past(exit) => self.remember(*exit),
            Entry::Fate { at, fate } => {
                if let Some(slot) = self.slot(at) {
                    slot.fate = fate;
                }
            }
            Entry::Gone { group } => drop(self.groups.remove(&group)),
        }
    }

    fn remember(&mut self, exit: ProcExit) {
        if self.ended.iter().any(|known| known.proc_id == exit.proc_id) {
            return;
        }
        self.ended.push_back(exit);
        if self.ended.len() > ENDED {
            self.ended.pop_front();
        }
    }

    fn slot(&mut self, at: At) -> Option<&mut PastSlot> {
        self.groups.get_mut(&at.group)?.slots.get_mut(at.slot)
    }

    fn open(&mut self, at: At) -> Option<&mut Open> {
        match &mut self.slot(at)?.launch {
            Launch::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The launches whose end is not known.
    pub(crate) fn going_on(&self) -> impl Iterator<Item = &Open> {
        let slots = self.groups.values().flat_map(|group| &group.slots);
        slots.filter_map(|slot| match &slot.launch {
            Launch::Open(open) => Some(&**open),
            _ => None,
        })
    }

    /// The fewest entries that say the same.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.ended.iter().map(|exit| Entry::Past(Box::new(exit.clone()))).collect();
        let listens = self.listens.iter().map(|(bind, &port)| (bind.clone(), port));
        entries.extend(listens.map(|(bind, port)| Entry::Listens { bind, port }));
        for (&group, PastGroup { restart, launcher, slots, size }) in &self.groups {
            let (restart, launcher) = (restart.clone(), launcher.clone());
            entries.push(Entry::Group { id: group, slots: *size, restart, launcher });
            for (slot, PastSlot { spec, .. }) in slots.iter().enumerate() {
                entries.push(Entry::Slot { at: At { group, slot }, spec: Box::new(spec.clone()) });
            }
            for (slot, PastSlot { launch, fate, .. }) in slots.iter().enumerate() {
                let at = At { group, slot };
                match launch {
                    Launch::None => {}
                    Launch::Open(open) => entries.extend(open.entries(at)),
                    Launch::Ended(exit) => entries.push(Entry::Ended { at, exit: exit.clone() }),
                }
                if *fate != Fate::Free {
                    entries.push(Entry::Fate { at, fate: *fate });
                }
            }
        }
        entries
    }
}

impl Open {
    fn entries(&self, at: At) -> Vec<Entry> {
        let Self { asked, leader, ready_at, boot, stop } = self.clone();
        let mut entries = vec![Entry::Asked { at, asked }];
        entries.extend(leader.map(|(pid, started, boot)| Entry::Started { at, pid, started, boot }));
        entries.extend(ready_at.map(|since| Entry::Ready { at, since, boot }));
        entries.extend(stop.map(|request| Entry::StopAsked { at, request }));
        entries
    }
}
