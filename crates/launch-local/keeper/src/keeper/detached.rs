//! What a keeper does for procs that outlive their host: it writes down how they end; while they have no host
//! it moves their output into their files; and it hands them to the next host.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procession_sys::{self as sys, ExitStatus, LogFile, Pidfd, Process, Tree};

use super::{Keeper, Phase, Proc, own_child};
use crate::adopting::Adopting;
use crate::control::{Control, Pipes};
use crate::exits::{Ended, Exits};
use crate::order::Output;
use crate::protocol::{Reply, Request, Strings};

/// How much of a pipe is moved at a time.
const BUFFER: usize = 64 << 10;
/// When an exit could not be written down, until the next try.
const WRITE_AGAIN: Duration = Duration::from_millis(200);
/// Connections that have not said yet who they are.
const KNOCKING: usize = 8;
/// Outputs of ended procs that are kept until the host has read them.
const UNREAD: usize = 64;

/// The files that the pipes of one proc go into, and whether there may be more in each pipe.
pub(super) struct Files {
    logs: [LogFile; 2],
    open: [bool; 2],
}

impl Files {
    pub(super) fn new(output: Output) -> Self {
        let Output { paths, rotation } = output;
        Self { logs: paths.map(|path| LogFile::new(path, rotation)), open: [true; 2] }
    }

    /// The host writes to them from here on.
    fn close(&mut self) {
        self.logs.iter_mut().for_each(LogFile::close);
    }
}

/// The output of a proc, while it has one and after its end.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Running(u64, usize),
    Ended(usize, usize),
}

/// What a guard knows that takes over.
pub(crate) struct Legacy {
    /// By their ids: pid, start time, and the descriptors of [`Reply::Kept`].
    pub(crate) procs: HashMap<u64, (u32, u64, Vec<OwnedFd>)>,
}

pub(crate) struct Detached {
    exits: Exits,
    listener: OwnedFd,
    /// To the guard, where there is one.
    link: Option<Control>,
    guard: Option<Process>,
    knocking: VecDeque<Control>,
    /// A host lives that reads the output.
    pub(super) owned: bool,
    unread: Vec<(Pipes, Files)>,
    /// Nobody can be let in before, for want of a descriptor.
    shut: Option<Instant>,
    /// An exit could not be written down, and waits for that with the kernel.
    pause: Option<Instant>,
    buffer: Vec<u8>,
}

impl Detached {
    /// For a keeper with a `link` to its guard; a guard that has taken over has none.
    pub(crate) fn new(directory: &Path, listener: OwnedFd, link: Option<OwnedFd>) -> io::Result<Self> {
        let own = Process::look(std::process::id())?;
        let guard = link.as_ref().and_then(|_| Process::look(own.parent).ok());
        Ok(Self {
            exits: Exits::in_directory(directory),
            listener,
            link: link.map(Control::new),
            guard,
            knocking: VecDeque::new(),
            owned: true,
            unread: Vec::new(),
            shut: None,
            pause: None,
            buffer: vec![0; BUFFER],
        })
    }

    pub(super) fn watches(&self) -> impl Iterator<Item = sys::Watch<'_>> {
        let guests = self.knocking.iter().chain(&self.link).filter_map(Control::watch);
        guests.chain(self.shut.is_none().then(|| sys::Watch::readable(self.listener.as_fd())))
    }

    fn open_the_door(&mut self) {
        self.shut = self.shut.filter(|until| *until > Instant::now());
        while self.shut.is_none() {
            let guest = match sys::accept(self.listener.as_fd()) {
                Ok(guest) => guest,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Who knocks goes on knocking, and must not keep this awake.
                Err(_) => {
                    self.shut = Some(Instant::now() + sys::LOOK_AGAIN);
                    break;
                }
            };
            if sys::peer_uid(guest.as_fd()).is_ok_and(|uid| uid == sys::own_ids().0) {
                self.knocking.push_back(Control::new(guest));
            }
        }
        while self.knocking.len() > KNOCKING {
            self.knocking.pop_front();
        }
    }

    fn tell_guard(&mut self, reply: Reply, fds: Option<Pipes>) {
        self.link.iter_mut().for_each(|link| link.send_with(reply, fds.clone()));
    }
}

impl Keeper {
    /// Makes it a keeper of detached procs; with a `legacy` it goes on for another one that was killed.
    pub(crate) fn detached(mut self, detached: Detached, legacy: Option<Legacy>) -> Self {
        self.detached = Some(detached);
        for (id, (pid, started, fds)) in legacy.into_iter().flat_map(|legacy| legacy.procs) {
            self.inherit(id, pid, started, fds);
        }
        if self.adopting.is_asking() {
            self.tell_all();
        }
        self
    }

    fn inherit(&mut self, id: u64, pid: u32, started: u64, fds: Vec<OwnedFd>) {
        let strings = fds.get(2).and_then(|fd| Strings::read(fd.try_clone().ok()?));
        let Some(strings) = strings else { return };
        let tree = Tree::new(pid, started, strings.launch().unwrap_or_default(), Some(std::process::id()));
        let group = self.groups.open(&strings.order.group);
        let Some(child) = own_child(pid, started) else {
            self.kills.add_leftover(id, tree, group);
            return;
        };
        self.leaders.insert(pid, id);
        let (phase, files) = (Phase::Running(child), strings.order.output.map(Files::new));
        self.procs
            .insert(id, Proc { phase, tree, group, started, pipes: Some(Rc::new(fds)), files, told: false });
    }

    /// Tells the owner what runs; from here on it reads their output.
    fn tell_all(&mut self) {
        for (&id, proc) in &mut self.procs {
            proc.files.iter_mut().for_each(Files::close);
            let (pid, started) = (proc.child().pid, proc.started);
            self.control.send_with(Reply::Kept { id, pid, started }, proc.pipes.clone());
        }
        self.control.send(Reply::All);
    }

    /// Sees whether the host is gone, and whether another one asks to be it; true when there is more to do now.
    pub(super) fn look_after_owner(&mut self) -> io::Result<bool> {
        let Some(detached) = &mut self.detached else { return Ok(false) };
        let before = detached.owned;
        if detached.owned && !self.ending && (self.control.is_closed() || self.host.has_ended()?) {
            detached.owned = false;
            // A fork of the host may hold it open.
            self.control.close();
            if self.adopting.is_asking() {
                self.adopting = Adopting::clear();
            }
        }
        detached.open_the_door();
        let mut silent = VecDeque::new();
        for mut guest in std::mem::take(&mut detached.knocking) {
            match guest.receive() {
                Some((Request::Own, fds)) => self.meet(guest, fds),
                None if !guest.is_closed() => silent.push_back(guest),
                _ => {}
            }
        }
        if let Some(detached) = &mut self.detached {
            detached.knocking = silent;
        }
        Ok(self.is_owned() != before)
    }

    fn meet(&mut self, mut guest: Control, fds: Vec<OwnedFd>) {
        let Some(detached) = &mut self.detached else { return };
        let Some(pidfd) = fds.into_iter().next() else { return };
        if detached.owned || self.ending {
            guest.send(Reply::Busy);
            guest.flush();
            return;
        }
        detached.owned = true;
        if let (Ok(socket), Ok(host)) = (guest.duplicate(), pidfd.try_clone()) {
            detached.tell_guard(Reply::Owned { pid: 0, started: 0 }, Some(Rc::new(vec![socket, host])));
        }
        let (pid, started) = detached.guard.as_ref().map_or((0, 0), |guard| (guard.pid, guard.started));
        self.drain_unread();
        self.host = Pidfd::from(pidfd);
        self.control = guest;
        self.control.send(Reply::Owned { pid, started });
        if let Ok(own) = Process::look(std::process::id()) {
            self.control.send(Reply::Keeps { pid: own.pid, started: own.started });
        }
        self.tell_all();
        self.control.flush();
    }

    /// What procs had written whose ends are known already.
    pub(super) fn drain_unread(&mut self) {
        let Some(detached) = &self.detached else { return };
        for place in (0..detached.unread.len()).flat_map(|at| [Place::Ended(at, 0), Place::Ended(at, 1)]) {
            self.drain(place);
        }
        self.detached.iter_mut().for_each(|detached| detached.unread.clear());
    }

    /// Whether there is neither a host nor anything to keep.
    pub(super) fn is_left_alone(&self) -> bool {
        let Some(detached) = &self.detached else { return false };
        let idle = self.procs.is_empty() && self.kills.is_empty() && detached.knocking.is_empty();
        idle && !detached.owned && !self.ending && self.adopting.next_due().is_none()
    }

    pub(super) fn tell_guard(&mut self, id: u64) {
        let Some(detached) = &mut self.detached else { return };
        if let Some(proc) = self.procs.get(&id) {
            let (pid, started) = (proc.child().pid, proc.started);
            detached.tell_guard(Reply::Kept { id, pid, started }, proc.pipes.clone());
        }
        self.flush_link();
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.detached.iter_mut().for_each(|detached| detached.tell_guard(Reply::Forget { id }, None));
    }

    pub(super) fn flush_link(&mut self) {
        if let Some(link) = self.detached.as_mut().and_then(|detached| detached.link.as_mut()) {
            link.flush();
            // It says nothing; but that it is gone is to be seen.
            let _ = link.receive();
        }
    }

    pub(super) fn detached_times(&self) -> [Option<Instant>; 3] {
        let detached = self.detached.as_ref();
        let times = detached.map_or([None; 2], |d| [d.pause, d.shut]);
        [times[0], times[1], detached.and_then(|d| d.link.as_ref()?.next_try())]
    }

    /// Whether exits may be reaped: one that could not be written down stays with the kernel for a while.
    pub(super) fn can_write_down(&mut self) -> bool {
        let Some(detached) = &mut self.detached else { return true };
        detached.pause = detached.pause.filter(|until| *until > Instant::now());
        detached.pause.is_none()
    }

    /// Writes down how a detached proc ended, after the last that it wrote; false when that is to be tried
    /// again, because nobody else would know.
    pub(super) fn write_down(&mut self, id: u64, status: ExitStatus, oom: Option<bool>) -> bool {
        if !self.is_owned() {
            [0, 1].into_iter().for_each(|stream| self.drain(Place::Running(id, stream)));
        }
        let (Some(detached), Some(proc)) = (&mut self.detached, self.procs.get(&id)) else { return true };
        let strings = proc.pipes.as_ref().and_then(|pipes| Strings::read(pipes.get(2)?.try_clone().ok()?));
        let Some(launch) = strings.as_ref().and_then(Strings::launch) else { return true };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (pid, started) = (proc.child().pid, proc.started);
        let ended = Ended { launch: launch.to_owned(), pid, started, status, oom, at };
        let failure = detached.exits.append(&ended).err();
        // Where the directory is gone nobody will ask.
        if failure.is_some_and(|error| error.kind() != io::ErrorKind::NotFound) && !detached.owned {
            detached.pause = Some(Instant::now() + WRITE_AGAIN);
            return false;
        }
        true
    }

    fn is_owned(&self) -> bool {
        self.detached.as_ref().is_none_or(|detached| detached.owned)
    }

    /// What has ended may have output that its host has not read, and then never will.
    pub(super) fn keep_output(&mut self, pipes: Option<Pipes>, files: Option<Files>) {
        let Some(detached) = &mut self.detached else { return };
        let waits =
            |pipes: &Pipes| pipes.iter().take(2).any(|fd| sys::bytes_waiting(fd.as_fd()).unwrap_or(0) > 0);
        detached.unread.retain(|(pipes, _)| waits(pipes));
        if let Some(output) = pipes.zip(files).filter(|(pipes, _)| waits(pipes)) {
            detached.unread.push(output);
            let over = detached.unread.len().saturating_sub(UNREAD);
            detached.unread.drain(..over);
        }
    }

    /// The pipes that nobody else reads.
    pub(super) fn pumped(&self) -> Vec<Place> {
        if self.is_owned() {
            return Vec::new();
        }
        let running = self.procs.iter().filter_map(|(&id, proc)| Some((id, proc.files.as_ref()?)));
        let running = running.flat_map(|(id, files)| {
            (0..2).filter(|&stream| files.open[stream]).map(move |stream| Place::Running(id, stream))
        });
        let ended = self.detached.iter().flat_map(|detached| detached.unread.iter().enumerate());
        let ended = ended.flat_map(|(at, (_, files))| {
            (0..2).filter(|&stream| files.open[stream]).map(move |stream| Place::Ended(at, stream))
        });
        running.chain(ended).collect()
    }

    pub(super) fn pipe(&self, place: Place) -> Option<BorrowedFd<'_>> {
        let (pipes, stream) = match place {
            Place::Running(id, stream) => (self.procs.get(&id)?.pipes.as_ref()?, stream),
            Place::Ended(at, stream) => (&self.detached.as_ref()?.unread.get(at)?.0, stream),
        };
        Some(pipes.get(stream)?.as_fd())
    }

    /// Moves what waits in a pipe that is ready into its file; gives how much.
    pub(super) fn pump(&mut self, place: Place) -> usize {
        let Some(detached) = &mut self.detached else { return 0 };
        let found = match place {
            Place::Running(id, stream) => self
                .procs
                .get_mut(&id)
                .and_then(|proc| Some((proc.pipes.as_ref()?, proc.files.as_mut()?, stream))),
            Place::Ended(at, stream) => {
                detached.unread.get_mut(at).map(|(pipes, files)| (&*pipes, files, stream))
            }
        };
        let Some((pipes, files, stream)) = found else { return 0 };
        match files.logs[stream].take(pipes[stream].as_fd(), &mut detached.buffer) {
            Ok(taken) => {
                files.open[stream] = taken.bytes > 0;
                taken.bytes
            }
            Err(error) => {
                files.open[stream] = error.kind() == io::ErrorKind::WouldBlock;
                0
            }
        }
    }

    /// Moves what is in a pipe now into its file.
    fn drain(&mut self, place: Place) {
        let mut left = self.pipe(place).and_then(|pipe| sys::bytes_waiting(pipe).ok()).unwrap_or(0);
        while left > 0 {
            match self.pump(place) {
                0 => return,
                moved => left = left.saturating_sub(moved),
            }
        }
    }
}
