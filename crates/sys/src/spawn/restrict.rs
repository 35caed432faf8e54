//! What a child gives up before it executes its program. It makes the kernel's own calls: those of the C
//! library for users and groups want to reach threads that a forked child does not have.

use std::ffi::c_int;
use std::io;

use super::Stage;
use super::child::die_with;
use crate::call::check;
use crate::confinement::{Confinement, Identity};

const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// Effective, permitted and inheritable; the lower and the upper half.
type CapabilitySets = [[u32; 3]; 2];

/// Ready for the kernel before the child exists.
pub(super) struct Restrictions<'a> {
    confinement: &'a Confinement,
    filter: libc::sock_fprog,
}

impl<'a> Restrictions<'a> {
    pub(super) fn new(confinement: &'a Confinement) -> Self {
        let instructions = confinement.seccomp.len() / size_of::<libc::sock_filter>();
        // The kernel copies the bytes, whatever their alignment, and writes nothing.
        let filter = confinement.seccomp.as_ptr().cast_mut().cast();
        Self {
            confinement,
            filter: libc::sock_fprog { len: instructions.min(u16::MAX.into()) as u16, filter },
        }
    }

    /// The limits, and where it runs; to be set while the child still has its parent's rights.
    pub(super) unsafe fn limit(&self) -> Result<(), Stage> {
        // SAFETY: the kernel's own calls on prepared memory, in a process with one thread.
        unsafe { self.confinement.binding.apply() }.map_err(|_| Stage::Binding)?;
        for limit in &self.confinement.rlimits {
            let values = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
            // SAFETY: reads one whole struct.
            check(unsafe { libc::setrlimit(limit.resource as _, &raw const values) })
                .map_err(|_| Stage::Limits)?;
        }
        Ok(())
    }

    /// Everything else, and last: what comes after it has no rights to speak of.
    pub(super) unsafe fn give_up(&self, parent: Option<u32>) -> Result<(), Stage> {
        let Confinement { identity, dropped, seccomp, .. } = self.confinement;
        let no_new_privs = self.confinement.no_new_privs || !seccomp.is_empty();
        // SAFETY: async-signal-safe calls on prepared memory.
        unsafe {
            let privileges = |_| Stage::Privileges;
            drop_for_good(*dropped, no_new_privs).map_err(privileges)?;
            if let Some(identity) = identity {
                become_(identity).map_err(|_| Stage::User)?;
                // On the way the kernel has forgotten whom the child is not to survive.
                parent.map_or(Ok(()), |parent| die_with(parent)).map_err(|_| Stage::User)?;
            }
            if *dropped != 0 {
                drop_now(*dropped).map_err(privileges)?;
            }
            if no_new_privs {
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).map_err(privileges)?;
            }
            if !seccomp.is_empty() {
                let filter = &raw const self.filter;
                let set = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, filter);
                check(set as c_int).map_err(privileges)?;
            }
        }
        Ok(())
    }
}

/// No program that is executed later can have them.
unsafe fn drop_for_good(dropped: u64, no_new_privs: bool) -> io::Result<()> {
    for number in (0..64).filter(|number| dropped & (1 << number) != 0) {
        // SAFETY: prctl with plain integers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) }) {
            // Who may not do this has to rely on never being given any.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && no_new_privs => {}
            other => drop(other?),
        }
    }
    Ok(())
}

unsafe fn drop_now(dropped: u64) -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut sets: CapabilitySets = [[0; 3]; 2];
    // SAFETY: both have the form that this version of the call has.
    unsafe {
        check(libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) as c_int)?;
        for (half, set) in sets.iter_mut().enumerate() {
            let keep = !((dropped >> (32 * half)) as u32);
            set.iter_mut().for_each(|bits| *bits &= keep);
        }
        check(libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) as c_int)?;
    }
    Ok(())
}

unsafe fn become_(Identity { uid, gid, groups }: &Identity) -> io::Result<()> {
    // SAFETY: plain integers, and a list that is as long as said.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) as c_int)?;
        check(libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) as c_int)?;
        check(libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) as c_int)?;
    }
    Ok(())
}
