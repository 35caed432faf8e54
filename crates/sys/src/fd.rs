use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::call::{check, retry};

/// A pipe: its read end, its write end; both are closed on exec.
///
/// # Errors
/// No file descriptor left (EMFILE, ENFILE).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the array has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made both for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn open(path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL and outlives the call.
    let fd = retry(|| check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A directory, to be entered later whatever its path then means.
///
/// # Errors
/// It is missing, not a directory, or not reachable.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    open(path, libc::O_PATH | libc::O_DIRECTORY)
}

/// `/dev/null`, for reading and writing.
///
/// # Errors
/// It is missing, or no file descriptor is left.
pub fn open_null() -> io::Result<OwnedFd> {
    open(Path::new("/dev/null"), libc::O_RDWR)
}

/// Takes over the descriptor that a parent passed under this number, for a program's start.
///
/// # Errors
/// Nothing was passed under it.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a number, which fails unless it is open; what the caller gets is the
    // duplicate, and nobody but the passing parent ever knew the original.
    unsafe {
        let fd = check(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3))?;
        libc::close(number);
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Whether `fd` is open in this process.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: asks for flags only, whatever the number means.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Makes reads and writes on `fd`, and on all its duplicates, return at once.
///
/// # Errors
/// None is expected.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; only its status flags change.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)).map(drop)
    }
}

/// How many bytes lie in a pipe, ready to be read.
///
/// # Errors
/// `fd` is not a pipe, a socket or a terminal.
pub fn bytes_waiting(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}
