use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::pipe_capacity;

/// What a pipe holds by default, in bytes.
const DEFAULT: usize = 64 << 10;

/// Says once in this process that the kernel gives its user small pipes; gives what it says.
///
/// They work, and programs that write much wait more often.
pub(crate) fn warn_once(pipe: impl AsFd) -> Option<String> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let capacity = pipe_capacity(pipe.as_fd()).ok().filter(|&capacity| capacity < DEFAULT)?;
    if TOLD.swap(true, Ordering::Relaxed) {
        return None;
    }
    let text = format!(
        "the pipes of procs hold {capacity} bytes instead of {DEFAULT}, because this user has many: procs that write much wait \
         more often; raise the sysctl fs.pipe-user-pages-soft to launch this many"
    );
    tracing::warn!("{text}");
    Some(text)
}
