//! Users and groups of this machine, by whatever source the C library is set up for.

use std::ffi::{CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use crate::call::check;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// All its groups, its own among them.
    pub groups: Vec<u32>,
}

/// The most that an entry may take.
const LARGEST: usize = 1 << 20;

/// The C library's calls give an error number, and fill in the entry or leave a null pointer.
fn look_up<T, R>(
    mut call: impl FnMut(*mut T, &mut [c_char], *mut *mut T) -> libc::c_int,
    read: impl FnOnce(&T) -> R,
) -> io::Result<Option<R>> {
    let mut buffer: Vec<c_char> = vec![0; 4096];
    let mut entry = MaybeUninit::<T>::uninit();
    loop {
        let mut found = ptr::null_mut();
        match call(entry.as_mut_ptr(), &mut buffer, &mut found) {
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 2, 0),
            // What some of them give for nobody.
            0 | libc::ENOENT | libc::ESRCH if found.is_null() => return Ok(None),
            // SAFETY: it is null, or points to the entry, whose strings are in the buffer, which still lives.
            0 => return Ok(unsafe { found.as_ref() }.map(read)),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn account(entry: &libc::passwd) -> Account {
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: the name ends in NUL, and `count` says how many numbers there is room for.
        let done =
            unsafe { libc::getgrouplist(entry.pw_name, entry.pw_gid, groups.as_mut_ptr(), &mut count) };
        let enough = done >= 0 || groups.len() >= 65_536;
        groups.resize(if enough { count.max(0) as usize } else { groups.len() * 2 }, 0);
        if enough {
            return Account { uid: entry.pw_uid, gid: entry.pw_gid, groups };
        }
    }
}

/// The user of that name; none when there is none.
///
/// # Errors
/// The source of users cannot be asked.
pub fn user_named(name: &str) -> io::Result<Option<Account>> {
    let name = CString::new(name)?;
    look_up(
        // SAFETY: all pointers are to live memory of the size that is said.
        |entry, buffer, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
        },
        account,
    )
}

/// The user of that number; none when there is none.
///
/// # Errors
/// The source of users cannot be asked.
pub fn user_numbered(uid: u32) -> io::Result<Option<Account>> {
    look_up(
        // SAFETY: as above.
        |entry, buffer, found| unsafe {
            libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), found)
        },
        account,
    )
}

/// The number of the group of that name; none when there is none.
///
/// # Errors
/// The source of groups cannot be asked.
pub fn group_named(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    look_up(
        // SAFETY: as above.
        |entry, buffer, found| unsafe {
            libc::getgrnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
        },
        |entry: &libc::group| entry.gr_gid,
    )
}

/// The user and the group that this process acts as.
pub fn own_ids() -> (u32, u32) {
    // SAFETY: these two cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// The further groups that this process is in.
///
/// # Errors
/// None is expected.
pub fn own_groups() -> io::Result<Vec<u32>> {
    // SAFETY: with room for none it gives their number alone.
    let count = check(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups = vec![0; count as usize];
    // SAFETY: there is room for as many as are said.
    let count = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(count as usize);
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_number_zero_by_name_and_by_number_and_nobody_is_made_up() {
        let root = user_named("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(user_numbered(0).unwrap(), Some(root));
        assert_eq!(group_named("root").unwrap(), Some(0));
        assert_eq!(user_named("no-such-user-here").unwrap(), None);
        assert_eq!(user_numbered(4_000_000_000).unwrap(), None);
        assert_eq!(group_named("no-such-group-here").unwrap(), None);
    }
}
