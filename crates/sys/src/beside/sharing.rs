//! The copy that shares this process's memory, as one that is about to execute a program does, and forks instead.

use std::arch::asm;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use super::arguments;

/// What the C library signs its restartable sequences with on this architecture, and how long what it registers for them is at least.
const SIGNATURE: libc::c_uint = 0x5305_3053;
const LENGTH: libc::c_uint = 32;

/// As [`super::fork_beside`], with these flags, of which one has this process wait until the copy has ended.
///
/// # Errors
/// The kernel does not do it.
pub(super) fn fork(flags: u64, group: Option<RawFd>) -> io::Result<Option<u32>> {
    let mut args = arguments(flags | libc::CLONE_VM as u64, group)?;
    let sequences = sequences();
    let mut forked: libc::c_int = 0;
    let (result, copy): (isize, u64);
    // SAFETY: the copy runs on this stack, below what is in use here, while this process waits. All that it does before it ends is
    // in these lines, so that nothing which the compiler has put on the stack for what follows is overwritten. What the C library
    // does for the fork it does to memory of its own, as if this process had asked for it. The fork has a stack of its own.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, {who}",
            "syscall",
            "mov r14d, eax",
            "call r12",
            "movsxd rax, eax",
            "test rax, rax",
            "jz 2f",
            "mov dword ptr [r13], eax",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            who = const libc::SYS_getpid,
            exit = const libc::SYS_exit_group,
            in("rdi") &raw mut args,
            in("rsi") size_of_val(&args),
            in("r12") libc::fork as unsafe extern "C" fn() -> libc::pid_t,
            in("r13") &raw mut forked,
            inout("r14") 0_u64 => copy,
            inlateout("rax") libc::SYS_clone3 as isize => result,
            clobber_abi("C"),
        );
    }
    match result {
        0 => {
            register(sequences);
            Ok(Some(copy as u32))
        }
        error @ ..0 => Err(io::Error::from_raw_os_error(error.unsigned_abs() as i32)),
        // SAFETY: it ends this process, in which the C library may wait for a lock for ever.
        _ if forked == 0 => unsafe { libc::_exit(127) },
        _ => Ok(None),
    }
}

/// Where the C library has its restartable sequences registered for this thread; none where it has none.
fn sequences() -> Option<usize> {
    static OFFSET: OnceLock<Option<isize>> = OnceLock::new();
    let find = || {
        // SAFETY: both are variables of the C library, which are set before any program begins.
        unsafe {
            let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
            let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<libc::c_uint>();
            (!offset.is_null() && !size.is_null() && *size != 0).then(|| *offset)
        }
    };
    let offset = (*OFFSET.get_or_init(find))?;
    let thread: usize;
    // SAFETY: it reads the address at which the C library has this thread's own memory.
    unsafe { asm!("mov {}, fs:[0]", out(reg) thread, options(nostack, readonly, preserves_flags)) };
    Some(thread.wrapping_add_signed(offset))
}

/// The kernel forgets them where memory is shared, and the C library believes that they are there.
fn register(sequences: Option<usize>) {
    if let Some(sequences) = sequences {
        // SAFETY: that is the C library's own place for it. Where the kernel has not forgotten it, it says so.
        unsafe { libc::syscall(libc::SYS_rseq, sequences, LENGTH, 0, SIGNATURE) };
    }
}
