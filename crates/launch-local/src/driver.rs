//! The host's side of the conversation with one keeper.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use procession_model::{LaunchId, ProcExitKind, ProcExitResult};
use procession_sys::{self as sys, ExitStatus, Tree};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::confine::bury_groups;
use crate::failure::{LaunchFailure, Shown};
use crate::keeper::Keeper;
use crate::launcher::Known;
use crate::protocol::{Reply, Request, SEND_AGAIN, SIZE};
use crate::watched::watched;

/// How long procs that outlive their keeper are hunted before they are reported.
const SWEEP: Duration = Duration::from_millis(400);

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
    /// As [`Request::Launch`] wants them.
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) started: oneshot::Sender<Result<Started, LaunchFailure>>,
}

/// What is asked of the keeper. A receiver that errs means that the keeper has died, and everything
/// that it kept with it.
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
    /// The leader's pid and start time.
    leader: Option<(u32, u64)>,
}

pub(crate) struct Driver {
    socket: AsyncFd<OwnedFd>,
    /// The process that it was started in.
    owner: u32,
    keeper: Keeper,
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
    /// Starts a keeper, and the task that speaks with it for as long as both live.
    pub(crate) fn start(known: Weak<Mutex<Known>>) -> io::Result<mpsc::UnboundedSender<Command>> {
        let (keeper, socket) = crate::keeper::start()?;
        let (sender, commands) = mpsc::unbounded_channel();
        let driver = Self {
            socket: watched(socket)?,
            owner: std::process::id(),
            keeper,
            commands,
            known,
            unsent: VecDeque::new(),
            pause: None,
            open: HashMap::new(),
            ended: VecDeque::new(),
            terminations: HashMap::new(),
            kills: HashMap::new(),
            ends: Vec::new(),
        };
        tokio::spawn(driver.run());
        Ok(sender)
    }

    async fn run(mut self) {
        let mut asking = true;
        while self.converse(&mut asking).await {}
        self.bury().await;
    }

    /// One turn; false once the keeper is gone.
    async fn converse(&mut self, asking: &mut bool) -> bool {
        tokio::select! {
            command = self.commands.recv(), if *asking => {
                match command {
                    Some(command) => self.take(command),
                    None => {
                        *asking = false;
                        self.unsent.push_back((Request::Shutdown, Vec::new()));
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
            () = sleep_until(self.pause.unwrap_or_else(Instant::now)), if self.pause.is_some() => {
                self.pause = None;
                self.flush()
            }
            ready = self.socket.writable(), if !self.unsent.is_empty() && self.pause.is_none() => {
                let Ok(mut ready) = ready else { return false };
                ready.retain_ready();
                drop(ready);
                self.flush()
            }
        }
    }

    fn take(&mut self, command: Command) {
        let request = match command {
            Command::Launch(id, Launch { launch, shown, captured, fds, started }) => {
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
                Request::Shutdown
            }
        };
        self.unsent.push_back((request, Vec::new()));
    }

    fn flush(&mut self) -> bool {
        if self.pause.is_some() {
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

    fn started(&mut self, id: u64, pid: u32, started: u64, fds: Vec<OwnedFd>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let (sender, exit) = oneshot::channel();
        open.exit = Some(sender);
        open.leader = Some((pid, started));
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

    /// The keeper is gone: nothing that it kept may stay, and nobody may wait for ever.
    async fn bury(&mut self) {
        let how = self.how_it_ended().await;
        let mut trees: Vec<Tree> = self
            .open
            .values()
            .map(|open| {
                let marker = open.launch.to_string();
                match open.leader {
                    Some((pid, started)) => Tree::new(pid, started, marker, None),
                    None => Tree::marked(marker),
                }
            })
            .collect();
        let open = self.open.values().map(|open| open.launch);
        let launches: Vec<LaunchId> = open.chain(self.ended.iter().copied()).collect();
        let mut left = "nothing of it is left".to_owned();
        if !trees.is_empty() {
            tracing::warn!(keeper = self.keeper.pid, %how, procs = trees.len(), "the keeper ended with procs open");
        }
        if !launches.is_empty() {
            let kill = move || if trees.is_empty() { Ok(Vec::new()) } else { Tree::kill(&mut trees, SWEEP) };
            let sweep = move || bury_groups(&launches, kill);
            let swept = tokio::task::spawn_blocking(sweep).await;
            match swept {
                Ok(Ok(alive)) if alive.is_empty() => {}
                Ok(Ok(alive)) => left = format!("{} processes could not be killed yet", alive.len()),
                Ok(Err(error)) => left = format!("what it started could not be looked for: {error}"),
                Err(_) => left = "what it started was not looked for".to_owned(),
            }
        }
        let reason =
            format!("its keeper (pid {}) {how}, and its exit status with it; {left}", self.keeper.pid);
        // From here on nobody can ask this keeper any more: the next launch starts another. What was
        // asked meanwhile is answered by being dropped.
        self.commands.close();
        for (_, open) in std::mem::take(&mut self.open) {
            self.forget(open.launch);
            let failure =
                LaunchFailure::new(format!("the keeper {how} meanwhile; launch again"), libc::EAGAIN);
            let _ = open.started.map(|started| started.send(Err(failure)));
            publish(open.exit, ProcExitResult::new(ProcExitKind::Lost { reason: reason.clone() }));
        }
        answer(std::mem::take(&mut self.ends), ());
    }

    async fn how_it_ended(&mut self) -> String {
        let Some(pidfd) = self.keeper.pidfd.take() else { return "ended".to_owned() };
        let Ok(pidfd) = watched(pidfd) else {
            return "ended".to_owned();
        };
        // It has closed its end, so this is a matter of microseconds.
        let ended = tokio::time::timeout(Duration::from_secs(1), pidfd.readable()).await.is_ok();
        let pidfd = pidfd.into_inner();
        let status = pidfd.reap();
        if !ended {
            self.keeper.pidfd = Some(pidfd);
        }
        match status {
            Ok(Some(status)) => format!("ended with {}", kind_of(status)),
            _ => "ended".to_owned(),
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

/// Tells all who wait; whoever has given up changes nothing.
fn answer<T: Copy>(waiting: Vec<oneshot::Sender<T>>, answer: T) {
    for sender in waiting {
        let _ = sender.send(answer);
    }
}

fn publish(exit: Option<oneshot::Sender<ProcExitResult>>, result: ProcExitResult) {
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
