//! The task that watches one supervised child.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use procession_launch::Tail;
use procession_model::{ProcExitKind, ProcExitResult};
use procession_sys::{self as sys, ExitStatus, LOOK_AGAIN, Snapshot, Tree};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use crate::driver::kind_of;
use crate::own::Own;
use crate::supervised::{Hold, Sink, Stream};

/// How much is read at a time.
const BUFFER: usize = 64 * 1024;
/// How long one attempt to empty a tree lasts; there is always another.
const KILL_ATTEMPT: Duration = Duration::from_secs(1);

/// How often a hold is looked at.
const HELD: Duration = Duration::from_millis(5);

const STOLEN: &str = "its exit status was taken by somebody else in this process: a waitpid(-1), or SIGCHLD being \
                      ignored; let that code wait for the pids of its own children only";

pub(crate) enum Command {
    Terminate { deadline: Instant },
    Kill,
}

pub(crate) struct Output {
    /// None once it has ended.
    pub(crate) pipe: Option<Receiver>,
    pub(crate) tail: Tail,
}

pub(crate) struct Child {
    pub(crate) own: AsyncFd<Own>,
    pub(crate) tree: Tree,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) sink: Option<Sink>,
    pub(crate) hold: Option<Hold>,
    pub(crate) publish: watch::Sender<Option<ProcExitResult>>,
}

impl Child {
    /// Returns, and so closes `commands`, when nothing of the tree is left.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.live(&mut commands).await;
        let status = self.child().map_or(Ok(None), |child| child.pidfd.peek());
        self.stdout.drain(Stream::Stdout, &mut self.sink);
        self.stderr.drain(Stream::Stderr, &mut self.sink);
        self.publish.send_replace(Some(ProcExitResult {
            stdout_tail: Some(self.stdout.tail.lines()),
            stderr_tail: Some(self.stderr.tail.lines()),
            ..ProcExitResult::new(exit_kind(status))
        }));
        self.clean_up().await;
    }

    /// None once it is reaped, which is the last that is done with it.
    fn child(&self) -> Option<&sys::Child> {
        self.own.get_ref().get()
    }

    /// Reads its output and does as asked, until the leader has ended.
    async fn live(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let mut out = vec![0; BUFFER];
        let mut err = vec![0; BUFFER];
        let mut deadline: Option<Instant> = None;
        // When those are looked for again that SIGTERM has not reached yet.
        let mut rest: Option<Instant> = None;
        let mut asking = true;
        loop {
            let held = self.hold.as_ref().is_some_and(|hold| hold());
            tokio::select! {
                // The exit comes before all output that is still there.
                biased;
                _ = self.own.readable() => return,
                command = commands.recv(), if asking => match command {
                    Some(Command::Terminate { deadline: new }) => {
                        if deadline.is_none() && !self.signal_tree(libc::SIGTERM, true).await {
                            // It can be reached whatever the machine is short of.
                            self.child().map(|child| child.pidfd.signal(libc::SIGTERM));
                            rest = Some(Instant::now() + LOOK_AGAIN);
                        }
                        deadline = Some(deadline.map_or(new, |old| old.min(new)));
                    }
                    Some(Command::Kill) => deadline = Some(Instant::now()),
                    None => asking = false,
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    // Again and again, because somebody may have forked meanwhile.
                    self.child().map(sys::Child::kill_group);
                    self.signal_tree(libc::SIGKILL, true).await;
                    rest = None;
                    deadline = Some(Instant::now() + Duration::from_millis(20));
                }
                () = sleep_until(rest.unwrap_or_else(Instant::now)), if rest.is_some() => {
                    let reached = self.signal_tree(libc::SIGTERM, false).await;
                    rest = (!reached).then(|| Instant::now() + LOOK_AGAIN);
                }
                () = sleep(HELD), if held => {}
                length = self.stdout.read(&mut out), if !held => {
                    self.stdout.take(Stream::Stdout, &out[..length], &mut self.sink);
                }
                length = self.stderr.read(&mut err), if !held => {
                    self.stderr.take(Stream::Stderr, &err[..length], &mut self.sink);
                }
            }
        }
    }

    /// Signals the tree, with its leader or without; false when it could not be looked for. Looks through
    /// `/proc` away from the runtime's threads.
    async fn signal_tree(&mut self, signal: i32, leader_too: bool) -> bool {
        let mut tree = self.tree.clone();
        let spared = self.child().map(|child| child.pid).filter(|_| !leader_too);
        let signalled = spawn_blocking(move || {
            let all = Snapshot::take()?;
            let members = tree.members(&all).into_iter();
            for process in members.filter(|process| process.is_alive() && Some(process.pid) != spared) {
                process.signal(signal);
            }
            io::Result::Ok(tree)
        });
        match signalled.await {
            Ok(Ok(tree)) => {
                self.tree = tree;
                true
            }
            _ => false,
        }
    }

    async fn clean_up(mut self) {
        self.child().map(sys::Child::kill_group);
        self.own.get_mut().reap();
        loop {
            let mut tree = self.tree.clone();
            let swept = spawn_blocking(move || {
                let left = Tree::kill(std::slice::from_mut(&mut tree), KILL_ATTEMPT);
                left.map(|left| (tree, left.len()))
            });
            match swept.await {
                Ok(Ok((_, 0))) => return,
                Ok(Ok((tree, _))) => self.tree = tree,
                // For want of a descriptor, and nobody may hear that nothing is left.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "what a supervised child left cannot be looked for yet")
                }
                // The runtime is ending.
                Err(_) => return,
            }
        }
    }
}

impl Output {
    /// How many bytes came; 0 at the end, and never again. Cancel safe.
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        match &mut self.pipe {
            Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8], sink: &mut Option<Sink>) {
        if bytes.is_empty() {
            self.pipe = None;
            return;
        }
        self.tail.push(bytes);
        let shown = sink.as_mut().map(|sink| catch_unwind(AssertUnwindSafe(|| sink(stream, bytes))));
        if let Some(Err(_)) = shown {
            tracing::warn!("the sink of a supervised child panicked; it is shown nothing more");
            *sink = None;
        }
    }

    /// What lay in the pipe when the leader had ended, and not what others still write.
    fn drain(&mut self, stream: Stream, sink: &mut Option<Sink>) {
        let Some(Ok(pipe)) = self.pipe.take().map(Receiver::into_nonblocking_fd) else { return };
        let waiting = sys::bytes_waiting(pipe.as_fd()).unwrap_or(0);
        let mut last = Vec::new();
        // The rest of what an error interrupts is lost; nothing in a pipe makes one.
        let _ = File::from(pipe).take(waiting as u64).read_to_end(&mut last);
        self.take(stream, &last, sink);
    }
}

fn exit_kind(status: io::Result<Option<ExitStatus>>) -> ProcExitKind {
    match status {
        Ok(Some(status)) => kind_of(status),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
            ProcExitKind::Lost { reason: STOLEN.to_owned() }
        }
        Ok(None) => {
            ProcExitKind::Lost { reason: "the kernel says that it has ended, and has no status".to_owned() }
        }
        Err(error) => ProcExitKind::Lost { reason: format!("its exit status cannot be read: {error}") },
    }
}
