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
/// What this process opened itself is refused: it is closed on exec, which nothing that came through
/// an exec can be.
///
/// # Errors
/// Nothing was passed under it, or it was taken over before.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let refused = |why| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} {why}"));
    if number <= libc::STDERR_FILENO {
        return Err(refused("is a standard one, which stays where it is"));
    }
    // SAFETY: asks for flags only, whatever the number means.
    if check(unsafe { libc::fcntl(number, libc::F_GETFD) })? & libc::FD_CLOEXEC != 0 {
        return Err(refused("was opened by this process, and belongs to whoever did"));
    }
    // SAFETY: it came from the passing parent, so nobody here owns the number but who takes it over
    // now; what the caller gets is a duplicate, closed on exec, which is never taken over again.
    unsafe {
        let fd = check(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3))?;
        libc::close(number);
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// How many bytes a pipe holds before its writer waits.
///
/// # Errors
/// `fd` is not a pipe.
pub fn pipe_capacity(fd: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: asks for a number only.
    let size = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// Lets a pipe hold `bytes` before its writer waits.
///
/// # Errors
/// `fd` is not a pipe, or its user may have no more (EPERM).
pub fn enlarge_pipe(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: plain integers go in; what the pipe holds stays in it.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) }).map(drop)
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
