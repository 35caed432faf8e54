use std::io;
use std::os::fd::RawFd;

use crate::call::check;

#[cfg(target_arch = "x86_64")]
mod sharing;

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
    #[cfg(target_arch = "x86_64")]
    if let Ok(made) = sharing::fork(flags, group) {
        return Ok(made);
    }
    // SAFETY: no flag shares memory or a stack, and the only thread there is goes on in all three. The C library does not
    // hear of the copy, which asks it for nothing but the fork.
    unsafe {
        let mut args = arguments(flags, group)?;
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

fn arguments(flags: u64, group: Option<RawFd>) -> io::Result<libc::clone_args> {
    // SAFETY: all of it are numbers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(group).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    }
    Ok(args)
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

    /// What a child of this process that has one thread ends with.
    fn ends_with(what: impl FnOnce() -> i32) -> i32 {
        let mut status = 0;
        // SAFETY: the child asks for nothing that another thread could hold, and goes at once.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(what())
            }
            libc::waitpid(child, &raw mut status, 0);
        }
        assert!(libc::WIFEXITED(status), "{status}");
        libc::WEXITSTATUS(status)
    }

    /// Of all children of this process, those that it has adopted too, the last.
    fn wait_for_all() -> i32 {
        let (mut status, mut last) = (0, 0);
        // SAFETY: it waits for children, of which this process needs none.
        while unsafe { libc::wait(&raw mut status) } > 0 {
            last = last.max(libc::WEXITSTATUS(status));
        }
        last
    }

    #[test]
    fn a_fork_knows_on_which_processor_it_runs() {
        let asked = || match fork_beside(None) {
            Ok(Some(_)) => {
                let here = |processor: usize| {
                    // SAFETY: a set of processors is numbers.
                    unsafe {
                        let mut set: libc::cpu_set_t = std::mem::zeroed();
                        libc::CPU_SET(processor, &mut set);
                        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) != 0
                            || libc::sched_getcpu() == processor as libc::c_int
                    }
                };
                if (0..8).all(here) { 0 } else { 2 }
            }
            other => i32::from(other.is_err()),
        };
        let subreaper = move || {
            crate::become_subreaper().expect("a plain call");
            // SAFETY: as in `ends_with`.
            if unsafe { libc::fork() } == 0 {
                // SAFETY: it ends this process and does nothing else.
                unsafe { libc::_exit(asked()) }
            }
            wait_for_all()
        };
        assert_eq!(ends_with(subreaper), 0);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn who_may_wait_for_a_lock_of_a_copy_that_was_killed_ends_too() {
        extern "C" fn die() {
            // SAFETY: it ends this process, in which the fork is about to be made.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let asked = || {
            // SAFETY: `die` is there for as long as this process.
            unsafe { libc::pthread_atfork(Some(die), None, None) };
            i32::from(fork_beside(None).is_ok())
        };
        assert_eq!(ends_with(asked), 127);
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
