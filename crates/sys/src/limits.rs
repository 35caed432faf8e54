use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use crate::call::check;

/// The longest single argument or variable, its NUL included (MAX_ARG_STRLEN: 32 pages).
const STRING_LIMIT: usize = 128 * 1024;
/// What the kernel always grants to arguments and environment together.
const TOTAL_FLOOR: u64 = 128 * 1024;
/// What it never exceeds: three quarters of the default stack.
const TOTAL_CEILING: u64 = 6 * 1024 * 1024;

/// Arguments or an environment that the kernel would refuse with E2BIG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    /// One string is too long.
    #[error("string {index} has {size} bytes; the kernel takes at most {limit} in one string")]
    OneTooLong {
        /// Its index: the arguments first, then the environment.
        index: usize,
        /// Its length in bytes, the NUL included.
        size: usize,
        /// The most it may have.
        limit: usize,
    },
    /// All of them together are too long.
    #[error("arguments and environment have {size} bytes together; the kernel takes at most {limit} here")]
    AllTooLong {
        /// Their length in bytes, pointers included.
        size: usize,
        /// The most they may have: a quarter of the stack limit.
        limit: usize,
    },
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: getrlimit fills in the whole struct when it succeeds.
    unsafe {
        check(libc::getrlimit(resource, found.as_mut_ptr()))?;
        Ok(found.assume_init())
    }
}

/// The soft and the hard limit of this process on `resource`, a number of `RLIMIT_…`.
///
/// # Errors
/// The kernel knows no such limit.
pub fn own_rlimit(resource: u32) -> io::Result<(u64, u64)> {
    limit(resource as libc::__rlimit_resource_t).map(|found| (found.rlim_cur, found.rlim_max))
}

/// Whether there is a limit on how much this process may map.
pub fn is_address_space_limited() -> bool {
    limit(libc::RLIMIT_AS).is_ok_and(|found| found.rlim_cur != libc::RLIM_INFINITY)
}

/// Applies the kernel's own rules on the size of what execve is given.
///
/// # Errors
/// Says which string, or that all together, are too long.
pub fn check_arguments<S: AsRef<CStr>>(argv: &[S], envp: &[S]) -> Result<(), ArgumentsError> {
    let mut size = 0;
    for (index, string) in argv.iter().chain(envp).enumerate() {
        let length = string.as_ref().count_bytes() + 1;
        if length > STRING_LIMIT {
            return Err(ArgumentsError::OneTooLong { index, size: length, limit: STRING_LIMIT });
        }
        size += length + size_of::<*const u8>();
    }
    let stack = limit(libc::RLIMIT_STACK).map_or(0, |stack| stack.rlim_cur);
    let limit = (stack / 4).clamp(TOTAL_FLOOR, TOTAL_CEILING) as usize;
    // The file name, once more, and the vectors' ends take a little too.
    if size + 8192 > limit {
        return Err(ArgumentsError::AllTooLong { size, limit: limit - 8192 });
    }
    Ok(())
}

/// A limit on open files, to be given back to children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Raises this process's soft limit on open files to the hard one; gives what it was before.
///
/// # Errors
/// None is expected.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let before = limit(libc::RLIMIT_NOFILE)?;
    let raised = libc::rlimit { rlim_cur: before.rlim_max, rlim_max: before.rlim_max };
    // SAFETY: reads one whole struct.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) })?;
    Ok(OpenFiles { soft: before.rlim_cur, hard: before.rlim_max })
}
