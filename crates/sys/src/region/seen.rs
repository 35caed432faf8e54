use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::mapping::{Access, Mapping};
use super::private::PrivateView;
use crate::call::check;

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A region of another process, which only that one writes to. It is mapped for reading.
///
/// The other process may change bytes while they are read here; whoever reads has to be right about whatever
/// is in them. It cannot take them away.
pub struct SeenRegion {
    file: OwnedFd,
    mapping: Mapping,
}

/// Why a region of another process was not mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedRegion {
    /// It is another kind of file.
    #[error("it is no file in memory of ordinary pages")]
    Kind,
    /// It could be made shorter while it is read, which would end this process.
    #[error("it is not sealed against becoming shorter")]
    Seals,
    /// Its size is not what its owner says.
    #[error("it has {found} bytes, where {said} were said")]
    Size {
        /// What it has.
        found: u64,
        /// What was said.
        said: u64,
    },
    /// The kernel has no address space, memory or descriptor left.
    #[error("it cannot be mapped: {0}")]
    Io(#[from] io::Error),
}

impl SeenRegion {
    /// Maps `file`, which somebody else has made and says to be `bytes` long.
    ///
    /// # Errors
    /// It is not what [`super::Region::create`] makes, or cannot be mapped.
    pub fn open(file: OwnedFd, bytes: u64) -> Result<Self, RefusedRegion> {
        if kind(file.as_fd())? != TMPFS_MAGIC {
            return Err(RefusedRegion::Kind);
        }
        // SAFETY: asks for a number only.
        let seals = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })
            .map_err(|_| RefusedRegion::Kind)?;
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(RefusedRegion::Seals);
        }
        let file = File::from(file);
        let found = file.metadata()?.len();
        let length = usize::try_from(found).ok().filter(|&length| found == bytes && length > 0);
        let length = length.ok_or(RefusedRegion::Size { found, said: bytes })?;
        let file = OwnedFd::from(file);
        let mapping = Mapping::new(file.as_fd(), 0, length, Access::SharedRead)?;
        Ok(Self { file, mapping })
    }

    /// Bytes in it.
    #[expect(clippy::len_without_is_empty, reason = "a mapping has at least one byte")]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Its address in this process.
    pub fn address(&self) -> usize {
        self.mapping.address()
    }

    /// The `length` bytes from `offset`; none where it has not so many.
    pub fn bytes(&self, offset: u64, length: u64) -> Option<&[u8]> {
        let end = usize::try_from(offset.checked_add(length)?).ok()?;
        if length == 0 || end > self.len() {
            return None;
        }
        let length = length as usize;
        // SAFETY: in the mapping, which cannot become shorter; any byte is valid, and whoever reads them is right
        // about all of them, as the documentation asks.
        Some(unsafe { std::slice::from_raw_parts(self.mapping.pointer(end - length), length) })
    }

    /// The same bytes once more, to be written to: what is written is seen in this view alone, and costs memory page by page.
    ///
    /// # Errors
    /// It has not so many bytes, or they cannot be mapped once more.
    pub fn private_view(&self, offset: usize, length: usize) -> io::Result<PrivateView> {
        PrivateView::new(self.file.as_fd(), self.len(), offset, length)
    }
}

/// The type of the file system that a file is in.
fn kind(file: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: all-zero is a valid statfs, which the kernel fills.
    let found = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        check(libc::fstatfs(file.as_raw_fd(), &raw mut found))?;
        found
    };
    Ok(found.f_type as u64)
}

impl AsFd for SeenRegion {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for SeenRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeenRegion({} bytes)", self.len())
    }
}
