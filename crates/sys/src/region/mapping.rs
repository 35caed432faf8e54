use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use crate::call::{check, retry};

/// Since Linux 5.14; older kernels refuse it.
const MADV_POPULATE_WRITE: libc::c_int = 23;

/// How a mapping may be used, and who sees what is written.
#[derive(Clone, Copy)]
pub(super) enum Access {
    SharedWrite,
    SharedRead,
    /// What is written is seen here alone.
    PrivateWrite,
}

/// A part of a file as memory.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is mapped until the drop, and what is done with the memory is its owner's concern.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file` from `offset`, which is a multiple of the size of a page.
    pub(super) fn new(
        file: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        access: Access,
    ) -> io::Result<Self> {
        let (protection, flags) = match access {
            Access::SharedWrite => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
            Access::SharedRead => (libc::PROT_READ, libc::MAP_SHARED),
            Access::PrivateWrite => {
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            }
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: asks for a new mapping wherever there is room; nothing that exists is touched.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, file.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, length })
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    /// The byte at `offset`, which has to be in it.
    pub(super) fn pointer(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.length, "byte {offset} of {}", self.length);
        // SAFETY: within the mapping, as just seen.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Gives every page of `length` bytes from `offset` memory of its own, for writing.
    ///
    /// # Errors
    /// There is not enough, or EINVAL: the kernel cannot do that at once.
    pub(super) fn populate(&self, offset: usize, length: usize) -> io::Result<()> {
        assert!(offset + length <= self.length, "{length} bytes from {offset} of {}", self.length);
        let start = self.pointer(offset).cast();
        // SAFETY: the range is in the mapping, and what it holds stays as it is.
        retry(|| check(unsafe { libc::madvise(start, length, MADV_POPULATE_WRITE) })).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is what `new` got, and nobody can refer to it any more.
        let _cannot_fail = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
