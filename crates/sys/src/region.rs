//! Memory that this process shares with others, and hands out in slots.

mod free_list;
mod mapping;
mod private;
mod seen;

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::call::check;
use free_list::FreeList;
use mapping::Mapping;
pub use private::PrivateView;
pub use seen::{RefusedRegion, SeenRegion};

/// What slots are rounded up to: so many bytes are mapped by one fault of a reader.
const GRAIN: usize = 64 << 10;
/// Since Linux 6.3; older kernels refuse it, and need it not.
const MFD_NOEXEC_SEAL: libc::c_uint = 0x8;

/// A file in memory which this process alone writes, through a mapping that it has from the start: no other one can
/// map it for writing, and nobody can make it shorter or longer.
pub struct Region {
    file: OwnedFd,
    mapping: Mapping,
    state: Mutex<State>,
}

struct State {
    free: FreeList,
    /// Below this every page is there.
    warm: usize,
}

impl Region {
    /// A region of `bytes`, rounded up. Its pages come into being with their first use.
    ///
    /// # Errors
    /// No memory, address space or descriptor left, or a kernel before 5.1.
    pub fn create(name: &CStr, bytes: usize) -> io::Result<Arc<Self>> {
        let length = bytes.checked_next_multiple_of(GRAIN).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = File::from(create(name)?);
        file.set_len(length as u64)?;
        let file = OwnedFd::from(file);
        let mapping = Mapping::new(file.as_fd(), 0, length, mapping::Access::SharedWrite)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;
        // SAFETY: the descriptor is open and allows sealing.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        let state = Mutex::new(State { free: FreeList::new(length), warm: 0 });
        Ok(Arc::new(Self { file, mapping, state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for `length` bytes, at least one, which nobody else gets as long as it lives; none when there is none.
    ///
    /// # Errors
    /// There is room, and no memory for it.
    pub fn take(self: &Arc<Self>, length: usize) -> io::Result<Option<VacantSlot>> {
        let room = length.max(1).checked_next_multiple_of(GRAIN).ok_or(io::ErrorKind::OutOfMemory)?;
        let (start, warm) = {
            let mut state = self.state();
            let Some(start) = state.free.take(room) else { return Ok(None) };
            (start, state.warm)
        };
        let slot = VacantSlot(Slot { region: self.clone(), start, length, room });
        let end = start + room;
        if end > warm {
            // All at once it costs half of what it does page by page; and want of memory is an error here, where
            // a write to a page that cannot be had would end the process.
            let from = warm.max(start);
            match self.mapping.populate(from, end - from) {
                // An older kernel: each page comes with the first write to it.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => other?,
            }
            let mut state = self.state();
            if start <= state.warm {
                state.warm = state.warm.max(end);
            }
        }
        Ok(Some(slot))
    }

    /// Whether no slot is taken.
    pub fn is_vacant(&self) -> bool {
        self.state().free.is_whole(self.len())
    }

    /// Bytes in it.
    #[expect(clippy::len_without_is_empty, reason = "a mapping has at least one page")]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Its address in this process.
    pub fn address(&self) -> usize {
        self.mapping.address()
    }

    /// A view of its own on `length` bytes from `offset`, as of [`SeenRegion::private_view`].
    ///
    /// # Errors
    /// As there.
    pub fn private_view(&self, offset: usize, length: usize) -> io::Result<PrivateView> {
        PrivateView::new(self.file.as_fd(), self.len(), offset, length)
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes)", self.len())
    }
}

fn create(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends in NUL and outlives the call.
    let make = |flags| check(unsafe { libc::memfd_create(name.as_ptr(), flags) });
    let fd = match make(flags | MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => make(flags),
        other => other,
    }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A slot that is being filled: it holds what its last user left in it.
#[derive(Debug)]
pub struct VacantSlot(Slot);

impl VacantSlot {
    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the range belongs to this slot alone until it is dropped, and `&mut self` is its only user here;
        // other processes cannot write to it. Any byte is valid.
        unsafe { std::slice::from_raw_parts_mut(self.0.pointer(), self.0.length) }
    }

    /// From now on it is only read.
    pub fn filled(self) -> Slot {
        self.0
    }
}

/// A part of a region that holds what was written into it for as long as it lives.
pub struct Slot {
    region: Arc<Region>,
    start: usize,
    length: usize,
    room: usize,
}

impl Slot {
    fn pointer(&self) -> *mut u8 {
        self.region.mapping.pointer(self.start)
    }

    /// Its room is never used again: somebody may read it for as long as they like.
    pub fn abandon(mut self) {
        self.room = 0;
    }
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped as long as the region lives; nobody writes to it before the slot is dropped.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.length) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.room > 0 {
            self.region.state().free.give_back(self.start, self.room);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} bytes at {} of {:?})", self.length, self.start, self.region)
    }
}
