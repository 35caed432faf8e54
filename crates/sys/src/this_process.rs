//! What a process sets or asks about itself.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::call::check;

/// Makes this process the new parent of descendants whose own parent has ended.
///
/// # Errors
/// None is expected.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: prctl with plain integers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// The name that process lists show; the kernel keeps 15 bytes of it.
///
/// # Errors
/// None is expected.
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads at most 16 bytes, up to the NUL.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// Ignores `signal` from now on.
///
/// # Errors
/// It is not a signal that can be ignored.
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Bytes of memory that the machine has.
pub fn total_memory() -> usize {
    // SAFETY: asks for numbers only.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    usize::try_from(pages).unwrap_or(0).saturating_mul(usize::try_from(size).unwrap_or(0))
}

/// How ready the kernel is to sacrifice this process when memory runs out: −1000..=1000.
///
/// # Errors
/// `/proc` is not mounted.
pub fn oom_score_adj() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim().parse().map_err(io::Error::other)
}

/// Readable when a child has changed its state.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Forgets what has been signalled so far.
    pub fn clear(&self) {
        let mut info = MaybeUninit::<[libc::signalfd_siginfo; 8]>::uninit();
        // SAFETY: the buffer is writable and as large as said; its content is never looked at.
        while unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size_of_val(&info)) } > 0 {}
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes SIGCHLD out of the ordinary delivery, for the calling thread, and into a descriptor.
///
/// # Errors
/// No file descriptor left.
pub fn watch_child_signals() -> io::Result<SignalFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that the calls after it read.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()))?;
        check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
    };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
}
