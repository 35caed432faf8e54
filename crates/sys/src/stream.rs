//! Streams over unix sockets whose bytes may have a descriptor with them.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use bytes::BufMut;

use crate::call::{check_size, retry};
use crate::rights;

/// Room for a control message with one descriptor, aligned as the kernel wants it.
type Control = [u64; 3];

/// Sends the first of `parts` (1,024 at most), as much as fits, and with their first byte a duplicate of `descriptor`. Gives how many
/// bytes were taken; the descriptor goes with any of them.
///
/// # Errors
/// `WouldBlock` when the peer reads too slowly and the socket does not block, or that the peer is gone.
pub fn send_stream(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let raw = descriptor.as_ref().map(AsRawFd::as_raw_fd);
    let mut control: Control = [0; 3];
    // SAFETY: all-zero is a valid msghdr; a slice of IoSlice is one of iovec by its definition; every pointer put in
    // outlives the call, and the control buffer has room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len().min(1024) as _;
        rights::put(&mut message, &mut control, raw.as_slice());
        retry(|| check_size(libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)))
    }
}

/// What came with bytes.
#[derive(Debug)]
pub enum Came {
    /// Nothing.
    Bytes,
    /// A descriptor.
    Descriptor(OwnedFd),
    /// A descriptor that this process may not have, as it has too many; it is gone.
    LostDescriptor,
}

/// Receives what has arrived into `buffer`, up to its next piece of room or the next descriptor. Gives how many bytes
/// that was (0: the peer has closed) and what came with them. Of several descriptors in one message the first is kept.
///
/// # Errors
/// `WouldBlock` when nothing has arrived and the socket does not block, or that the peer is gone.
pub fn receive_stream(socket: BorrowedFd<'_>, buffer: &mut impl BufMut) -> io::Result<(usize, Came)> {
    let mut control: Control = [0; 3];
    let room = buffer.chunk_mut();
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut came = Came::Bytes;
    // SAFETY: all-zero is a valid msghdr; the pointers outlive the call; the kernel writes at most `iov_len` bytes, says
    // how many, and whole control messages only, each SCM_RIGHTS one with descriptors made for us.
    let length = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        let length = retry(|| {
            check_size(libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC))
        })?;
        if message.msg_flags & libc::MSG_CTRUNC != 0 {
            came = Came::LostDescriptor;
        }
        if let Some(first) = rights::take(&message).into_iter().next() {
            came = Came::Descriptor(first);
        }
        buffer.advance_mut(length);
        length
    };
    Ok((length, came))
}
