use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procession_sys::{Region, SeenRegion};

use super::Outgoing;

/// Every region that is mapped here, by its address.
static MAPPED: Mutex<BTreeMap<usize, Weak<Memory>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn mapped() -> MutexGuard<'static, BTreeMap<usize, Weak<Memory>>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) enum Kind {
    /// This process writes it.
    Own(Arc<Region>),
    /// A peer does.
    Seen(SeenRegion),
}

/// A region, with who was told of it. It lives as long as any bytes in it do.
pub(crate) struct Memory {
    kind: Kind,
    /// Never used again for another one.
    pub(crate) id: u64,
    /// Somebody who cannot be asked may still read what is in it: nothing is written over any more.
    stays: AtomicBool,
    /// Links whose peers were offered it.
    offered: Mutex<Vec<Weak<Outgoing>>>,
}

impl Memory {
    pub(crate) fn new(kind: Kind) -> Arc<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Arc::new(Self { kind, id, stays: AtomicBool::new(false), offered: Mutex::default() });
        mapped().insert(memory.address(), Arc::downgrade(&memory));
        memory
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    fn address(&self) -> usize {
        match &self.kind {
            Kind::Own(region) => region.address(),
            Kind::Seen(region) => region.address(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.kind {
            Kind::Own(region) => region.len(),
            Kind::Seen(region) => region.len(),
        }
    }

    pub(crate) fn stays(&self) -> bool {
        self.stays.load(Ordering::Acquire)
    }

    /// What is in it now is not written over any more.
    pub(crate) fn stay(&self) {
        self.stays.store(true, Ordering::Release);
    }

    /// `link` is told when it is not used any more.
    pub(crate) fn offered_on(&self, link: Weak<Outgoing>) {
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered.retain(|link| link.strong_count() > 0);
        offered.push(link);
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Own(region) => region.as_fd(),
            Kind::Seen(region) => region.as_fd(),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Before the mapping goes: then the next one may be at the same address.
        mapped().remove(&self.address());
        let offered = std::mem::take(self.offered.get_mut().unwrap_or_else(PoisonError::into_inner));
        offered.iter().filter_map(Weak::upgrade).for_each(|link| link.retire(self.id));
    }
}

/// Drops a region, which may be the last word on it: large ones go on a thread of their own, because to clear them away takes
/// long enough to hold up a whole process.
pub(crate) fn let_go(memory: Arc<Memory>) {
    const LARGE: usize = 64 << 20;
    if memory.len() > LARGE {
        let thread = std::thread::Builder::new().name("procession-memory".to_owned());
        // Where there is no thread for it, it has just been dropped here.
        let _ = thread.spawn(move || drop(memory));
    }
}

/// The region that `bytes` lie in, and where in it they start. It lives as long as they do.
pub(crate) fn find(bytes: &[u8]) -> Option<(Arc<Memory>, usize)> {
    let start = bytes.as_ptr() as usize;
    let memory = mapped().range(..=start).next_back()?.1.upgrade()?;
    let offset = start - memory.address();
    (offset + bytes.len() <= memory.len()).then_some((memory, offset))
}
