use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PREFIX;
use crate::Process;

/// The process that groups are made for: the host. Their names carry it, so that whoever finds one can
/// tell whether it is needed by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The namespace that its pid belongs to; elsewhere that number says nothing.
    namespace: u64,
    pid: u32,
    started: u64,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        let started = Process::look(pid).map_or(0, |process| process.started);
        Self { namespace: pid_namespace(), pid, started }
    }

    /// The name of its group for `launch`.
    pub fn group_name(&self, launch: impl fmt::Display) -> String {
        format!("{PREFIX}{self}-{launch}")
    }

    /// The name of the group for a `launch` that outlives its host: nobody's, so that no sweep takes it for
    /// left behind.
    pub fn detached_group_name(launch: impl fmt::Display) -> String {
        format!("{PREFIX}detached-{launch}")
    }

    /// Whose group that is; none for one that is not ours.
    pub fn of_group(name: &str) -> Option<Self> {
        let (owner, _launch) = name.strip_prefix(PREFIX)?.split_once('-')?;
        owner.parse().ok()
    }

    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse::<u64>().ok());
        let (namespace, pid, started) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Self { namespace, pid: pid.try_into().ok()?, started })
    }

    /// Whether it has ended, as far as can be said from here.
    pub fn is_gone(&self) -> bool {
        let lives = |found: Process| found.started == self.started && found.is_alive();
        self.namespace == pid_namespace() && !Process::look(self.pid).is_ok_and(lives)
    }

    /// Different at each call.
    pub(super) fn next_number(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{self}.{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl FromStr for Owner {
    type Err = io::Error;

    /// Reads the display form.
    fn from_str(text: &str) -> io::Result<Self> {
        Self::read(text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no process"))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.namespace, self.pid, self.started)
    }
}

fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_name_tells_its_owner_and_whether_that_lives() {
        let own = Owner::this_process();
        let name = own.group_name("0123abcd");
        assert_eq!(Owner::of_group(&name), Some(own));
        assert!(!own.is_gone());
        assert!(Owner { started: own.started + 1, ..own }.is_gone(), "a later process with its pid");
        assert!(
            !Owner { namespace: 1, started: 0, ..own }.is_gone(),
            "of another namespace nothing is known"
        );
        assert_eq!(Owner::of_group("procession-else"), None);
        assert_eq!(Owner::of_group(&Owner::detached_group_name("0123abcd")), None);
        assert_eq!(Owner::of_group(&format!("procession-try-{own}.7")), None);
    }
}
