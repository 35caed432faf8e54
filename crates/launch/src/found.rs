use std::collections::BTreeMap;
use std::fs;
use std::process;

use procession_model::{LaunchOptions, ProcId};
use serde::{Deserialize, Serialize};

/// What stands on all that a launcher makes: whose it is, so that what nobody owns any more can be told from the rest.
///
/// As names and values of letters, digits and `-_.@:` they go wherever a substrate has labels, variables or comments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Labels {
    /// The proc: its whole id.
    pub proc: String,
    /// The host that has launched it, of which each session has its own.
    pub session: String,
    /// The random id of this launch; the next incarnation of the proc has another.
    pub incarnation: String,
    /// The user and the machine, `user@machine`.
    pub owner: String,
    /// The process of that host: the boot of its machine, its namespace of pids, its pid there, and when it was started, in ticks
    /// since the boot. Of what is to outlive it, `detached`: that has no process that owns it.
    pub process: String,
    /// How many seconds a proc may be out of reach of its host before it ends.
    pub lease: String,
}

const DETACHED: &str = "detached";

impl Labels {
    /// The name of the label with the proc's id.
    pub const PROC: &str = "procession.proc";
    const SESSION: &str = "procession.session";
    /// The name of the label with the random id of the launch.
    pub const INCARNATION: &str = "procession.incarnation";
    const OWNER: &str = "procession.owner";
    const PROCESS: &str = "procession.process";
    const LEASE: &str = "procession.lease";

    /// Those of a launch by this process.
    pub fn of(proc_id: &ProcId, options: &LaunchOptions) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let user = user.unwrap_or_else(|_| {
            // Without a name the number, which stands first of four.
            let status = read("/proc/self/status");
            let numbers = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            numbers.and_then(|numbers| numbers.split_whitespace().next()).unwrap_or_default().to_owned()
        });
        Self {
            proc: proc_id.to_string(),
            session: proc_id.host().to_owned(),
            incarnation: proc_id.launch_id().to_string(),
            owner: format!("{user}@{}", read("/proc/sys/kernel/hostname")),
            process: match options.detach {
                true => DETACHED.to_owned(),
                false => process_of(&here(), process::id()).unwrap_or_default(),
            },
            lease: options.lease.as_secs_f64().to_string(),
        }
    }

    /// As pairs of names and values.
    pub fn pairs(&self) -> [(&'static str, &str); 6] {
        [
            (Self::PROC, &self.proc),
            (Self::SESSION, &self.session),
            (Self::INCARNATION, &self.incarnation),
            (Self::OWNER, &self.owner),
            (Self::PROCESS, &self.process),
            (Self::LEASE, &self.lease),
        ]
    }

    /// Those among other labels; none where they are not all there.
    pub fn among<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let get = |name: &str| get(name).map(str::to_owned);
        Some(Self {
            proc: get(Self::PROC)?,
            session: get(Self::SESSION)?,
            incarnation: get(Self::INCARNATION)?,
            owner: get(Self::OWNER)?,
            process: get(Self::PROCESS)?,
            lease: get(Self::LEASE)?,
        })
    }

    /// Those of `map`.
    pub fn from_map(map: &BTreeMap<String, String>) -> Option<Self> {
        Self::among(|name| map.get(name).map(String::as_str))
    }

    /// Whether the process that owns it is gone; none where that cannot be known from this machine.
    pub fn is_left_over(&self) -> Option<bool> {
        let (owner, _started) = self.process.rsplit_once(':')?;
        let (there, pid) = owner.rsplit_once(':')?;
        let here = here();
        if there != here {
            return None;
        }
        Some(process_of(&here, pid.parse().ok()?).is_none_or(|process| process != self.process))
    }
}

/// What tells pids here from those elsewhere: the boot of this machine, and the namespace.
fn here() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("{}:{number}", boot.trim())
}

/// How a process of this machine is told from any other; none where there is none of that id.
fn process_of(here: &str, pid: u32) -> Option<String> {
    // After the name, which may hold anything, it is the 20th word.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{here}:{pid}:{started}"))
}

/// Something that a launcher finds on its substrate, made by whatever session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The substrate's name for it, which the methods of a launcher take.
    pub handle: String,
    /// Whose it is.
    pub labels: Labels,
    /// Whether it runs, or may; what has ended was only not taken away.
    pub running: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_lives_owns_what_it_made_and_one_that_is_gone_does_not() {
        let labels = |process: &str| Labels {
            proc: String::new(),
            session: String::new(),
            incarnation: String::new(),
            owner: String::new(),
            process: process.to_owned(),
            lease: String::new(),
        };
        let own = process_of(&here(), process::id()).expect("this process");
        assert_eq!(labels(&own).is_left_over(), Some(false));
        let (rest, started) = own.rsplit_once(':').expect("three parts");
        assert_eq!(
            labels(&format!("{rest}:{started}0")).is_left_over(),
            Some(true),
            "its pid was used again"
        );
        assert_eq!(labels(&format!("{}:4194305:1", here())).is_left_over(), Some(true), "a pid that is none");
        assert_eq!(labels(&format!("another:{}:1", process::id())).is_left_over(), None);
        assert_eq!(labels("").is_left_over(), None);
    }
}
