//! The host's side of the conversation with one keeper, or with the guard that has taken over.

mod succession;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use procession_model::{LaunchId, ProcExitKind, ProcExitResult};
use procession_sys::{self as sys, ExitStatus, Pidfd, Process};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::failure::{LaunchFailure, Shown};
use crate::home::{Home, Inheritance, Inherited};
use crate::keeper::Pair;
use crate::launcher::{Keeper, Known, Note};
use crate::protocol::{Reply, Request, SEND_AGAIN, SIZE};
use crate::watched::watched;

pub(crate) struct Started {
    pub(crate) pid: u32,
    pub(crate) pipes: Option<[OwnedFd; 2]>,
    pub(crate) exit: oneshot::Receiver<ProcExitResult>,
}

/// How many launches may end before the keeper has removed the group of the first.
const ENDED: usize = 1024;

/// One launch on its way to the keeper.
pub(crate) struct Launch {
    pub(crate) launch: LaunchId,
    pub(crate) shown: Shown,
    pub(crate) captured: bool,
    pub(crate) detach: bool,
    /// As [`Request::Launch`] wants them.
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) started: oneshot::Sender<Result<Started, LaunchFailure>>,
}

/// What is asked of the keeper. A receiver that errs means that it has nothing more to keep.
pub(crate) enum Command {
    Launch(u64, Launch),
    Terminate(u64, oneshot::Sender<()>),
    /// Answered with a process that does not die, if there is one.
    Kill(u64, oneshot::Sender<Option<u32>>),
    Shutdown(oneshot::Sender<()>),
}

struct Open {
    launch: LaunchId,
    shown: Shown,
    captured: bool,
    started: Option<oneshot::Sender<Result<Started, LaunchFailure>>>,
    exit: Option<oneshot::Sender<ProcExitResult>>,
    leader: Option<Leader>,
}

/// How a conversation about detached procs begins; the default is one about others.
#[derive(Default)]
struct Detached {
    detached: bool,
    alone: bool,
    open: HashMap<u64, Open>,
}

/// The process that leads a proc.
pub(crate) struct Leader {
    pub(crate) pid: u32,
    pub(crate) started: u64,
    /// Opened while it was sure whom the pid means; none for want of a descriptor, or when that was too late.
    pub(crate) pidfd: Option<Pidfd>,
}

impl Leader {
    pub(crate) fn new(pid: u32, started: u64) -> Self {
        let same = |_: &Pidfd| Process::look(pid).is_ok_and(|found| found.started == started);
        Self { pid, started, pidfd: Pidfd::open(pid).ok().filter(same) }
    }
}

pub(crate) struct Driver {
    socket: AsyncFd<OwnedFd>,
    /// The process that it was started in.
    owner: u32,
    pair: Pair,
    /// Set once no later launch may be given to this keeper.
    retired: Arc<AtomicBool>,
    /// The guard has taken over.
    replaced: bool,
    /// Its procs outlive this process.
    detached: bool,
    /// Of keeper and guard only one is left.
    alone: bool,
    /// A guard that has taken over is about to say what it keeps; until then it takes in nothing.
    listening: bool,
    /// What it has said that it keeps.
    seen: HashSet<u64>,
    /// Nobody can ask any more: what is detached is left to its keeper.
    left: bool,
    /// Somebody may still ask for something.
    asking: bool,
    /// It has been told that it is enough.
    told: bool,
    commands: mpsc::UnboundedReceiver<Command>,
    known: Weak<Mutex<Known>>,
    unsent: VecDeque<(Request, Vec<OwnedFd>)>,
    /// The kernel was short of something; until then it is not asked again.
    pause: Option<Instant>,
    open: HashMap<u64, Open>,
    /// The latest that have ended, whose groups the keeper may not have removed yet.
    ended: VecDeque<LaunchId>,
    terminations: HashMap<u64, Vec<oneshot::Sender<()>>>,
    kills: HashMap<u64, Vec<oneshot::Sender<Option<u32>>>>,
    ends: Vec<oneshot::Sender<()>>,
}

impl Driver {
    /// Starts a keeper, and the task that speaks with it for as long as anything is kept.
    pub(crate) fn start(known: Weak<Mutex<Known>>, note: &Note) -> io::Result<Keeper> {
        let (pair, socket) = crate::keeper::start(None)?;
        pair.guard.into_iter().for_each(|guard| note(guard));
        Self::converse_with(pair, socket, known, Detached::default())
    }

    /// The same for detached procs, whose keeper is nobody else's business.
    pub(crate) fn start_detached(known: Weak<Mutex<Known>>, home: &Home) -> io::Result<Keeper> {
        let (pair, socket) = crate::keeper::start(Some(home))?;
        Self::converse_with(pair, socket, known, Detached { detached: true, ..Detached::default() })
    }

    /// Goes on with a keeper that another process has started; what is handed over can be taken from `handed`.
    pub(crate) fn go_on(
        inheritance: Inheritance,
        known: Weak<Mutex<Known>>,
        handed: &mut HashMap<LaunchId, (u64, Started)>,
    ) -> io::Result<Keeper> {
        let Inheritance { socket, guard, keeper, procs } = inheritance;
        let mut open = HashMap::new();
        for Inherited { id, launch, pid, started, pipes } in procs {
            let (sender, exit) = oneshot::channel();
            let (leader, shown) = (Some(Leader::new(pid, started)), Shown::default());
            open.insert(
                id,
                Open { launch, shown, captured: true, started: None, exit: Some(sender), leader },
            );
            handed.insert(launch, (id, Started { pid, pipes: Some(pipes), exit }));
        }
        let alone = guard.is_none();
        Self::converse_with(
            Pair::found(guard, keeper),
            socket,
            known,
            Detached { detached: true, alone, open },
        )
    }

    fn converse_with(
        pair: Pair,
        socket: OwnedFd,
        known: Weak<Mutex<Known>>,
        of: Detached,
    ) -> io::Result<Keeper> {
        let Detached { detached, alone, open } = of;
        let (sender, commands) = mpsc::unbounded_channel();
        let retired = Arc::new(AtomicBool::new(false));
        let driver = Self {
            socket: watched(socket)?,
            owner: std::process::id(),
            pair,
            retired: Arc::clone(&retired),
            replaced: false,
            detached,
            alone,
            listening: false,
            seen: HashSet::new(),
            left: false,
            asking: true,
            told: false,
            commands,
            known,
            unsent: VecDeque::new(),
            pause: None,
            open,
            ended: VecDeque::new(),
            terminations: HashMap::new(),
            kills: HashMap::new(),
            ends: Vec::new(),
        };
        tokio::spawn(driver.run());
        Ok(Keeper { commands: sender, retired, detached })
    }

    async fn run(mut self) {
        while self.converse().await {
            self.leave_if_idle();
        }
        if self.left {
            return;
        }
        self.bury().await;
    }

    /// One turn; false once the keeper is gone.
    async fn converse(&mut self) -> bool {
        tokio::select! {
            command = self.commands.recv(), if self.asking => {
                match command {
                    Some(command) => self.take(command),
                    None if self.detached => {
                        self.left = true;
                        return false;
                    }
                    None => {
                        self.asking = false;
                        self.tell_to_end();
                    }
                }
                // Many launches at once are one turn.
                while let Ok(command) = self.commands.try_recv() {
                    self.take(command);
                }
                self.flush()
            }
            ready = self.socket.readable() => {
                let Ok(mut ready) = ready else { return false };
                ready.retain_ready();
                drop(ready);
                self.receive_all()
            }
            how = self.pair.guard_ended() => {
                // One that ends by itself has seen its keeper end so.
                if how != Some(ExitStatus::Exited { code: 0 }) {
                    tracing::warn!(guard = ?self.pair.guard, ?how, "the guard of a keeper ended; the keeper goes on");
                }
                self.retire();
                true
            }
            () = sleep_until(self.pause.unwrap_or_else(Instant::now)), if self.pause.is_some() => {
                self.pause = None;
                self.flush()
            }
            ready = self.socket.writable(), if !self.unsent.is_empty() && self.pause.is_none() && !self.listening => {
                let Ok(mut ready) = ready else { return false };
                ready.retain_ready();
                drop(ready);
                self.flush()
            }
        }
    }

    fn take(&mut self, command: Command) {
        let request = match command {
            Command::Launch(_, Launch { launch, started, .. }) if self.replaced => {
                self.forget(launch);
                let _ = started.send(Err(succession::replaced()));
                return;
            }
            Command::Launch(id, Launch { launch, shown, captured, fds, started, .. }) => {
                let open = Open { launch, shown, captured, started: Some(started), exit: None, leader: None };
                self.open.insert(id, open);
                self.unsent.push_back((Request::Launch { id, captured }, fds));
                return;
            }
            Command::Terminate(id, done) => {
                self.terminations.entry(id).or_default().push(done);
                Request::Terminate { id }
            }
            Command::Kill(id, done) => {
                self.kills.entry(id).or_default().push(done);
                Request::Kill { id }
            }
            Command::Shutdown(done) => {
                self.ends.push(done);
                return self.tell_to_end();
            }
        };
        self.unsent.push_back((request, Vec::new()));
    }

    fn tell_to_end(&mut self) {
        self.told = true;
        self.unsent.push_back((Request::Shutdown, Vec::new()));
    }

    /// Later launches start another pair; detached ones once this one keeps nothing, since a state directory has
    /// one keeper.
    fn retire(&mut self) {
        self.alone = true;
        if !self.detached {
            self.retired.store(true, Ordering::Release);
        }
    }

    /// A keeper without a guard that keeps nothing any more is done, and so is a guard without a keeper.
    fn leave_if_idle(&mut self) {
        let idle = self.open.is_empty() && self.kills.is_empty() && self.terminations.is_empty();
        if !self.alone || !idle || self.told {
            return;
        }
        // Who posts a launch looks under this lock whether it is retired; so none comes from here on.
        let Some(known) = self.known.upgrade() else { return };
        let _nobody_posts = known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.commands.is_empty() {
            self.retired.store(true, Ordering::Release);
            self.tell_to_end();
            self.flush();
        }
    }

    fn flush(&mut self) -> bool {
        if self.pause.is_some() || self.listening {
            return true;
        }
        while let Some((request, fds)) = self.unsent.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            let sent = self.socket.try_io(tokio::io::Interest::WRITABLE, |socket| {
                sys::send(socket.as_fd(), &request.encode(), &fds)
            });
            match sent {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // What it had said before it died is still to be read.
                Err(error) if sys::is_gone(&error) => self.unsent.clear(),
                // Such as too many descriptors on their way to somebody: no reason to drop anything.
                Err(error) => {
                    tracing::debug!(%error, "the keeper cannot be told something yet");
                    self.pause = Some(Instant::now() + SEND_AGAIN);
                    return true;
                }
            }
        }
        true
    }

    fn receive_all(&mut self) -> bool {
        loop {
            let mut bytes = [0; SIZE];
            let received = self
                .socket
                .try_io(tokio::io::Interest::READABLE, |socket| sys::receive(socket.as_fd(), &mut bytes));
            match received {
                Ok(received) => match Reply::decode(&bytes[..received.length]) {
                    Some(reply) => self.hear(reply, received.fds),
                    None => return false,
                },
                // It says once that the keeper had not read everything; what it wrote comes after.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock && self.flush(),
            }
        }
    }

    fn hear(&mut self, reply: Reply, fds: Vec<OwnedFd>) {
        match reply {
            Reply::Started { id, pid, started } => self.started(id, pid, started, fds),
            Reply::Refused { id, stage, errno } => {
                if let Some(open) = self.open.remove(&id) {
                    self.forget(open.launch);
                    let failure = LaunchFailure::at(stage, errno, &open.shown);
                    // Whoever asked has given up, which changes nothing.
                    let _ = open.started.map(|started| started.send(Err(failure)));
                }
            }
            Reply::Exited { id, status, oom } => {
                if let Some(open) = self.open.remove(&id) {
                    self.forget(open.launch);
                    self.ended.truncate(ENDED);
                    self.ended.push_front(open.launch);
                    publish(open.exit, ProcExitResult { oom, ..ProcExitResult::new(kind_of(status)) });
                }
            }
            Reply::Keeps { pid, started } => {
                let keeper = self.pair.keeps(pid, started);
                // What a dead host has left is swept; this one is not left, it waits for the next.
                if !self.detached
                    && let Some(known) = self.known.upgrade()
                {
                    (known.lock().unwrap_or_else(PoisonError::into_inner).note)(keeper);
                }
            }
            Reply::Replaced => self.hand_over(),
            Reply::Kept { id, .. } => drop(self.seen.insert(id)),
            Reply::All => self.go_on_with_guard(),
            Reply::Forget { .. } | Reply::Owned { .. } | Reply::Busy => {}
            Reply::Warning => warn(fds),
            Reply::Gone { id } => {
                if let Some(open) = self.open.remove(&id) {
                    self.forget(open.launch);
                    let reason = "its keeper ended, and the guard that took over did not find it".to_owned();
                    publish(open.exit, ProcExitResult::new(ProcExitKind::Lost { reason }));
                }
            }
            Reply::Signalled { id } => {
                answer(self.terminations.remove(&id).unwrap_or_default(), ());
            }
            Reply::Killed { id } => self.killed(id, None),
            Reply::Stuck { id, pid } => self.killed(id, Some(pid)),
        }
    }

    fn killed(&mut self, id: u64, stuck: Option<u32>) {
        answer(self.kills.remove(&id).unwrap_or_default(), stuck);
    }

    fn started(&mut self, id: u64, pid: u32, started: u64, mut fds: Vec<OwnedFd>) {
        // One that was handed over while it was being started is known already.
        let Some(open) = self.open.get_mut(&id).filter(|open| open.leader.is_none()) else { return };
        // A detached one comes with its strings, which are known here.
        fds.truncate(2);
        let (sender, exit) = oneshot::channel();
        open.exit = Some(sender);
        open.leader = Some(Leader::new(pid, started));
        let pipes = <[OwnedFd; 2]>::try_from(fds).ok();
        let reply = if open.captured && pipes.is_none() {
            Err(LaunchFailure::new(
                "its output could not be taken over: no file descriptor is left; close some, or raise ulimit -n",
                libc::EMFILE,
            ))
        } else {
            Ok(Started { pid, pipes, exit })
        };
        // Whoever asked and does not take it, or cannot use it, kills it.
        let _ = open.started.take().map(|started| started.send(reply));
    }

    fn forget(&self, launch: LaunchId) {
        if let Some(known) = self.known.upgrade() {
            known.lock().unwrap_or_else(PoisonError::into_inner).ended(launch);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A fork of this process may hold the same socket, and closing ours would say nothing then;
        // and a fork that drops its copy must not end what is its parent's.
        if self.owner == std::process::id() {
            sys::shut_down(self.socket.as_fd());
        }
    }
}

/// Passes on what a keeper says to people.
fn warn(fds: Vec<OwnedFd>) {
    let Some(file) = fds.into_iter().next().map(File::from) else { return };
    let length = file.metadata().map_or(0, |file| file.len());
    let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
    // It was written by another process, whose place in the file is shared.
    if file.read_exact_at(&mut text, 0).is_ok() {
        tracing::warn!("{}", String::from_utf8_lossy(&text));
    }
}

/// Tells all who wait; whoever has given up changes nothing.
pub(crate) fn answer<T: Copy>(waiting: Vec<oneshot::Sender<T>>, answer: T) {
    for sender in waiting {
        let _ = sender.send(answer);
    }
}

pub(crate) fn publish(exit: Option<oneshot::Sender<ProcExitResult>>, result: ProcExitResult) {
    if let Some(exit) = exit {
        // The keeper's messages are read in their order: so of two procs the first to end is told as that.
        let _ = exit.send(ProcExitResult { ended_at: Some(SystemTime::now()), ..result });
    }
}

/// What a parent is told, as what a launch ended with.
pub fn kind_of(status: ExitStatus) -> ProcExitKind {
    match status {
        ExitStatus::Exited { code } => ProcExitKind::Exited { code },
        ExitStatus::Signaled { signal, core_dumped } => ProcExitKind::Signaled { signal, core_dumped },
    }
}
