use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Controller, number_after};
use crate::{Pidfd, open_directory};

/// The period that shares of processors are counted over, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;
/// The kernel's least share in one period.
const LEAST_QUOTA: u64 = 1000;
/// How long a group of version 1 may take to stand still.
const FREEZING: Duration = Duration::from_millis(50);

/// The group of one proc: a directory in each hierarchy that it is in.
#[derive(Debug, Default)]
pub struct Group {
    unified: Option<PathBuf>,
    /// Version 2 kills it by itself.
    kill: bool,
    /// Where its memory is counted.
    memory: Option<(PathBuf, &'static str)>,
    v1: Vec<PathBuf>,
    freezer: Option<PathBuf>,
}

impl Group {
    pub(super) fn set_unified(&mut self, path: PathBuf, kill: bool, memory: bool) {
        self.memory = memory.then(|| (path.clone(), "memory.events"));
        self.kill = kill;
        self.unified = Some(path);
    }

    pub(super) fn set_freezer(&mut self, path: PathBuf) {
        self.freezer = Some(path.clone());
        self.v1.push(path);
    }

    pub(super) fn add(&mut self, path: PathBuf) {
        if path.join("memory.oom_control").exists() {
            self.memory.get_or_insert_with(|| (path.clone(), "memory.oom_control"));
        }
        self.v1.push(path);
    }

    /// Sets a limit: in `hierarchy`, or in version 2.
    pub(super) fn limit(
        &mut self,
        hierarchy: Option<PathBuf>,
        controller: Controller,
        limit: u64,
    ) -> io::Result<()> {
        let unified = hierarchy.is_none();
        if let Some(path) = &hierarchy {
            self.add(path.clone());
        }
        let Some(path) = hierarchy.or_else(|| self.unified.clone()) else {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        };
        let file = path.join(controller.file(unified));
        match controller {
            Controller::Memory => {
                fs::write(file, limit.to_string())?;
                // Where there is no swap there is no file for it either.
                let _ = if unified {
                    fs::write(path.join("memory.swap.max"), "0")
                } else {
                    fs::write(path.join("memory.memsw.limit_in_bytes"), limit.to_string())
                };
                Ok(())
            }
            Controller::Pids => fs::write(file, limit.to_string()),
            Controller::Cpu => {
                let quota = (limit * PERIOD / 1000).max(LEAST_QUOTA);
                if unified {
                    return fs::write(file, format!("{quota} {PERIOD}"));
                }
                fs::write(path.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                fs::write(file, quota.to_string())
            }
        }
    }

    pub(super) fn is_nowhere(&self) -> bool {
        self.directories().next().is_none()
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().chain(&self.v1)
    }

    /// The directory that a child can be made in.
    ///
    /// # Errors
    /// No file descriptor left, or somebody has removed it.
    pub fn place(&self) -> io::Result<Option<OwnedFd>> {
        self.unified.as_deref().map(open_directory).transpose()
    }

    /// The files that a child writes itself into.
    ///
    /// # Errors
    /// No file descriptor left, or somebody has removed it.
    pub fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |path: &PathBuf| OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        self.v1.iter().map(|path| open(path).map(OwnedFd::from)).collect()
    }

    /// Kills what is in it now; what is forked meanwhile too, where the kernel does it.
    pub fn kill(&self) {
        if self.kill
            && let Some(unified) = &self.unified
            && fs::write(unified.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        if let Some(freezer) = &self.freezer {
            freeze(freezer);
        }
        let name = self.directories().find_map(|path| path.file_name());
        for pid in self.members() {
            // A number may mean a stranger by now; once the pidfd holds it fast that shows.
            let Ok(pidfd) = Pidfd::open(pid) else { continue };
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if name.and_then(|name| name.to_str()).is_some_and(|name| groups.contains(name)) {
                let _ = pidfd.signal(libc::SIGKILL);
            }
        }
        // The frozen ones die once they are thawed; whoever froze them.
        if let Some(freezer) = &self.freezer {
            let _ = fs::write(freezer.join("freezer.state"), "THAWED");
        }
    }

    /// The ids of its processes, in sub-groups too.
    pub fn members(&self) -> Vec<u32> {
        let Some(directory) = self.directories().next() else { return Vec::new() };
        let mut all = Vec::new();
        for group in with_groups_below(directory) {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        all
    }

    /// Whether no process is in it, zombies aside.
    pub fn is_empty(&self) -> bool {
        if let Some(unified) = &self.unified {
            let events = fs::read_to_string(unified.join("cgroup.events")).unwrap_or_default();
            return number_after(&events, "populated").is_none_or(|populated| populated == 0);
        }
        self.members().is_empty()
    }

    /// Whether the kernel has killed something in it for want of memory; none where that is not counted.
    pub fn oom(&self) -> Option<bool> {
        let (directory, file) = self.memory.as_ref()?;
        // Version 1 counts for each group apart.
        let groups = if self.unified.as_ref() == Some(directory) {
            vec![directory.clone()]
        } else {
            with_groups_below(directory)
        };
        let count = |group: &PathBuf| number_after(&fs::read_to_string(group.join(file)).ok()?, "oom_kill");
        let counts: Vec<u64> = groups.iter().filter_map(count).collect();
        (!counts.is_empty()).then(|| counts.iter().any(|&count| count > 0))
    }

    /// Removes it, with the groups that its processes have made in it; false while somebody is in it.
    pub fn remove(&self) -> bool {
        // From the inside out; what somebody else has removed is removed.
        let stays = |group: &PathBuf| match fs::remove_dir(group) {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            Ok(()) => false,
        };
        let left = |path: &PathBuf| with_groups_below(path).iter().rev().filter(|group| stays(group)).count();
        self.directories().map(left).sum::<usize>() == 0
    }
}

/// `directory` and all groups below it, from the outside in.
fn with_groups_below(directory: &Path) -> Vec<PathBuf> {
    let mut all = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(group) = all.get(next) {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let below: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        all.extend(below);
        next += 1;
    }
    all
}

/// Stops all forks in a group of version 1, for a moment.
fn freeze(group: &Path) {
    let state = group.join("freezer.state");
    let deadline = Instant::now() + FREEZING;
    while fs::write(&state, "FROZEN").is_ok() && Instant::now() < deadline {
        let mut text = [0; 6];
        let read = File::open(&state).and_then(|mut file| io::Read::read_exact(&mut file, &mut text));
        if read.is_err() || &text == b"FROZEN" {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
