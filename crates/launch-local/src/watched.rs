use std::io;
use std::os::fd::AsRawFd;

use tokio::io::unix::AsyncFd;

/// Lets the runtime watch a descriptor.
///
/// # Errors
/// The kernel has no room to watch more.
#[expect(deprecated, reason = "its successor is unsafe and asks for what an owned descriptor gives anyway")]
pub fn watched<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(fd)
}
