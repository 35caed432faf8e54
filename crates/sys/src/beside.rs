use std::io;
use std::os::fd::RawFd;

use crate::call::check;

/// From Linux 5.7 on.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a copy of this process that is a child of its parent, in the control group (of version 2) whose directory `group` is
/// open under; gives 0 in the copy, and its id here once it has ended or executes something.
///
/// No handler runs that libraries have registered for forks, and the C library does not hear of it: the copy is to fork
/// at once as usual, and end. What it has forked is in that group without having been moved there, which would
/// take the kernel milliseconds; and has this process's parent for its own, where that is a subreaper.
///
/// # Errors
/// This process has other threads, whose locks the copy could wait for; or the kernel does not do it.
pub fn clone_beside(group: Option<RawFd>) -> io::Result<u32> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let text = format!("a process with {threads} threads is not copied; end those but one");
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    let flags = (libc::CLONE_PARENT | libc::CLONE_VFORK) as u64;
    // SAFETY: no flag shares memory or a stack, and the only thread there is goes on in both.
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = flags;
        if let Some(group) = group {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::try_from(group).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        }
        let pid = check(libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) as libc::c_int);
        let pid = match pid {
            // What sandboxes answer that do not know clone3.
            Err(error)
                if group.is_none() && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
            {
                check(libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::c_int)
            }
            other => other,
        }?;
        Ok(pid as u32)
    }
}
