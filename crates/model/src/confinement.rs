use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::InvalidArgument;

/// The most instructions that the kernel takes in one filter of system calls, and the bytes of each.
const FILTER: (usize, usize) = (4096, 8);
/// Less memory than this starts no program.
const LEAST_MEMORY: u64 = 1 << 20;
/// A thousandth of what the kernel counts shares of processors in.
const LEAST_CPU_MILLIS: u64 = 10;
/// More than any machine has.
const MOST_CPU_MILLIS: u64 = 1_000_000_000;

/// What a proc is held to, who it is and what it gives up. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// What it and all that it starts may use together.
    #[serde(default)]
    pub resources: Resources,
    /// Who it is; none is whoever launches it.
    #[serde(default)]
    pub user: Option<User>,
    /// The kernel's limits on each of its processes, by their names without `RLIMIT_` in small letters:
    /// `nofile`, `core`, `nproc`, …
    #[serde(default)]
    pub rlimits: BTreeMap<String, Rlimits>,
    /// What it gives up.
    #[serde(default)]
    pub security: Security,
    /// Where it runs.
    #[serde(default)]
    pub binding: Binding,
}

/// Which processors, and memory of which nodes, a proc and all that it starts may use: lists in the form of `numactl`,
/// `0-3,8` or `all`. What is given of processors holds together; none is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The processors of these NUMA nodes.
    pub cpunodebind: Option<String>,
    /// Memory of these NUMA nodes alone.
    pub membind: Option<String>,
    /// These processors.
    pub physcpubind: Option<String>,
    /// These processors, too.
    pub cpus: Option<String>,
}

impl Binding {
    /// What is given, by name.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { cpunodebind, membind, physcpubind, cpus } = self;
        let all = [
            ("cpunodebind", cpunodebind),
            ("membind", membind),
            ("physcpubind", physcpubind),
            ("cpus", cpus),
        ];
        all.into_iter().filter_map(|(name, list)| Some((name, list.as_deref()?)))
    }
}

/// What a proc and all that it starts may use together; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory; nothing of it is swapped out instead. Beyond it the kernel kills.
    pub memory: Option<u64>,
    /// Processes and threads. Beyond it forks fail with EAGAIN.
    pub pids: Option<u64>,
    /// Thousandths of one processor; 1500 is one and a half.
    pub cpu_millis: Option<u64>,
}

/// A user by numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// One of the kernel's limits; none is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimits {
    /// What holds.
    pub soft: Option<u64>,
    /// What a process may raise that to.
    pub hard: Option<u64>,
}

/// What a proc and all that it starts give up for good.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// No program that it executes may give it more rights than it has.
    pub no_new_privs: bool,
    /// The capabilities that it can never have.
    pub drop_capabilities: DropCapabilities,
    /// A compiled BPF program that filters its system calls; empty for none. It implies `no_new_privs`.
    pub seccomp: Vec<u8>,
}

/// Which capabilities are given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropCapabilities {
    /// None of them.
    #[default]
    None,
    /// All that the kernel knows.
    All,
    /// These, `CAP_NET_RAW` or `net_raw`.
    Named(Vec<String>),
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("no_new_privs", &self.no_new_privs)
            .field("drop_capabilities", &self.drop_capabilities)
            .field("seccomp", &format_args!("{} bytes", self.seccomp.len()))
            .finish()
    }
}

impl Confinement {
    /// Refuses what no machine can do.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        self.resources.check()?;
        if let Some(user) = &self.user {
            user.check()?;
        }
        for (name, Rlimits { soft, hard }) in &self.rlimits {
            if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
                let shown =
                    |limit: &Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
                return Err(InvalidArgument::new(
                    format!("rlimits[{name:?}]"),
                    format!("({}, {})", shown(soft), shown(hard)),
                    "the soft limit may not be above the hard one",
                ));
            }
        }
        self.security.check()
    }
}

impl Resources {
    fn check(&self) -> Result<(), InvalidArgument> {
        let least = |field: &str, given: Option<u64>, least: u64, rule: &str| match given {
            Some(number) if number < least || number > i64::MAX as u64 => {
                Err(InvalidArgument::new(format!("resources[{field:?}]"), number.to_string(), rule))
            }
            _ => Ok(()),
        };
        least(
            "memory",
            self.memory,
            LEAST_MEMORY,
            "has to be at least 1M: \"64M\", \"2G\", or a number of bytes",
        )?;
        least("pids", self.pids, 1, "has to be at least 1: the proc itself counts")?;
        if let Some(millis) = self.cpu_millis
            && !(LEAST_CPU_MILLIS..=MOST_CPU_MILLIS).contains(&millis)
        {
            return Err(InvalidArgument::new(
                "resources[\"cpu\"]",
                format!("{} processors", millis as f64 / 1000.0),
                "has to be at least 0.01 of a processor: 0.5 is half of one, 2 is two",
            ));
        }
        Ok(())
    }
}

impl User {
    fn check(&self) -> Result<(), InvalidArgument> {
        let numbers = [self.uid, self.gid].into_iter().chain(self.groups.iter().copied());
        for number in numbers {
            if number == u32::MAX {
                return Err(InvalidArgument::new(
                    "user",
                    number.to_string(),
                    "4294967295 means \"unchanged\" to the kernel, and is no user or group; give another",
                ));
            }
        }
        Ok(())
    }
}

impl Security {
    fn check(&self) -> Result<(), InvalidArgument> {
        let (most, size) = FILTER;
        let bytes = self.seccomp.len();
        if !bytes.is_multiple_of(size) || bytes > most * size {
            return Err(InvalidArgument::new(
                "security[\"seccomp\"]",
                format!("{bytes} bytes"),
                format!("a compiled BPF program has {size} bytes for each of at most {most} instructions"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Confinement)) -> String {
        let mut confinement = Confinement::default();
        change(&mut confinement);
        confinement.check().expect_err("it must be refused").to_string()
    }

    #[test]
    fn what_no_machine_can_do_is_refused_by_field() {
        Confinement::default().check().expect("nothing is asked for");
        for (text, field) in [
            (refused(|c| c.resources.memory = Some(4096)), "resources[\"memory\"] = 4096: "),
            (refused(|c| c.resources.memory = Some(u64::MAX)), "resources[\"memory\"]"),
            (refused(|c| c.resources.pids = Some(0)), "resources[\"pids\"] = 0: "),
            (refused(|c| c.resources.cpu_millis = Some(9)), "resources[\"cpu\"] = 0.009 processors: "),
            (
                refused(|c| c.user = Some(User { uid: u32::MAX, gid: 0, groups: vec![] })),
                "user = 4294967295: ",
            ),
            (refused(|c| c.user = Some(User { uid: 0, gid: 0, groups: vec![u32::MAX] })), "user"),
            (
                refused(|c| c.rlimits = [("core".to_owned(), Rlimits { soft: None, hard: Some(1) })].into()),
                "rlimits[\"core\"] = (unlimited, 1): ",
            ),
            (refused(|c| c.security.seccomp = vec![0; 9]), "security[\"seccomp\"] = 9 bytes: "),
        ] {
            assert!(text.starts_with(field), "{text}");
        }
    }

    #[test]
    fn debug_forms_do_not_spell_out_a_filter() {
        let security = Security { seccomp: vec![7; 32], ..Security::default() };
        assert!(format!("{security:?}").ends_with("seccomp: 32 bytes }"));
    }
}
