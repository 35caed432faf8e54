use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::call::check;

/// Since Linux 6.3; older kernels refuse it, and need it not.
const MFD_EXEC: libc::c_uint = 0x10;

fn memfd(name: &CStr, flags: libc::c_uint, content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in NUL and outlives the call.
    let fd = check(unsafe {
        libc::memfd_create(name.as_ptr(), flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(content)?;
    file.rewind()?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: the descriptor is open and allows sealing.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file.into())
}

/// A file in memory that holds `content`, at its start, and can never change.
///
/// # Errors
/// No memory or no file descriptor left.
pub fn sealed_memfd(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    memfd(name, 0, content)
}

/// The same for a program that is to be executed.
///
/// # Errors
/// As above, and EACCES where the system forbids executable memory files.
pub fn executable_memfd(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    match memfd(name, MFD_EXEC, content) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => memfd(name, 0, content),
        other => other,
    }
}
