//! How detached procs ended: a file of their state directory, for the next host. Written by the one that keeps
//! them, before it reaps; read by hosts.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_sys::ExitStatus;

const NAME: &str = "exits";
/// From this many bytes on a fresh file is begun; the one before it is kept.
const ENOUGH: u64 = 1 << 20;

/// How one proc ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// As hex digits.
    pub(crate) launch: String,
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since boot.
    pub(crate) started: u64,
    pub(crate) status: ExitStatus,
    pub(crate) oom: Option<bool>,
    /// When that was seen, since the epoch.
    pub(crate) at: Duration,
}

impl Ended {
    /// `<launch> <pid> <start time> exited|signaled <code> <core> <oom> <nanoseconds since the epoch>`
    fn line(&self) -> String {
        let (how, code, core) = match self.status {
            ExitStatus::Exited { code } => ("exited", code, false),
            ExitStatus::Signaled { signal, core_dumped } => ("signaled", signal, core_dumped),
        };
        let oom = self.oom.map_or("-", |oom| if oom { "1" } else { "0" });
        let Self { launch, pid, started, at, .. } = self;
        format!("{launch} {pid} {started} {how} {code} {} {oom} {}\n", u8::from(core), at.as_nanos())
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let &[launch, pid, started, how, code, core, oom, at] = words.as_slice() else { return None };
        let code = code.parse().ok()?;
        let status = match how {
            "exited" => ExitStatus::Exited { code },
            "signaled" => ExitStatus::Signaled { signal: code, core_dumped: core == "1" },
            _ => return None,
        };
        Some(Self {
            launch: launch.to_owned(),
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            status,
            oom: (oom != "-").then_some(oom == "1"),
            at: Duration::from_nanos(at.parse().ok()?),
        })
    }
}

/// The file; one process at a time writes it.
pub(crate) struct Exits(PathBuf);

impl Exits {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self(directory.join(NAME))
    }

    fn earlier(&self) -> PathBuf {
        self.0.with_extension("1")
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(&self.0)
    }

    /// Writes one down for good, or nothing of it.
    pub(crate) fn append(&self, ended: &Ended) -> io::Result<()> {
        let mut file = self.open()?;
        let mut length = file.metadata()?.len();
        if length >= ENOUGH {
            fs::rename(&self.0, self.earlier())?;
            (file, length) = (self.open()?, 0);
        }
        let written = file.write_all(ended.line().as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            let _as_it_was = file.set_len(length);
        }
        written
    }

    /// All that are known, by their launch. What was written twice, because its writer died over it,
    /// counts as it was written first.
    pub(crate) fn read(&self) -> io::Result<HashMap<String, Ended>> {
        let mut all = HashMap::new();
        for path in [self.earlier(), self.0.clone()] {
            let text = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let lines = String::from_utf8_lossy(&text);
            for ended in lines.split_inclusive('\n').filter_map(|l| Ended::read(l.strip_suffix('\n')?)) {
                all.entry(ended.launch.clone()).or_insert(ended);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(launch: &str, code: i32) -> Ended {
        let (status, at) = (ExitStatus::Exited { code }, Duration::from_nanos(123_456_789));
        Ended { launch: launch.to_owned(), pid: 7, started: 8, status, oom: None, at }
    }

    #[test]
    fn what_is_written_is_read_as_it_was_the_first_time() {
        let directory = tempfile::tempdir().unwrap();
        let exits = Exits::in_directory(directory.path());
        assert!(exits.read().unwrap().is_empty());
        let status = ExitStatus::Signaled { signal: 11, core_dumped: true };
        let dumped = Ended { status, oom: Some(false), ..ended("b", 0) };
        for one in [&ended("a", 3), &dumped, &ended("a", 4)] {
            exits.append(one).unwrap();
        }
        let cut = "c 1 2 exited 0 0 - 5";
        exits.open().unwrap().write_all(cut.as_bytes()).unwrap();
        let all = exits.read().unwrap();
        assert_eq!((&all["a"], &all["b"], all.len()), (&ended("a", 3), &dumped, 2));
    }

    #[test]
    fn the_file_is_bounded_and_the_latest_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let exits = Exits::in_directory(directory.path());
        exits.append(&ended("old", 1)).unwrap();
        exits.open().unwrap().write_all(&vec![b'\n'; ENOUGH as usize]).unwrap();
        exits.append(&ended("new", 2)).unwrap();
        assert!(fs::metadata(&exits.0).unwrap().len() < 100);
        let all = exits.read().unwrap();
        assert!(all.contains_key("old") && all.contains_key("new"));
    }
}
