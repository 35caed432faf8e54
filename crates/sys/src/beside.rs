use std::io;
use std::os::fd::RawFd;

use crate::call::check;

/// From Linux 5.7 on.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks this process, with all that libraries have registered for that, into a control group (of version 2) whose directory
/// is open under `group`: gives none here, and in the fork the id of who made it.
///
/// That is a copy of this process beside it, which ends at once. So the fork soon belongs to this process's parent, where
/// that is a subreaper, and it is in the group without having been moved there, which would take the kernel milliseconds.
///
/// # Errors
/// This process has other threads, whose locks the copy could wait for; or the kernel does not do it. That nothing could be
/// forked after all does not show.
pub fn fork_beside(group: Option<RawFd>) -> io::Result<Option<u32>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let text = format!("a process with {threads} threads is not copied; end those but one");
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    // This process goes on when the copy has ended.
    let flags = (libc::CLONE_PARENT | libc::CLONE_VFORK) as u64;
    // SAFETY: no flag shares memory or a stack, and the only thread there is goes on in all three. The C library does not
    // hear of the copy, which asks it for nothing but the fork.
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = flags;
        if let Some(group) = group {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::try_from(group).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        }
        let copy = check(libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) as libc::c_int);
        let copy = match copy {
            // What sandboxes answer that do not know clone3.
            Err(error)
                if group.is_none() && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
            {
                check(libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::c_int)
            }
            other => other,
        };
        if copy? > 0 {
            return Ok(None);
        }
        let creator = libc::getpid();
        match libc::fork() {
            0 => Ok(Some(creator as u32)),
            made => libc::_exit(i32::from(made < 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Process;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        let error = fork_beside(None).expect_err("tests have threads");
        assert!(error.to_string().contains("threads is not copied"), "{error}");
    }

    #[test]
    fn a_fork_falls_to_the_parent_of_who_asked_for_it() {
        let (mut pipe, end) = std::io::pipe().expect("a pipe");
        // SAFETY: the child asks for nothing that another thread could hold, and goes at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            crate::become_subreaper().expect("a plain call");
            // SAFETY: as above; here, so that the one above it is a subreaper with one thread.
            let asking = unsafe { libc::fork() };
            if asking == 0 {
                let Ok(Some(creator)) = fork_beside(None) else {
                    // SAFETY: it ends this process and does nothing else.
                    unsafe { libc::_exit(0) }
                };
                while Process::look(std::process::id()).expect("ourselves").parent == creator {
                    std::thread::yield_now();
                }
                let parent = Process::look(std::process::id()).expect("ourselves").parent;
                std::io::Write::write_all(&mut &end, &parent.to_ne_bytes()).expect("room in the pipe");
                // SAFETY: as above.
                unsafe { libc::_exit(0) }
            }
            // SAFETY: as above; all children are waited for, the adopted one too.
            unsafe {
                while libc::wait(std::ptr::null_mut()) > 0 {}
                libc::_exit(0)
            }
        }
        drop(end);
        let mut parent = [0; 4];
        std::io::Read::read_exact(&mut pipe, &mut parent).expect("the fork says who its parent is");
        assert_eq!(i32::from_ne_bytes(parent), child);
        // SAFETY: it takes the zombie of our child away.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
}
