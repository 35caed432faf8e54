use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::call::{check, check_size, retry};
use crate::rights;

/// The most descriptors that one message carries.
const MAX_FDS: usize = 8;
/// Room for their control message, aligned as the kernel wants it.
type Control = [u64; 8];

/// Two connected, non-blocking sockets that keep message boundaries and carry descriptors.
///
/// # Errors
/// No file descriptor left.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the array has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made both for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn seqpacket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers go in; the kernel makes the descriptor for us.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::socket(libc::AF_UNIX, kind, 0))?)) }
}

fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.is_empty() || bytes.contains(&0) {
        let text =
            format!("a socket cannot be at {}: 1 to {} bytes", path.display(), address.sun_path.len() - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, &byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = byte as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

/// Listens at `path` for conversations like those of [`seqpacket_pair`]; never blocks.
///
/// # Errors
/// Something is there already, the path is too long, or the directory cannot be written.
pub fn listen_seqpacket(path: &Path) -> io::Result<OwnedFd> {
    let (socket, (address, length)) = (seqpacket()?, address(path)?);
    // SAFETY: the address is as long as said and outlives the calls.
    unsafe {
        check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length))?;
        check(libc::listen(socket.as_raw_fd(), 8))?;
    }
    Ok(socket)
}

/// Connects to who listens at `path`; the socket never blocks.
///
/// # Errors
/// Nobody listens there any more (ECONNREFUSED), nobody ever has (ENOENT), or too many wait (EAGAIN).
pub fn connect_seqpacket(path: &Path) -> io::Result<OwnedFd> {
    let (socket, (address, length)) = (seqpacket()?, address(path)?);
    // SAFETY: the address is as long as said and outlives the call.
    retry(|| check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) }))?;
    Ok(socket)
}

/// The next conversation that somebody has begun; the socket never blocks.
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let nobody = std::ptr::null_mut();
    // SAFETY: without room for an address none is written.
    let fd =
        retry(|| check(unsafe { libc::accept4(listener.as_raw_fd(), nobody, std::ptr::null_mut(), flags) }))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user at the other end, as it was when the conversation began.
///
/// # Errors
/// It is no socket of this kind.
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is what there is room for.
    check(unsafe {
        let place = (&raw mut found).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut length)
    })?;
    Ok(found.uid)
}

/// Ends the conversation for every holder of this end, forked ones included.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: a plain call on an open descriptor; to be closed already is as good.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Sends one message with duplicates of `fds` (at most eight).
///
/// # Errors
/// `WouldBlock` when the peer reads too slowly; that the peer is gone, which [`is_gone`] knows; or that
/// the kernel is short of something for a while.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(fds.len() <= MAX_FDS, "one message carries at most {MAX_FDS} descriptors");
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut control: Control = [0; 8];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid msghdr; every pointer put in outlives the call, and the control
    // buffer has room for MAX_FDS descriptors.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        rights::put(&mut message, &mut control, &raw);
        retry(|| check_size(libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)))
            .map(drop)
    }
}

/// Whether a [`send`] that failed with `error` says that nobody will ever receive.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN))
}

/// One message.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it filled; 0: the peer is gone.
    pub length: usize,
    /// The descriptors that came with it; fewer than were sent when this process may not have more.
    pub fds: Vec<OwnedFd>,
}

/// Receives one message into `buffer`.
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = MaybeUninit::<Control>::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr; the pointers outlive the call; the kernel writes whole
    // control messages only, and each SCM_RIGHTS one holds descriptors made for us.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        let length = retry(|| {
            check_size(libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC))
        })?;
        Ok(Received { length, fds: rights::take(&message) })
    }
}
