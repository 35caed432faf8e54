//! From clone to execve. The child shares no memory with its parent, but a copy of whatever state
//! the parent's other threads were in: so it makes system calls and nothing else, and everything it
//! needs was prepared before it existed.

use std::ffi::{c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::Stage;
use super::restrict::Restrictions;
use crate::call::check;
use crate::limits::OpenFiles;

/// From Linux 5.7 on.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a child is told; raw, because it must not touch the allocator.
pub(super) struct Plan<'a> {
    pub(super) path: *const c_char,
    /// −1, or the file to execute instead of `path`.
    pub(super) exec_fd: RawFd,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// What becomes 0, 1, 2, …
    pub(super) sources: &'a mut [RawFd],
    /// −1 to stay.
    pub(super) cwd: RawFd,
    pub(super) report: RawFd,
    /// The parent that it must not survive.
    pub(super) parent: Option<u32>,
    /// Once it executes its program it may.
    pub(super) outlives: bool,
    pub(super) open_files: Option<OpenFiles>,
    pub(super) oom_score_adj: Option<&'a [u8]>,
    /// −1, or the control group of version 2 that it is made in.
    pub(super) group: RawFd,
    /// What it writes itself into, to join groups of version 1.
    pub(super) entrances: &'a [RawFd],
    pub(super) restrictions: Restrictions<'a>,
    /// It was not made in its group, and has to move there.
    pub(super) outside: bool,
}

/// Makes the child; only the parent returns, with the child's pid and pidfd: at once, or when the child
/// executes its program or has ended.
pub(super) fn clone(plan: &mut Plan<'_>, until_exec: bool) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: c_int = -1;
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointers are to live locals, and `run` keeps to what is allowed after a fork.
    // No handler of the parent's may run in the child, so signals wait meanwhile.
    let pid = unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let pid = raw_clone(&mut pidfd, until_exec, plan);
        if matches!(pid, Ok(0)) {
            run(plan);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        pid?
    };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Whether the kernel, and whatever stands before it, knows clone3.
pub fn has_clone3() -> bool {
    // SAFETY: without arguments it only says that there are none.
    let done = unsafe { libc::syscall(libc::SYS_clone3, ptr::null::<u8>(), 0) };
    done == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// fork without the handlers that libraries registered for it: they may take locks.
unsafe fn raw_clone(pidfd: &mut c_int, until_exec: bool, plan: &mut Plan<'_>) -> io::Result<c_int> {
    // The kernel itself lets the parent wait; as vfork does, but without sharing memory.
    let flags = libc::CLONE_PIDFD | if until_exec { libc::CLONE_VFORK } else { 0 };
    plan.outside = false;
    // SAFETY: no flag shares memory or a stack; the kernel writes one int through the pointer.
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = flags as u64;
        args.pidfd = ptr::from_mut(pidfd) as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        if plan.group >= 0 {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = plan.group as u64;
        }
        let pid = check(libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) as c_int);
        match pid {
            // What sandboxes answer that do not know clone3, and kernels that do not make it in a group.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::E2BIG)
                ) =>
            {
                plan.outside = plan.group >= 0;
                let flags = flags | libc::SIGCHLD;
                check(libc::syscall(libc::SYS_clone, flags, 0, ptr::from_mut(pidfd), 0, 0) as c_int)
            }
            other => other,
        }
    }
}

/// The child's whole life up to execve.
unsafe fn run(plan: &mut Plan<'_>) -> ! {
    // SAFETY: async-signal-safe calls on prepared memory only.
    unsafe {
        // All that is about to be overwritten is moved out of the way first.
        let targets = plan.sources.len() as RawFd;
        let report = match moved(plan.report, targets) {
            Ok(report) => report,
            Err(_) => libc::_exit(127),
        };
        let (stage, errno) = match prepare(plan, targets) {
            Ok(()) => {
                if plan.exec_fd < 0 {
                    libc::execve(plan.path, plan.argv, plan.envp);
                } else {
                    let flags = libc::AT_EMPTY_PATH;
                    libc::syscall(libc::SYS_execveat, plan.exec_fd, plan.path, plan.argv, plan.envp, flags);
                }
                (Stage::Exec, *libc::__errno_location())
            }
            Err(stage) => (stage, *libc::__errno_location()),
        };
        let mut message = [0; 5];
        message[0] = stage as u8;
        message[1..].copy_from_slice(&errno.to_ne_bytes());
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

unsafe fn prepare(plan: &mut Plan<'_>, targets: RawFd) -> Result<(), Stage> {
    let setup = |_| Stage::Setup;
    // SAFETY: as for `run`.
    unsafe {
        crate::failpoint!("child-before-arming");
        if let Some(parent) = plan.parent {
            die_with(parent).map_err(setup)?;
        }
        check(libc::setsid()).map_err(setup)?;
        join_groups(plan).map_err(|_| Stage::Group)?;
        for source in plan.sources.iter_mut() {
            *source = moved(*source, targets).map_err(setup)?;
        }
        if plan.exec_fd >= 0 {
            plan.exec_fd = moved(plan.exec_fd, targets).map_err(setup)?;
        }
        if plan.cwd >= 0 {
            check(libc::fchdir(plan.cwd)).map_err(|_| Stage::Directory)?;
        }
        for (target, &source) in plan.sources.iter().enumerate() {
            check(libc::dup2(source, target as c_int)).map_err(setup)?;
        }
        if let Some(score) = plan.oom_score_adj {
            write_oom_score(score);
        }
        close_on_exec_from(targets).map_err(setup)?;
        if let Some(limit) = plan.open_files {
            let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)).map_err(setup)?;
        }
        plan.restrictions.limit()?;
        // Only what is ignored survives execve, and a blocked mask does. The kernel's own call is used
        // because the library's refuses the two signals that it keeps for itself.
        let default = [0_u64; 4];
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<u8>(),
                size_of::<u64>(),
            );
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        crate::failpoint!("child-before-exec");
        if plan.outlives {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, 0)).map_err(setup)?;
        }
        // Another identity clears what was armed.
        plan.restrictions.give_up(plan.parent.filter(|_| !plan.outlives))?;
    }
    Ok(())
}

/// Die by SIGKILL with the parent, or now, if that has died before the kernel could notice.
pub(super) unsafe fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: async-signal-safe calls with plain integers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid() != parent as libc::pid_t {
            libc::_exit(127);
        }
    }
    Ok(())
}

/// Groups are joined before anything else that can fail: what a child does there counts there.
unsafe fn join_groups(plan: &Plan<'_>) -> io::Result<()> {
    // SAFETY: the path is static; nothing but a byte is written.
    unsafe {
        for &entrance in plan.entrances {
            check(libc::write(entrance, c"0".as_ptr().cast(), 1) as c_int)?;
        }
        if plan.outside {
            let flags = libc::O_WRONLY | libc::O_CLOEXEC;
            let entrance = check(libc::openat(plan.group, c"cgroup.procs".as_ptr(), flags))?;
            check(libc::write(entrance, c"0".as_ptr().cast(), 1) as c_int)?;
            libc::close(entrance);
        }
    }
    Ok(())
}

/// The same file at a number that no target has.
unsafe fn moved(fd: RawFd, targets: RawFd) -> io::Result<RawFd> {
    if fd >= targets {
        return Ok(fd);
    }
    // SAFETY: duplicates a descriptor.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, targets) })
}

/// A wish, not a condition: where `/proc` is missing the child runs without it.
unsafe fn write_oom_score(score: &[u8]) {
    // SAFETY: the path is static, the bytes are prepared.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, score.as_ptr().cast(), score.len());
            libc::close(fd);
        }
    }
}

unsafe fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: changes descriptor flags only.
    unsafe {
        let flag = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flag) == 0 {
            return Ok(());
        }
        // Before Linux 5.11: one by one.
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()))?;
        let end = limit.assume_init().rlim_cur.min(1 << 20) as RawFd;
        for fd in first..end {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        Ok(())
    }
}
