use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use procession_sys::{Region, Slot, VacantSlot, total_memory};
use tokio::runtime::Handle;

use super::memory::{Kind, Memory, let_go};

/// What a region has at least: then a process has few of them, and each costs every reader a descriptor and a mapping.
const REGION: usize = 64 << 20;
/// How much a process shares at most, beside what is still read of what it has given up: more is copied as before. Reuse makes it fast,
/// and that needs no more than what is on its way; a machine that is smaller has other uses for its memory.
const MOST: usize = 2 << 30;
const PART_OF_MEMORY: usize = 8;
/// How long what nobody uses keeps its memory at least, and half of how long at most.
const IDLE: Duration = Duration::from_secs(5);
/// How long a sender waits for readers that give nothing back.
const PATIENCE: Duration = Duration::from_secs(5);

static POOL: OnceLock<Pool> = OnceLock::new();
/// The process that the pool belongs to; 0 before there is one.
static OWNER: AtomicU32 = AtomicU32::new(0);

struct Pool {
    most: usize,
    state: Mutex<State>,
    given_back: Condvar,
}

struct State {
    regions: Vec<Shelf>,
    /// Since when all is taken, or when something was given back last while it was.
    full: Option<Instant>,
    /// Where time is kept for what is idle; none before the first link.
    clock: Option<Handle>,
    /// When somebody looks next at what is idle.
    next_look: Option<Instant>,
}

#[derive(Clone)]
struct Shelf {
    memory: Arc<Memory>,
    region: Arc<Region>,
    /// Since when it is vacant.
    idle: Option<Instant>,
}

fn pool() -> &'static Pool {
    POOL.get_or_init(|| {
        OWNER.store(std::process::id(), Ordering::Release);
        let state = State { regions: Vec::new(), full: None, clock: None, next_look: None };
        let most = (total_memory() / PART_OF_MEMORY).min(MOST);
        Pool { most, state: Mutex::new(state), given_back: Condvar::new() }
    })
}

/// Room for `length` bytes in shared memory, to be filled and sent. When all of it is taken this waits for what readers give back, until
/// none of them has for 5 s. None when there is no room, or no memory: then any other memory will do.
pub fn take_slot(length: usize) -> Option<Vacant> {
    let pool = pool();
    if OWNER.load(Ordering::Acquire) != std::process::id() {
        return None; // forked: what is in the pool belongs to the parent
    }
    match pool.take(length) {
        Ok(vacant) => vacant,
        Err(error) => {
            tracing::debug!(%error, "no memory is shared: a payload is copied");
            None
        }
    }
}

/// From now on what is idle is looked after on the caller's runtime.
pub(crate) fn keep_time() {
    pool().state().clock = Some(Handle::current());
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, length: usize) -> io::Result<Option<Vacant>> {
        let size = length.max(REGION.min(self.most));
        if size > self.most {
            return Ok(None);
        }
        loop {
            let shelves = self.state().usable();
            for Shelf { memory, region, .. } in shelves {
                // Pages that were never used are made now, which takes its time: nobody is kept out meanwhile.
                if let Some(slot) = region.take(length)? {
                    self.state().full = None;
                    return Ok(Some(Vacant { slot, memory }));
                }
            }
            let mut state = self.state();
            if state.size() + size <= self.most {
                let region = Region::create(c"procession-payloads", size)?;
                let memory = Memory::new(Kind::Own(region.clone()));
                state.regions.push(Shelf { memory, region, idle: None });
                continue;
            }
            let since = *state.full.get_or_insert_with(Instant::now);
            let Some(left) = PATIENCE.checked_sub(since.elapsed()) else { return Ok(None) };
            drop(self.given_back.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Gives the memory back of regions that were idle for long, and of those that cannot be used again.
    fn trim(&self) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut state = self.state();
        state.regions.retain_mut(|shelf| {
            let vacant = shelf.region.is_vacant();
            shelf.idle = if vacant { shelf.idle.or(Some(now)) } else { None };
            let goes =
                shelf.memory.stays() || shelf.idle.is_some_and(|since| now.duration_since(since) >= IDLE);
            if goes {
                gone.push(shelf.clone());
            }
            !goes
        });
        let waits = state.regions.iter().any(|shelf| shelf.idle.is_some());
        state.next_look = None;
        if waits {
            state.look_later();
        }
        drop(state);
        gone.into_iter().for_each(|shelf| {
            drop(shelf.region);
            let_go(shelf.memory);
        });
    }
}

impl State {
    /// The regions from which slots may be taken. Those that must not be written to any more are forgotten.
    fn usable(&mut self) -> Vec<Shelf> {
        self.regions.retain(|shelf| !shelf.memory.stays());
        self.regions.clone()
    }

    fn size(&self) -> usize {
        self.regions.iter().map(|shelf| shelf.region.len()).sum()
    }

    /// Sees to it that somebody looks after [`IDLE`].
    fn look_later(&mut self) {
        let now = Instant::now();
        // A look that is overdue was to happen on a runtime that has ended.
        if self.next_look.is_some_and(|next| now < next + IDLE) {
            return;
        }
        let Some(clock) = &self.clock else { return };
        self.next_look = Some(now + IDLE);
        clock.spawn(async {
            tokio::time::sleep(IDLE).await;
            pool().trim();
        });
    }
}

/// Room in shared memory. It holds what its last user left in it.
pub struct Vacant {
    slot: VacantSlot,
    memory: Arc<Memory>,
}

impl Vacant {
    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.slot.bytes()
    }

    /// What was written into it, to be sent; the room is free again when nobody reads it any more.
    pub fn filled(self) -> Bytes {
        Bytes::from_owner(Filled { slot: Some(self.slot.filled()), memory: self.memory })
    }
}

struct Filled {
    /// There until the drop.
    slot: Option<Slot>,
    memory: Arc<Memory>,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.slot.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if self.memory.stays() {
            return self.slot.take().map_or((), Slot::abandon);
        }
        self.slot = None;
        let pool = pool();
        let mut state = pool.state();
        state.full = state.full.map(|_| Instant::now());
        if let Some(shelf) = state.regions.iter_mut().find(|shelf| shelf.memory.id == self.memory.id)
            && shelf.region.is_vacant()
        {
            shelf.idle = Some(Instant::now());
            state.look_later();
        }
        drop(state);
        pool.given_back.notify_all();
    }
}
