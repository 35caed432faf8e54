//! Looks at all processes, for what procs have left and for those that are to be terminated. A look takes
//! milliseconds where there are many processes, and nobody who waits for an exit waits for one.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use procession_sys::{self as sys, LOOK_AGAIN, Looking, Snapshot};

use super::{Keeper, kill_descendants};
use crate::protocol::Reply;

/// How many processes are looked at before all else gets its turn, and between two looks at whether a child has ended.
const STEP: usize = 32;
const STRIDE: usize = 4;

/// A look that is under way.
pub(super) struct Look {
    looking: Looking,
    began: Instant,
    /// What is asked for later may have begun where this look was already.
    terminations: Vec<u64>,
    /// A tree was due when it began, and not only a termination.
    due: bool,
}

impl Keeper {
    /// Goes a step on with the look that is under way, or begins one when it is time for that.
    pub(super) fn look_after_trees(&mut self) {
        let Some(mut look) = self.look.take().or_else(|| self.begin_look()) else { return };
        // For the file of one process.
        drop(self.reserve.pop());
        match self.step(&mut look.looking) {
            Ok(None) => {
                sys::failpoint!("keeper-looking");
                self.look = Some(look);
            }
            Ok(Some(all)) => {
                self.finish_look(&all, look);
                if !self.terminations.is_empty() {
                    self.look = self.begin_look();
                }
            }
            Err(_) => {
                self.terminations.extend(look.terminations);
                self.postpone_look();
            }
        }
    }

    fn step(&self, looking: &mut Looking) -> io::Result<Option<Snapshot>> {
        // At the end nothing else matters.
        if self.ending {
            return looking.go_on(usize::MAX);
        }
        for _ in (0..STEP).step_by(STRIDE) {
            if let Some(all) = looking.go_on(STRIDE)? {
                return Ok(Some(all));
            }
            let mut ended = [sys::Watch::readable(self.signals.as_fd())];
            sys::poll(&mut ended, Some(Duration::ZERO))?;
            if ended[0].is_ready() {
                break;
            }
        }
        Ok(None)
    }

    fn begin_look(&mut self) -> Option<Look> {
        let began = Instant::now();
        let times = self.kills.next_due().into_iter().chain(self.adopting.next_due());
        let due = times.min().is_some_and(|due| due <= began);
        if !due && self.terminations.is_empty() {
            return None;
        }
        drop(self.reserve.pop());
        let look = Looking::begin().map(|looking| {
            let terminations = std::mem::take(&mut self.terminations);
            Look { looking, began, terminations, due }
        });
        look.inspect_err(|_: &io::Error| self.postpone_look()).ok()
    }

    fn postpone_look(&mut self) {
        self.kills.postpone(LOOK_AGAIN);
        self.adopting.postpone(LOOK_AGAIN);
    }

    fn finish_look(&mut self, all: &Snapshot, look: Look) {
        let Look { looking, began, terminations, due } = look;
        drop(looking);
        self.reserve.clear();
        for id in terminations {
            if let Some(proc) = self.procs.get_mut(&id) {
                proc.tree.signal(libc::SIGTERM, all);
            }
            self.control.send(Reply::Signalled { id });
        }
        if due {
            for reply in self.kills.run(all, began, |id| self.procs.contains_key(&id)) {
                self.control.send(reply);
            }
            let owned = self.procs.values_mut().flat_map(|proc| proc.members(all));
            for id in self.adopting.run(all, began, owned) {
                self.control.send(Reply::Killed { id });
            }
            // Without procs nobody owns what is left, whatever it made of its session and environment.
            if self.procs.is_empty() && !self.forks.is_busy() {
                let servers: Vec<u32> = self.forks.pids().collect();
                kill_descendants(all, &servers);
            }
        }
    }
}
