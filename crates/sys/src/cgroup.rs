//! Control groups, for children of this process: which there are, and one for each proc.
//!
//! Version 2 makes a kill certain, and needs no controller for that. Limits, and the count of what the
//! kernel has killed for want of memory, come from version 2 where its controllers reach us, else from
//! the hierarchies of version 1; many machines have both. Where there is nothing, nothing fails.

mod group;
mod mounts;
mod owner;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use group::Group;
pub use owner::Owner;

/// What all names of ours start with.
const PREFIX: &str = "procession-";

/// What a group can limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Time of processors.
    Cpu,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }

    /// The file that holds the limit, in version 2 and in version 1.
    fn file(self, unified: bool) -> &'static str {
        match (self, unified) {
            (Self::Memory, true) => "memory.max",
            (Self::Memory, false) => "memory.limit_in_bytes",
            (Self::Pids, _) => "pids.max",
            (Self::Cpu, true) => "cpu.max",
            (Self::Cpu, false) => "cpu.cfs_quota_us",
        }
    }
}

/// What a group is held to; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; nothing of it is swapped out instead.
    pub memory: Option<u64>,
    /// Processes and threads together.
    pub pids: Option<u64>,
    /// Thousandths of one processor.
    pub cpu_millis: Option<u64>,
}

impl Limits {
    fn of(&self, controller: Controller) -> Option<u64> {
        match controller {
            Controller::Memory => self.memory,
            Controller::Pids => self.pids,
            Controller::Cpu => self.cpu_millis,
        }
    }

    fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Version 2, as far as it reaches us.
#[derive(Clone, Debug)]
struct Unified {
    /// Where groups of ours go.
    base: PathBuf,
    /// What they get.
    controllers: Vec<Controller>,
    /// It has `cgroup.kill`: from Linux 5.14 on.
    kill: bool,
}

/// Where groups can be made for children of this process, found out by making one.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    unified: Option<Unified>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    freezer: Option<PathBuf>,
}

impl Cgroups {
    /// Looks and tries; takes away again what it made.
    pub fn find() -> Self {
        let own = mounts::own_groups();
        let hierarchy = |name: &str, knob: &str| {
            let base = own.v1.get(name)?;
            try_group(base, |group| is_writable(&group.join(knob))).then(|| base.clone())
        };
        let limited = |controller: Controller| hierarchy(controller.name(), controller.file(false));
        Self {
            unified: own.unified.as_deref().and_then(find_unified),
            memory: limited(Controller::Memory),
            pids: limited(Controller::Pids),
            cpu: limited(Controller::Cpu),
            freezer: hierarchy("freezer", "freezer.state"),
        }
    }

    /// Whether every proc gets a group of version 2.
    pub fn has_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether the kernel kills a whole group of version 2 at once, frozen ones too.
    pub fn kills_groups(&self) -> bool {
        self.unified.as_ref().is_some_and(|unified| unified.kill)
    }

    /// Whether groups can be frozen, in whichever version.
    pub fn freezes(&self) -> bool {
        self.unified.is_some() || self.freezer.is_some()
    }

    /// The version that enforces limits of this kind: 2 or 1, or none does.
    pub fn version_for(&self, controller: Controller) -> Option<u32> {
        if self.unified.as_ref().is_some_and(|unified| unified.controllers.contains(&controller)) {
            return Some(2);
        }
        self.hierarchy(controller).map(|_| 1)
    }

    fn hierarchy(&self, controller: Controller) -> Option<&Path> {
        match controller {
            Controller::Memory => self.memory.as_deref(),
            Controller::Pids => self.pids.as_deref(),
            Controller::Cpu => self.cpu.as_deref(),
        }
    }

    /// A group called `name`, held to `limits`; none where there are no groups and none are needed.
    ///
    /// To join a hierarchy of version 1 makes the kernel wait for all processors, for milliseconds: so
    /// that is done for limits only, and never for the sake of the kill alone.
    ///
    /// # Errors
    /// A limit cannot be enforced here (`Unsupported`), or the kernel refuses it; nothing is left.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<Option<Group>> {
        let mut group = Group::default();
        let made = self.fill(&mut group, name, limits);
        if made.is_err() {
            group.remove();
        }
        made.map(|()| (!group.is_nowhere()).then_some(group))
    }

    fn fill(&self, group: &mut Group, name: &str, limits: &Limits) -> io::Result<()> {
        if let Some(unified) = &self.unified {
            match make_in(&unified.base, name) {
                Ok(path) => {
                    group.set_unified(path, unified.kill, unified.controllers.contains(&Controller::Memory))
                }
                // Without a limit nothing that was asked for is missed.
                Err(_) if !limits.any() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for controller in Controller::ALL {
            let Some(limit) = limits.of(controller) else { continue };
            match (self.version_for(controller), self.hierarchy(controller)) {
                (Some(2), _) => group.limit(None, controller, limit)?,
                (_, Some(base)) => group.limit(Some(make_in(base, name)?), controller, limit)?,
                _ => return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
            }
        }
        if let Some(base) = &self.freezer
            && self.unified.is_none()
            && limits.any()
        {
            group.set_freezer(make_in(base, name)?);
        }
        Ok(())
    }

    fn bases(&self) -> impl Iterator<Item = &Path> {
        let v1 = [&self.memory, &self.pids, &self.cpu, &self.freezer];
        let unified = self.unified.iter().map(|unified| unified.base.as_path());
        unified.chain(v1.into_iter().flatten().map(PathBuf::as_path))
    }

    /// The group called `name`, as far as it is still there.
    pub fn open(&self, name: &str) -> Group {
        let mut group = Group::default();
        let there = |base: &Path| Some(base.join(name)).filter(|path| path.is_dir());
        if let Some(unified) = &self.unified
            && let Some(path) = there(&unified.base)
        {
            group.set_unified(path, unified.kill, unified.controllers.contains(&Controller::Memory));
        }
        let v1 = [&self.memory, &self.pids, &self.cpu];
        v1.into_iter().flatten().filter_map(|base| there(base)).for_each(|path| group.add(path));
        if let Some(path) = self.freezer.as_deref().and_then(there) {
            group.set_freezer(path);
        }
        group
    }

    /// The names of the groups of ours whose owner is gone: what a host that was killed together with
    /// its keeper left behind. To be killed and removed by [`Self::open`].
    pub fn left_behind(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .bases()
            .filter_map(|base| fs::read_dir(base).ok())
            .flat_map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
            .filter(|name| Owner::of_group(name).is_some_and(|owner| owner.is_gone()))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// More than the kernel counts in `/proc/vmstat`, in bytes.
const VMSTAT: usize = 16 << 10;

/// What the kernel has killed for want of memory since the machine was started, in any group; none where
/// it does not count that (before Linux 4.13).
pub fn oom_kills() -> Option<u64> {
    let mut file = File::open("/proc/vmstat").ok()?;
    let (mut text, mut length) = ([0; VMSTAT], 0);
    // Every read counts everything anew, and an exit waits for this: so there is one read, as a rule.
    loop {
        let more = file.read(&mut text[length..]).ok().filter(|&more| more > 0)?;
        length += more;
        let found = &std::str::from_utf8(&text[..length]).ok()?;
        if let Some((number, _)) = found.split_once("\noom_kill ").and_then(|(_, from)| from.split_once('\n'))
        {
            return number.parse().ok();
        }
    }
}

/// The number in the line that starts with `key`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn find_unified(own: &Path) -> Option<Unified> {
    let base = mounts::delegated_parent(own).unwrap_or_else(|| own.to_owned());
    // To move a child from our group into one of its own takes both.
    if !is_writable(&own.join("cgroup.procs")) || !is_writable(&base.join("cgroup.procs")) {
        return None;
    }
    let words = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let offered = words(base.join("cgroup.controllers"));
    for controller in Controller::ALL.into_iter().filter(|one| has_word(&offered, one.name())) {
        // Refused where the group holds processes itself; then its children get what they get.
        let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{}", controller.name()));
    }
    let (mut given, mut kill) = (String::new(), false);
    let found = try_group(&base, |group| {
        given = words(group.join("cgroup.controllers"));
        kill = is_writable(&group.join("cgroup.kill"));
        is_writable(&group.join("cgroup.procs"))
    });
    let controllers = Controller::ALL.into_iter().filter(|one| has_word(&given, one.name())).collect();
    found.then_some(Unified { base, controllers, kill })
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_ascii_whitespace().any(|one| one == word)
}

/// Whether a group can be made here, and suits; it is removed again.
fn try_group(base: &Path, suits: impl FnOnce(&Path) -> bool) -> bool {
    let name = format!("{PREFIX}try-{}", Owner::this_process().next_number());
    let Ok(group) = make_in(base, &name) else { return false };
    let suits = suits(&group);
    fs::remove_dir(&group).is_ok() && suits
}

fn make_in(base: &Path, name: &str) -> io::Result<PathBuf> {
    let path = base.join(name);
    fs::create_dir(&path).map(|()| path)
}

fn is_writable(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).is_ok()
}

#[cfg(test)]
mod tests;
