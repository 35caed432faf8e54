use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use crate::call::{check, retry};
use crate::{Watch, poll};

const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 4;
/// `_IOWR(0xff, 11, struct pidfd_info)` in its first version.
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// The first version of the kernel's `struct pidfd_info`.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// How a process ended, as its parent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned.
    Exited {
        /// 0..=255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether a core was written.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// What wait writes.
    pub(crate) fn from_wait(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Exited { code: libc::WEXITSTATUS(status) }
        }
    }
}

/// One process, for good: unlike a pid it never comes to mean another one.
///
/// It is readable, for poll and its kin, once the whole process has ended.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// No such process, or no file descriptor left.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: plain integers go in, a fresh descriptor or −1 comes out.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        check(fd as libc::c_int)?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// This process.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn own() -> io::Result<Self> {
        Self::open(std::process::id())
    }

    /// Sends `signal`; 0 only asks whether it could be sent.
    ///
    /// # Errors
    /// The process has been reaped (ESRCH), or is not ours to signal (EPERM).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.signal_with(signal, 0)
    }

    /// Sends `signal` to all members of the process group that the process led or leads, at once;
    /// a later group with the same number is safe.
    ///
    /// # Errors
    /// The kernel is older than Linux 6.9 (EINVAL), or the group is gone (ESRCH).
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        self.signal_with(signal, PIDFD_SIGNAL_PROCESS_GROUP)
    }

    fn signal_with(&self, signal: i32, flags: libc::c_uint) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let no_info: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: the descriptor is open; without a siginfo the kernel fills in one like kill's.
        let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_info, flags) };
        check(done as libc::c_int).map(drop)
    }

    /// A duplicate of the process's descriptor `number`.
    ///
    /// # Errors
    /// It has none of that number, or may not be traced by us (EPERM).
    pub fn duplicate(&self, number: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: plain integers go in, a fresh descriptor or −1 comes out.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) };
        check(fd as libc::c_int)?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    /// Whether the process has ended, reaped or not.
    ///
    /// # Errors
    /// The kernel had no memory to look.
    pub fn has_ended(&self) -> io::Result<bool> {
        let mut watch = [Watch::readable(self.as_fd())];
        poll(&mut watch, Some(Duration::ZERO))?;
        Ok(watch[0].is_ready())
    }

    /// Whether this kernel tells how a process ended that is not our child: from Linux 6.15 on.
    pub fn tells_status() -> bool {
        static TELLS: OnceLock<bool> = OnceLock::new();
        *TELLS.get_or_init(|| {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
            (numbers.next(), numbers.next()) >= (Some(6), Some(15))
        })
    }

    /// How the process ended, child of ours or not; none as long as it is not reaped, and where
    /// [`Self::tells_status`] does not hold.
    pub fn told_status(&self) -> Option<ExitStatus> {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the descriptor is open, and the request carries the size of the structure it fills.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        if done == -1 || info.mask & PIDFD_INFO_EXIT == 0 {
            return None;
        }
        Some(ExitStatus::from_wait(info.exit_code))
    }

    /// The status of a child that has ended, which stays there to be reaped.
    ///
    /// # Errors
    /// It is not our child, or somebody else has reaped it (ECHILD).
    pub fn peek(&self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(libc::WNOHANG | libc::WNOWAIT)
    }

    /// Takes the status of a child that has ended, and so its zombie away.
    ///
    /// # Errors
    /// As for [`Self::peek`].
    pub fn reap(&self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(libc::WNOHANG)
    }

    /// Blocks until the child has ended, and reaps it.
    ///
    /// # Errors
    /// As for [`Self::peek`].
    pub fn wait(&self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(0)
    }

    fn wait_with(&self, flags: libc::c_int) -> io::Result<Option<ExitStatus>> {
        let found = wait_id(libc::P_PIDFD, self.0.as_raw_fd() as libc::id_t, flags)?;
        Ok(found.map(|(_, status)| status))
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

pub(crate) fn wait_id(
    kind: libc::idtype_t,
    id: libc::id_t,
    flags: libc::c_int,
) -> io::Result<Option<(u32, ExitStatus)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is writable and of the right size.
    retry(|| check(unsafe { libc::waitid(kind, id, info.as_mut_ptr(), libc::WEXITED | flags) }))?;
    // SAFETY: zeroed bytes are a valid siginfo, and waitid writes only valid ones.
    let info = unsafe { info.assume_init() };
    // SAFETY: after a waitid that succeeded these are the fields of a SIGCHLD, or zeroes.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status = match info.si_code {
        libc::CLD_EXITED => ExitStatus::Exited { code: status },
        code => ExitStatus::Signaled { signal: status, core_dumped: code == libc::CLD_DUMPED },
    };
    Ok(Some((pid as u32, status)))
}
