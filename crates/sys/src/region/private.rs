use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use super::mapping::{Access, Mapping};

/// Bytes of a region that may be written to without anybody else seeing it.
///
/// Pages that were not written to are those of the region: it has to hold still for as long as this lives.
pub struct PrivateView {
    mapping: Mapping,
    /// Where they start in the mapping, which has whole pages.
    start: usize,
}

impl PrivateView {
    pub(super) fn new(file: BorrowedFd<'_>, size: usize, offset: usize, length: usize) -> io::Result<Self> {
        if length == 0 || offset.checked_add(length).is_none_or(|end| end > size) {
            let text = format!("{length} bytes from {offset} are not in a region of {size}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let start = offset % page();
        let mapping = Mapping::new(file, offset - start, start + length, Access::PrivateWrite)?;
        Ok(Self { mapping, start })
    }

    /// Where the bytes are, for who reads and writes them by pointer; valid as long as this lives.
    pub fn pointer(&self) -> *mut u8 {
        self.mapping.pointer(self.start)
    }

    /// How many they are.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one byte")]
    pub fn len(&self) -> usize {
        self.mapping.len() - self.start
    }

    /// Makes all of the bytes this view's own, whatever becomes of the region. False when that cannot be done: there is no memory
    /// for it, or the kernel is older than 5.14.
    pub fn detach(&self) -> bool {
        self.mapping.populate(0, self.mapping.len()).is_ok()
    }
}

fn page() -> usize {
    // SAFETY: asks for a number only.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

impl fmt::Debug for PrivateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateView({} bytes)", self.len())
    }
}
