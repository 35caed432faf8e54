//! Descriptors in the control part of a message.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Has `message` take duplicates of `fds` along, which are told in `control`; nothing where there are none.
///
/// # Safety
/// `control` has room for them, and outlives the use of `message`.
pub(crate) unsafe fn put(message: &mut libc::msghdr, control: &mut [u64], fds: &[RawFd]) {
    if fds.is_empty() {
        return;
    }
    let size = size_of_val(fds) as libc::c_uint;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control part is as long as is said here, which the caller has seen to.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        ptr::copy_nonoverlapping(fds.as_ptr().cast(), libc::CMSG_DATA(header), size as usize);
    }
}

/// The descriptors that came with `message`.
///
/// # Safety
/// The kernel has just filled it, and this is asked once: it has made them for us.
pub(crate) unsafe fn take(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel writes whole control messages only, and each SCM_RIGHTS one holds descriptors.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let size = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..size / size_of::<RawFd>() {
                    let fd = libc::CMSG_DATA(header).cast::<RawFd>().add(index).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}
