use crate::binding::Binding;

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user; 4294967295 would mean "unchanged" to the kernel, and has to be refused before.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
}

/// One of the kernel's limits on a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Its number: `RLIMIT_…`.
    pub resource: u32,
    /// What it is held to; [`Self::UNLIMITED`] for nothing.
    pub soft: u64,
    /// What it may raise that to.
    pub hard: u64,
}

impl Rlimit {
    /// No limit.
    pub const UNLIMITED: u64 = libc::RLIM_INFINITY;
}

/// What a child is held to and gives up, before it executes its program and for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Its limits, where they differ from the caller's.
    pub rlimits: Vec<Rlimit>,
    /// Who it is, when not who the caller is.
    pub identity: Option<Identity>,
    /// No program that it executes may give it more rights than it has.
    pub no_new_privs: bool,
    /// The capabilities that it and its descendants can never have, one bit each.
    pub dropped: u64,
    /// A compiled filter of system calls; empty for none. It implies `no_new_privs`.
    pub seccomp: Vec<u8>,
    /// Where it runs.
    pub binding: Binding,
}

/// The names of capabilities, in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The bit of a capability: `cap_net_raw` and `NET_RAW` are the same; none for what is no capability.
pub fn capability(name: &str) -> Option<u64> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("cap_").unwrap_or(&name);
    CAPABILITIES.iter().position(|known| *known == name).map(|number| 1 << number)
}

/// All capabilities that this kernel knows.
pub fn all_capabilities() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    let last = last.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(CAPABILITIES.len() as u32 - 1);
    u64::MAX >> (63 - last.min(63))
}

/// The capabilities that this process has now.
pub fn own_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok()).unwrap_or(0)
}

/// The number of a limit, by its name without `RLIMIT_` in small letters.
pub fn rlimit_resource(name: &str) -> Option<u32> {
    Some(match name {
        "as" => libc::RLIMIT_AS,
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "stack" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_kernel_numbers_whatever_the_spelling() {
        assert_eq!(capability("CAP_CHOWN"), Some(1));
        assert_eq!(capability("net_raw"), Some(1 << 13));
        assert_eq!(capability("cap_checkpoint_restore"), Some(1 << 40));
        assert_eq!(capability("cap_"), None);
        assert!(all_capabilities() & (1 << 13) != 0);
        assert_eq!(own_capabilities() & !all_capabilities(), 0);
    }
}
