use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use crate::pidfd::ExitStatus;
use crate::{Pidfd, Snapshot};

/// The variable that a proc and its descendants carry their launch in; one that was launched from
/// inside another carries both, the inner first, with a colon between.
pub const MARKER: &str = "PROCESSION_LAUNCH_ID";

/// One process, as one look at `/proc` found it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// The kernel's letter: R, S, D, T, Z, …
    pub state: char,
    /// When it started, in clock ticks since boot: with the pid this names one process for good.
    pub started: u64,
    /// The kernel's flags of it.
    flags: u32,
    /// How many threads it has; one that has ended counts for as long as others run, and it was the first.
    threads: u32,
    /// How it ended, as wait is told; 0 as long as it runs, and for whom the kernel does not trust with it.
    exit_code: i32,
    marker: OnceCell<Option<String>>,
}

/// Longer than what the kernel says of any process in its `stat`, in bytes: 51 numbers, and a name.
const STAT: usize = 2048;
/// It was forked and has not executed anything since (PF_FORKNOEXEC).
const ONLY_FORKED: u32 = 0x40;

impl Process {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// There is none.
    pub fn look(pid: u32) -> io::Result<Self> {
        let mut text = [0; STAT];
        // The kernel gives all of it at once; a look at all processes is thousands of these.
        let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut text)?;
        Self::parse(pid, &text[..length])
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has another form")))
    }

    fn parse(pid: u32, stat: &[u8]) -> Option<Self> {
        // The second field is a name that may hold anything, spaces and brackets too.
        let end = stat.iter().rposition(|&b| b == b')')?;
        let mut fields = std::str::from_utf8(stat.get(end + 2..)?).ok()?.split(' ');
        let state = fields.next()?.chars().next()?;
        let mut number = || fields.next()?.parse().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        let flags = fields.nth(2)?.parse().ok()?;
        let threads = fields.nth(10)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        let exit_code = fields.nth(29)?.trim_end().parse().ok()?;
        let marker = OnceCell::new();
        Some(Self { pid, parent, group, session, state, started, flags, threads, exit_code, marker })
    }

    /// When it started, by the wall clock as it goes now.
    pub fn started_at(&self) -> Option<SystemTime> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime = Duration::try_from_secs_f64(uptime.split(' ').next()?.parse().ok()?).ok()?;
        // The kernel shows hundredths of a second to every program.
        let age = uptime.saturating_sub(Duration::from_millis(self.started * 10));
        SystemTime::now().checked_sub(age)
    }

    /// Whether it has executed a program since it was forked.
    pub fn has_executed(&self) -> bool {
        self.flags & ONLY_FORKED == 0
    }

    /// Whether it still runs, or could: the kernel calls it a zombie once its first thread has ended, whatever
    /// the others do.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') || self.threads > 1
    }

    /// How it ended, to be asked of a zombie of which a pidfd says that all of its threads have ended; none
    /// of others, and where this user may not know.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        // To read the link takes the same right; a zombie has no program any more.
        let may_know = || {
            let link = fs::read_link(format!("/proc/{}/exe", self.pid));
            link.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) && self.is_same_now()
        };
        (self.state == 'Z' && (self.exit_code != 0 || may_know()))
            .then(|| ExitStatus::from_wait(self.exit_code))
    }

    /// The marker in the environment that it was executed with; none for a zombie, and for a process
    /// whose environment this user may not read.
    pub fn marker(&self) -> Option<&str> {
        let read = || {
            let environ = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
            let mut entries = environ.split(|&b| b == 0);
            let value = entries.find_map(|e| e.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"="))?;
            String::from_utf8(value.to_vec()).ok()
        };
        self.marker.get_or_init(read).as_deref()
    }

    /// Whether it carries `launch`, innermost or further out.
    pub fn belongs_to(&self, launch: &str) -> bool {
        self.marker().is_some_and(|marker| marker.split(':').any(|one| one == launch))
    }

    /// Whether pid and start time still mean the same process.
    pub fn is_same_now(&self) -> bool {
        Self::look(self.pid).is_ok_and(|now| now.started == self.started)
    }

    /// Signals this process and no later one with its pid.
    ///
    /// To fail is to be too late, or not to be allowed: the next look shows which.
    pub fn signal(&self, signal: i32) {
        // The start time is compared once the pidfd holds the process fast.
        if let Ok(pidfd) = Pidfd::open(self.pid)
            && self.is_same_now()
        {
            let _ = pidfd.signal(signal);
        }
    }
}

/// A [`Snapshot`] that is taken in steps, by who has to do something else in between.
#[derive(Debug)]
pub struct Looking {
    entries: fs::ReadDir,
    all: Vec<Process>,
}

impl Looking {
    /// Begins one; nothing is looked at yet.
    ///
    /// # Errors
    /// As for [`Snapshot::take`].
    pub fn begin() -> io::Result<Self> {
        Ok(Self { entries: fs::read_dir("/proc")?, all: Vec::new() })
    }

    /// Looks at `most` further processes; gives all of them when there are no more.
    ///
    /// # Errors
    /// As for [`Snapshot::take`]; then it is of no more use.
    pub fn go_on(&mut self, most: usize) -> io::Result<Option<Snapshot>> {
        for _ in 0..most {
            let Some(entry) = self.entries.next() else {
                return Ok(Some(Snapshot::of(std::mem::take(&mut self.all))));
            };
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match Process::look(pid) {
                Ok(process) => self.all.push(process),
                // To miss processes for want of a descriptor would be to take them for dead.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) =>
                {
                    return Err(error);
                }
                // It has ended since the directory was read, or is hidden from this user.
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
impl Process {
    /// One that leads no group, in `session`.
    pub(crate) fn made_up(pid: u32, parent: u32, session: u32, started: u64, marker: Option<&str>) -> Self {
        let marker = OnceCell::from(marker.map(str::to_owned));
        Self {
            pid,
            parent,
            group: 0,
            session,
            state: 'S',
            started,
            flags: 0,
            threads: 1,
            exit_code: 0,
            marker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = [
            &b"7 (a) R 9 (b) S 3 4 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242"[..],
            &b" 1".repeat(29),
            b" 256\n",
        ];
        let found = Process::parse(7, &stat.concat()).expect("a well-formed line");
        assert_eq!((found.parent, found.group, found.session, found.started), (3, 4, 5, 4242));
        assert_eq!((found.threads, found.exit_code), (1, 256));
        assert!(found.is_alive());
    }

    #[test]
    fn a_process_lives_for_as_long_as_one_of_its_threads() {
        let mut found = Process::made_up(7, 1, 7, 70, None);
        found.state = 'Z';
        assert!(!found.is_alive());
        found.threads = 2;
        assert!(found.is_alive());
    }

    #[test]
    fn a_zombie_shows_how_it_ended_and_a_running_process_nothing() {
        let ended = |script: &str| {
            let child = std::process::Command::new("/bin/sh").args(["-c", script]).spawn();
            let mut child = child.expect("a shell");
            while Process::look(child.id()).expect("it is not reaped").is_alive() {
                std::thread::yield_now();
            }
            let status = Process::look(child.id()).expect("it is not reaped").exit_status();
            child.wait().expect("our child");
            status
        };
        assert_eq!(ended("exit 0"), Some(ExitStatus::Exited { code: 0 }));
        assert_eq!(ended("exit 255"), Some(ExitStatus::Exited { code: 255 }));
        let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(ended("kill -9 $$"), Some(killed));
        assert_eq!(Process::look(std::process::id()).expect("ourselves").exit_status(), None);
    }

    #[test]
    fn a_look_in_steps_finds_what_one_look_finds() {
        let child = std::process::Command::new("sleep").arg("1000").spawn();
        let mut child = child.expect("a process that stays");
        let mut looking = Looking::begin().expect("a look at /proc");
        let (mut steps, mut found) = (0, None);
        while found.is_none() {
            found = looking.go_on(2).expect("a step");
            steps += 1;
        }
        let all = found.expect("the end of the look");
        child.kill().expect("our child");
        child.wait().expect("our child");
        assert!(steps > 1, "{steps} steps");
        let below: Vec<u32> = all.descendants([std::process::id()]).iter().map(|found| found.pid).collect();
        assert!(below.contains(&child.id()) && all.find(std::process::id()).is_some());
        let pids: Vec<u32> = all.all().iter().map(|found| found.pid).collect();
        assert!(pids.is_sorted_by(|one, next| one < next), "each once, in order: {pids:?}");
    }

    #[test]
    fn the_snapshot_has_this_process_under_its_parent() {
        let all = Snapshot::take().expect("a look at /proc");
        let own = all.find(std::process::id()).expect("ourselves");
        assert!(own.is_same_now());
        let age = own.started_at().expect("its age").elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(600), "{age:?}");
        assert!(all.descendants([own.parent]).iter().any(|p| p.pid == own.pid));
    }
}
