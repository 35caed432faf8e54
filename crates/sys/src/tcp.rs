use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::call::check;

/// What a TCP connection still has for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpBacklog {
    /// Bytes that the peer's kernel has not confirmed, sent or not.
    pub bytes: u32,
    /// Packets that were sent and are not confirmed. With bytes and none of these, the peer has no room.
    pub packets: u32,
    /// How often in a row the peer was asked for room, or whether it is there, without an answer.
    pub probes: u8,
}

/// Looks at a TCP connection.
///
/// # Errors
/// It is none.
pub fn tcp_backlog(socket: BorrowedFd<'_>) -> io::Result<TcpBacklog> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    let place = info.as_mut_ptr().cast();
    // SAFETY: the place has room for `size` bytes, and the kernel writes no more.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut size)
    })?;
    // SAFETY: all of it is plain numbers, and was zero before.
    let info = unsafe { info.assume_init() };
    Ok(TcpBacklog { bytes: bytes.unsigned_abs(), packets: info.tcpi_unacked, probes: info.tcpi_probes })
}
