use std::collections::HashSet;
use std::time::{Duration, Instant};

use procession_sys::{ENOUGH_EMPTY_LOOKS, Process, Snapshot};

/// Between two looks for strays: the first pause, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How far a guard is with taking over what a keeper has left.
pub(crate) enum Adopting {
    /// It has not been told everything that runs.
    Asking,
    /// What carries the mark of a launch that does not run is killed. What has none may belong to one that
    /// does, and is left as long as anything runs.
    Clearing { next: Instant, pause: Duration, empty: u32, asked: Vec<u64> },
    /// It is a keeper as any other.
    Done,
}

impl Adopting {
    pub(crate) fn clear() -> Self {
        Self::Clearing { next: Instant::now(), pause: PAUSES.0, empty: 0, asked: Vec::new() }
    }

    pub(crate) fn is_asking(&self) -> bool {
        matches!(self, Self::Asking)
    }

    /// When [`Self::run`] has something to do next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self {
            Self::Clearing { next, .. } => Some(*next),
            _ => None,
        }
    }

    /// A kill of what has ended already is done when no stray is left; false when that is so now.
    pub(crate) fn ask(&mut self, id: u64) -> bool {
        match self {
            Self::Clearing { asked, .. } => {
                asked.push(id);
                true
            }
            _ => false,
        }
    }

    /// Nothing is due before `delay` is over.
    pub(crate) fn postpone(&mut self, delay: Duration) {
        if let Self::Clearing { next, .. } = self {
            *next = (*next).max(Instant::now() + delay);
        }
    }

    /// One round over the strays in `all`, if it was due when that look `began`; gives those whose kill is done
    /// now. `owned` is what belongs to procs that run.
    pub(crate) fn run(&mut self, all: &Snapshot, began: Instant, owned: impl Iterator<Item = u32>) -> Vec<u64> {
        let Self::Clearing { next, pause, empty, asked } = self else { return Vec::new() };
        if *next > began {
            return Vec::new();
        }
        let owned: HashSet<u32> = owned.collect();
        let below = all.descendants([std::process::id()]);
        let is_stray = |p: &&Process| p.is_alive() && !owned.contains(&p.pid) && p.marker().is_some();
        let strays: Vec<_> = below.into_iter().filter(is_stray).collect();
        strays.iter().for_each(|stray| stray.signal(libc::SIGKILL));
        *empty = if strays.is_empty() { *empty + 1 } else { 0 };
        if *empty == ENOUGH_EMPTY_LOOKS {
            let asked = std::mem::take(asked);
            *self = Self::Done;
            return asked;
        }
        *next = Instant::now() + *pause;
        *pause = (*pause * 2).min(PAUSES.1);
        Vec::new()
    }
}
