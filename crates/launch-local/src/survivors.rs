//! Procs that have lost their keeper and its guard: this process looks after them, who is not their
//! parent, and so knows how they ended only where the kernel tells others too.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use procession_model::{LaunchId, ProcExitKind, ProcExitResult};
use procession_sys::{ExitStatus, Owner, Pidfd, Process, Snapshot, Tree};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use crate::confine::{bury_groups, cgroups};
use crate::driver::{Command, Leader, answer, kind_of, publish};
use crate::launcher::Known;
use crate::protocol::PATIENCE;
use crate::watched::watched;

/// How long the new parent of a process may take to reap it, which is when the kernel tells its status.
const REAPED: Duration = Duration::from_secs(1);
/// Between two signals to a tree that is killed; somebody may fork meanwhile.
const AGAIN: Duration = Duration::from_millis(20);
/// How long one attempt to empty a tree lasts; there is always another.
const ATTEMPT: Duration = Duration::from_secs(1);

pub(crate) type Kill = oneshot::Sender<Option<u32>>;

enum Ask {
    Terminate(oneshot::Sender<()>),
    Kill(Vec<Kill>),
}

/// One proc that still ran.
pub(crate) struct Survivor {
    id: u64,
    launch: LaunchId,
    leader: Leader,
    tree: Tree,
    exit: Option<oneshot::Sender<ProcExitResult>>,
    known: Weak<Mutex<Known>>,
    kills: Vec<Kill>,
    /// When the kill was asked for.
    killed: Option<Instant>,
}

/// What was asked of the keeper and not answered.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) terminations: HashMap<u64, Vec<oneshot::Sender<()>>>,
    pub(crate) kills: HashMap<u64, Vec<Kill>>,
    pub(crate) ends: Vec<oneshot::Sender<()>>,
    pub(crate) told_to_end: bool,
    /// They live on when nobody can ask any more.
    pub(crate) detached: bool,
}

/// Looks after them until nothing of them is left, and does what was asked before and is asked now; kills
/// them when nobody can ask any more. Gives those who wait for the end.
pub(crate) async fn look_after(
    survivors: Vec<Survivor>,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    mut before: Asked,
    how: &str,
) -> Vec<oneshot::Sender<()>> {
    let mut tasks = JoinSet::new();
    let mut asking = HashMap::new();
    for survivor in survivors {
        let (ask, asked) = mpsc::unbounded_channel();
        for done in before.terminations.remove(&survivor.id).unwrap_or_default() {
            let _ = ask.send(Ask::Terminate(done));
        }
        if let Some(kills) = before.kills.remove(&survivor.id) {
            let _ = ask.send(Ask::Kill(kills));
        }
        asking.insert(survivor.id, ask);
        tasks.spawn(survivor.run(asked, how.to_owned()));
    }
    // What has ended before is dead and swept: to drop what it is asked is to say so.
    before.terminations.clear();
    before.kills.clear();
    let kill_all = |asking: &HashMap<u64, mpsc::UnboundedSender<Ask>>| {
        for ask in asking.values() {
            let _has_ended = ask.send(Ask::Kill(Vec::new()));
        }
    };
    if before.told_to_end {
        kill_all(&asking);
    }
    let mut listening = true;
    while !tasks.is_empty() {
        tokio::select! {
            _ = tasks.join_next() => {}
            command = commands.recv(), if listening => match command {
                Some(Command::Terminate(id, done)) => {
                    drop(asking.get(&id).map(|ask| ask.send(Ask::Terminate(done))));
                }
                Some(Command::Kill(id, done)) => {
                    drop(asking.get(&id).map(|ask| ask.send(Ask::Kill(vec![done]))));
                }
                Some(Command::Launch(..)) => {}
                Some(Command::Shutdown(done)) => {
                    before.ends.push(done);
                    kill_all(&asking);
                }
                None if before.detached => return Vec::new(),
                None => {
                    listening = false;
                    kill_all(&asking);
                }
            },
        }
    }
    before.ends
}

impl Survivor {
    pub(crate) fn new(
        id: u64,
        launch: LaunchId,
        leader: Leader,
        exit: oneshot::Sender<ProcExitResult>,
        known: Weak<Mutex<Known>>,
    ) -> Self {
        let tree = Tree::new(leader.pid, leader.started, launch.to_string(), None);
        Self { id, launch, leader, tree, exit: Some(exit), known, kills: Vec::new(), killed: None }
    }

    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Ask>, how: String) {
        // What was short of a descriptor then may have one now.
        let again = || Leader::new(self.leader.pid, self.leader.started).pidfd;
        let pidfd = self.leader.pidfd.take().or_else(again).map(watched);
        let kind = match pidfd {
            Some(Ok(pidfd)) => {
                self.live(&pidfd, &mut asked).await;
                match status(pidfd.get_ref(), &self.leader).await {
                    Some(status) => kind_of(status),
                    None => {
                        lost(&how, "the kernel does not tell how it ended, which Linux does from 6.15 on")
                    }
                }
            }
            // It cannot be watched, and so not be left alone either.
            _ => {
                self.killed = Some(Instant::now());
                self.signal(libc::SIGKILL).await;
                lost(&how, "it could not be watched, and was killed")
            }
        };
        if let Some(known) = self.known.upgrade() {
            known.lock().unwrap_or_else(PoisonError::into_inner).ended(self.launch);
        }
        let own = cgroups().open(&Owner::this_process().group_name(self.launch)).oom();
        let oom = own.or_else(|| cgroups().open(&Owner::detached_group_name(self.launch)).oom());
        publish(self.exit.take(), ProcExitResult { oom, ..ProcExitResult::new(kind) });
        self.clean_up(&mut asked).await;
    }

    /// Does as asked until the leader has ended.
    async fn live(&mut self, pidfd: &AsyncFd<Pidfd>, asked: &mut mpsc::UnboundedReceiver<Ask>) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = pidfd.readable() => return,
                Some(ask) = asked.recv() => match ask {
                    Ask::Terminate(done) => {
                        self.signal(libc::SIGTERM).await;
                        let _ = done.send(());
                    }
                    Ask::Kill(kills) => {
                        self.add(kills);
                        next = Instant::now();
                    }
                },
                () = sleep_until(next), if self.killed.is_some() => {
                    let _ = pidfd.get_ref().signal(libc::SIGKILL);
                    self.signal(libc::SIGKILL).await;
                    self.tell_if_stuck(self.leader.pid);
                    next = Instant::now() + AGAIN;
                }
            }
        }
    }

    fn add(&mut self, kills: Vec<Kill>) {
        self.kills.extend(kills);
        self.killed = Some(Instant::now());
    }

    fn tell_if_stuck(&mut self, pid: u32) {
        if self.killed.is_some_and(|since| since.elapsed() > PATIENCE) {
            answer(std::mem::take(&mut self.kills), Some(pid));
        }
    }

    /// To the whole tree. Looks through `/proc` away from the runtime's threads.
    async fn signal(&mut self, signal: i32) {
        let mut tree = self.tree.clone();
        let signalled = spawn_blocking(move || {
            let all = Snapshot::take()?;
            tree.signal(signal, &all);
            io::Result::Ok(tree)
        });
        match signalled.await {
            Ok(Ok(tree)) => self.tree = tree,
            failed => tracing::debug!(launch = %self.launch, ?failed, "a tree could not be signalled"),
        }
    }

    /// Kills what the leader has left, however long that takes.
    async fn clean_up(mut self, asked: &mut mpsc::UnboundedReceiver<Ask>) {
        loop {
            let (mut tree, launch) = (self.tree.clone(), self.launch);
            let swept = spawn_blocking(move || {
                let kill = || Tree::kill(std::slice::from_mut(&mut tree), ATTEMPT);
                let left = bury_groups(&[launch], kill);
                left.map(|left| (tree, left))
            });
            while let Ok(ask) = asked.try_recv() {
                if let Ask::Kill(kills) = ask {
                    self.add(kills);
                }
            }
            match swept.await {
                Ok(Ok((_, left))) if left.is_empty() => break,
                Ok(Ok((tree, left))) => {
                    self.tree = tree;
                    self.tell_if_stuck(left[0].pid);
                }
                // For want of a descriptor, and nobody may hear that nothing is left.
                Ok(Err(error)) => {
                    tracing::debug!(launch = %self.launch, %error, "what a proc left cannot be looked for yet");
                    sleep(AGAIN).await;
                }
                // The runtime is ending.
                Err(_) => return,
            }
        }
        answer(self.kills, None);
    }
}

/// How a process ended: by parenthood where this process has adopted it; else its zombie shows it, and
/// the kernel tells it from Linux 6.15 on once its new parent has reaped it.
async fn status(pidfd: &Pidfd, leader: &Leader) -> Option<ExitStatus> {
    let (deadline, mut pause) = (Instant::now() + REAPED, Duration::from_micros(500));
    loop {
        let reaped = || pidfd.reap().ok().flatten();
        let zombie = || Process::look(leader.pid).ok().filter(|found| found.started == leader.started);
        let shown = || zombie().and_then(|zombie| zombie.exit_status());
        let found = reaped().or_else(shown).or_else(|| pidfd.told_status());
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn lost(how: &str, why: &str) -> ProcExitKind {
    ProcExitKind::Lost { reason: format!("{how}; {why}") }
}
