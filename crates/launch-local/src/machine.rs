//! What this machine, and this process on it, can promise.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use procession_sys::{self as sys, Controller, Pidfd};

use crate::binding;
use crate::confine::{cgroups, confines, read_number};

/// How long a sweep may take.
const SWEEP: Duration = Duration::from_secs(1);

/// One thing that holds or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Short and stable.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, and what it means.
    pub detail: String,
}

impl Fact {
    fn new(name: &'static str, holds: bool, detail: impl Into<String>) -> Self {
        Self { name, holds, detail: detail.into() }
    }
}

/// The names of the control groups that hosts which are gone have left behind.
pub fn left_behind() -> Vec<String> {
    cgroups().left_behind()
}

/// Kills what is in the groups of these names, and removes them; how many were removed. Blocks for a second
/// at most.
pub fn sweep_groups(names: &[String]) -> usize {
    let deadline = Instant::now() + SWEEP;
    let removed = |name: &String| {
        let group = cgroups().open(name);
        loop {
            group.kill();
            if group.is_empty() && group.remove() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    names.iter().filter(|name| removed(name)).count()
}

/// All of them, in the order in which they are shown.
pub fn facts() -> Vec<Fact> {
    let mut all = kernel();
    all.extend(groups());
    all.extend(crashes());
    all.extend(budgets());
    all.extend(rights());
    all.extend(tools());
    all
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn kernel() -> Vec<Fact> {
    let release = read("/proc/sys/kernel/osrelease");
    let pidfd = Pidfd::own().is_ok();
    vec![
        Fact::new("kernel", true, format!("Linux {release}")),
        Fact::new("pidfd", pidfd, "processes are named for good, and their ends are told (Linux 5.3)"),
        Fact::new(
            "pidfd-status",
            Pidfd::tells_status(),
            "how a process ended is known that is not a child of ours (Linux 6.15); without it a launcher's word counts",
        ),
        Fact::new(
            "clone3",
            sys::has_clone3(),
            "procs are born in their groups; without it they move there, which takes milliseconds",
        ),
    ]
}

fn groups() -> Vec<Fact> {
    let found = cgroups();
    let can = confines();
    let version = |controller| match found.version_for(controller) {
        Some(version) => format!("enforced by version {version} of control groups"),
        None => "no control group below ours has this controller; asked for, it is refused".to_owned(),
    };
    let v1: Vec<_> = Controller::ALL.into_iter().filter(|&one| found.version_for(one) == Some(1)).collect();
    let names: Vec<_> = v1.iter().map(|one| one.name()).collect();
    let counted = found.version_for(Controller::Memory);
    vec![
        Fact::new("cgroup2", found.has_unified(), "every proc has a control group of version 2"),
        Fact::new(
            "cgroup1",
            !names.is_empty(),
            if names.is_empty() {
                "no hierarchy of version 1 is needed or can be used".to_owned()
            } else {
                format!(
                    "version 1 limits: {}; joined by procs that have such a limit, which takes milliseconds",
                    names.join(", ")
                )
            },
        ),
        Fact::new(
            "group-kill",
            found.kills_groups(),
            "a proc's whole group dies at once, frozen or forking (Linux 5.14); without it the tree is walked",
        ),
        Fact::new("group-freeze", found.freezes(), "groups can be made to stand still"),
        Fact::new("memory-limit", can.memory, version(Controller::Memory)),
        Fact::new("pids-limit", can.pids, version(Controller::Pids)),
        Fact::new("cpu-limit", can.cpu, version(Controller::Cpu)),
        Fact::new(
            "oom-facts",
            counted.is_some(),
            match counted {
                Some(2) => "what was killed for want of memory is counted for every proc",
                Some(_) => {
                    "what was killed for want of memory is counted for procs with a limit on memory; of others it is \
                     known that nothing was, as long as the machine has killed nothing meanwhile"
                }
                None => "what was killed for want of memory is not counted by proc",
            },
        ),
    ]
}

fn crashes() -> Vec<Fact> {
    let pattern = read("/proc/sys/kernel/core_pattern");
    let file = !pattern.is_empty() && !pattern.starts_with(['|', '@', '/']);
    let detail = if file {
        format!("cores are files in the working directory ({pattern:?}), where rlimits[\"core\"] allows them")
    } else {
        format!("cores go elsewhere ({pattern:?})")
    };
    vec![Fact::new("core-file", file, detail)]
}

fn budgets() -> Vec<Fact> {
    let (soft, hard) = sys::rlimit_resource("nofile").and_then(|n| sys::own_rlimit(n).ok()).unwrap_or((0, 0));
    let soft_pages = read_number("/proc/sys/fs/pipe-user-pages-soft").unwrap_or(0);
    let privileged = may("sys_resource") || may("sys_admin");
    let pipes = if privileged {
        "the budget for pipes does not hold this user".to_owned()
    } else {
        format!(
            "{soft_pages} pages of pipes, 2 times 16 for each proc; beyond it pipes hold 2 pages (fs.pipe-user-pages-soft)"
        )
    };
    vec![
        Fact::new(
            "open-files",
            hard >= 1024,
            format!("{soft} now, {hard} at most; a proc takes about 6 while it is captured (ulimit -n)"),
        ),
        Fact::new("pipe-budget", privileged || soft_pages == 0 || soft_pages >= 1024, pipes),
    ]
}

fn may(capability: &str) -> bool {
    sys::capability(capability).is_some_and(|bit| sys::own_capabilities() & bit != 0)
}

fn rights() -> Vec<Fact> {
    let users = read_number("/proc/sys/user/max_user_namespaces").unwrap_or(0);
    let unprivileged = read_number("/proc/sys/kernel/unprivileged_userns_clone").unwrap_or(1);
    let user_namespaces = users > 0 && (unprivileged == 1 || may("sys_admin"));
    let fuse = Path::new("/dev/fuse").exists() && (may("sys_admin") || user_namespaces);
    let change_user = may("setuid") && may("setgid");
    let (processors, memory) = binding::available();
    vec![
        Fact::new(
            "bind-processors",
            !processors.is_empty(),
            format!("procs can be bound to processors: {processors} (proc_bind)"),
        ),
        Fact::new(
            "bind-memory",
            memory.is_ok(),
            memory
                .err()
                .unwrap_or_else(|| "procs can be bound to the memory of NUMA nodes (proc_bind)".to_owned()),
        ),
        Fact::new(
            "change-user",
            change_user,
            "procs can be started as another user (CAP_SETUID, CAP_SETGID)",
        ),
        Fact::new("signal-others", may("kill"), "processes of other users can be signalled (CAP_KILL)"),
        Fact::new("drop-capabilities", may("setpcap"), "capabilities can be dropped for good (CAP_SETPCAP)"),
        Fact::new("user-namespaces", user_namespaces, format!("{users} at most (user.max_user_namespaces)")),
        Fact::new(
            "netns",
            may("sys_admin") && may("net_admin"),
            "network namespaces can be made (CAP_SYS_ADMIN, CAP_NET_ADMIN)",
        ),
        Fact::new("fuse", fuse, "file systems can be served from a process (/dev/fuse)"),
        Fact::new(
            "namespaces",
            may("sys_admin"),
            "namespaces of mounts and pids can be made (CAP_SYS_ADMIN)",
        ),
        Fact::new("file-capabilities", may("setfcap"), "files can be given capabilities (CAP_SETFCAP)"),
    ]
}

/// What only tests and people who look for faults need.
fn tools() -> Vec<Fact> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    vec![
        Fact::new(
            "strace",
            there("strace") && may("sys_ptrace"),
            "system calls can be watched, and made to fail (strace)",
        ),
        Fact::new("iproute2", there("ip"), "networks can be set up (ip)"),
        Fact::new("nftables", there("nft"), "traffic can be dropped (nft)"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fact_has_a_name_of_its_own_and_says_something() {
        let all = facts();
        let names: BTreeSet<_> = all.iter().map(|fact| fact.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|fact| !fact.detail.is_empty()));
        assert!(all.iter().any(|fact| fact.name == "pidfd" && fact.holds), "everything here needs it");
    }
}
