use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

/// From now on a child that is forked from this process knows that it is one, by [`is_forked`]; what such a child forks knows it too.
/// Forks that are made past the C library are not noticed.
///
/// # Errors
/// There is no memory to note it.
pub fn watch_forks() -> io::Result<()> {
    static WATCHED: OnceLock<Result<(), i32>> = OnceLock::new();
    let watch = || {
        // SAFETY: the handler only stores to an atomic, which is safe in a child of a process with threads.
        match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
            0 => Ok(()),
            error => Err(error),
        }
    };
    WATCHED.get_or_init(watch).map_err(io::Error::from_raw_os_error)
}

/// Whether this process was forked from one that had called [`watch_forks`], and has not executed a program since. Costs no system call.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// This process starts anew, whatever it was forked from.
pub fn forget_fork() {
    FORKED.store(false, Ordering::Relaxed);
}
