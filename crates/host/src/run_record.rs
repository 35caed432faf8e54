use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use procession_launch_local::{Helper, session};
use procession_sys::Process;

const NAME: &str = "record";

/// What stands in a host's run directory for whoever finds it when the host is dead: lines of a word and
/// its values. Words that a version does not know are left to those that do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunRecord {
    boot: String,
    namespace: String,
    /// What all that the host launched carries.
    pub(crate) session: String,
    /// The host's pid and start time.
    pub(crate) host: (u32, u64),
    /// Those of its guards and keepers.
    pub(crate) helpers: Vec<(u32, u64)>,
}

/// What the processes of a record mean here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The machine was started again since: none of them lives.
    Bygone,
    /// They are to be looked for.
    Here,
    /// The host lives, or its pids are those of another namespace.
    NotOurs,
}

impl RunRecord {
    /// Writes the one of this process's host.
    ///
    /// # Errors
    /// The directory takes no file.
    pub(crate) fn write(directory: &Path) -> io::Result<()> {
        let own = Process::look(std::process::id())?;
        let text = format!(
            "boot {}\nnamespace {}\nsession {}\nhost {} {}\n",
            boot()?,
            namespace()?,
            session(),
            own.pid,
            own.started
        );
        fs::write(directory.join(NAME), text)
    }

    /// What adds a guard or a keeper to the record of this process's host.
    ///
    /// # Errors
    /// It cannot be written any more.
    pub(crate) fn adding(directory: &Path) -> io::Result<impl Fn(Helper) + Send + Sync + 'static> {
        let file = OpenOptions::new().append(true).open(directory.join(NAME))?;
        Ok(move |helper: Helper| {
            // In one piece, since several may start at a time.
            let line = format!("{} {} {}\n", helper.role, helper.pid, helper.started);
            if let Err(error) = (&file as &File).write_all(line.as_bytes()) {
                tracing::warn!(%error, ?helper, "could not be recorded");
            }
        })
    }

    /// The one in `directory`; none where there is none, or it has not all that it needs.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(directory.join(NAME)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        // The last line is not whole where its writer was killed over it.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (word, values) = line.split_once(' ')?;
            let process = || {
                let (pid, started) = values.split_once(' ')?;
                Some((pid.parse().ok()?, started.parse().ok()?))
            };
            match word {
                "boot" => values.clone_into(&mut found.boot),
                "namespace" => values.clone_into(&mut found.namespace),
                "session" => values.clone_into(&mut found.session),
                "host" => found.host = process()?,
                "guard" | "keeper" => found.helpers.push(process()?),
                _ => {}
            }
        }
        let is_whole = !found.boot.is_empty() && found.session.len() == 32 && found.host.0 > 0;
        is_whole.then_some(found)
    }

    pub(crate) fn standing(&self) -> Standing {
        let (pid, started) = self.host;
        match (boot(), namespace()) {
            (Ok(boot), _) if boot != self.boot => Standing::Bygone,
            (Ok(_), Ok(namespace)) if namespace == self.namespace => {
                let lives = |host: Process| host.started == started && host.is_alive();
                if Process::look(pid).is_ok_and(lives) { Standing::NotOurs } else { Standing::Here }
            }
            _ => Standing::NotOurs,
        }
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_without_a_line_that_is_not_whole() {
        let directory = tempfile::tempdir().unwrap();
        RunRecord::write(directory.path()).unwrap();
        let add = RunRecord::adding(directory.path()).unwrap();
        add(Helper { role: "guard", pid: 7, started: 70 });
        add(Helper { role: "keeper", pid: 8, started: 80 });
        let found = RunRecord::read(directory.path()).unwrap();
        assert_eq!(found.session, session().to_string());
        assert_eq!(found.helpers, [(7, 70), (8, 80)]);
        assert_eq!(found.standing(), Standing::NotOurs, "its host lives");
        let text = fs::read_to_string(directory.path().join(NAME)).unwrap();
        let cut = format!("{text}group x\nkeeper 9 9");
        assert_eq!(RunRecord::parse(&cut).unwrap().helpers, found.helpers);
        assert_eq!(RunRecord::parse("boot x\n"), None);
    }

    #[test]
    fn the_dead_of_another_boot_are_bygone_and_those_of_another_namespace_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        RunRecord::write(directory.path()).unwrap();
        let own = RunRecord::read(directory.path()).unwrap();
        // No process has pid 1 since that moment.
        let dead = RunRecord { host: (1, u64::MAX), ..own };
        assert_eq!(dead.standing(), Standing::Here);
        assert_eq!(RunRecord { boot: "another".into(), ..dead.clone() }.standing(), Standing::Bygone);
        assert_eq!(RunRecord { namespace: "another".into(), ..dead }.standing(), Standing::NotOurs);
    }
}
