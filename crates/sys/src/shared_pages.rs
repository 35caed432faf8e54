use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use crate::call::retry;

/// The beginning of a file as memory that survives this process, however it ends.
///
/// It is only ever seen as atomic words: other processes that map the file too cannot do more to this
/// one than to write other numbers. One that makes the file shorter ends it with SIGBUS at the next
/// access, so map only what nobody else has a reason to cut.
pub struct SharedPages {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: what it points to is mapped until the drop, and is accessed by atomic operations alone.
unsafe impl Send for SharedPages {}
// SAFETY: as above.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Maps the first `bytes` of `file`, which has to be open for reading and writing.
    ///
    /// # Errors
    /// The file is shorter, or cannot be mapped.
    pub fn map(file: &File, bytes: usize) -> io::Result<Self> {
        let words = bytes / size_of::<u64>();
        if words == 0 || file.metadata()?.len() < bytes as u64 {
            let why = format!("the file is shorter than the {bytes} bytes that are to be mapped");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: asks for a new mapping wherever there is room; nothing that exists is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, words })
    }

    /// All of it.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page aligned, as long as said, and lives as long as `self`; any bits are
        // a valid u64.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        let bytes = self.words * size_of::<u64>();
        // SAFETY: it is what `map` got, and nobody can refer to it any more.
        let _cannot_fail =
            retry(|| crate::call::check(unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) }));
    }
}

impl fmt::Debug for SharedPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPages({} words)", self.words)
    }
}
