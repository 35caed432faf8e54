mod detached;
mod launching;
mod looking;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use procession_sys::{
    self as sys, Child, ENOUGH_EMPTY_LOOKS, ExitStatus, Group, LOOK_AGAIN, OpenFiles, Owner, Pidfd, Process,
    SignalFd, Snapshot, SpawnError, Spawning, Stage, Tree,
};

use self::detached::Files;
pub(crate) use self::detached::{Detached, Legacy};
use self::looking::Look;
use crate::adopting::Adopting;
use crate::control::{Control, Pipes};
use crate::forks::Forks;
use crate::groups::{Groups, ProcGroup};
use crate::kills::Kills;
use crate::protocol::{Reply, Request};

/// How many requests are handled before exits get their turn.
const BATCH: usize = 16;
/// Descriptors that no launch may use up: without them nothing could be found and killed.
const RESERVE: usize = 8;
/// Between two rounds of ending everything: the first pause, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// How long a host takes to end once its sockets are closed, at most.
const DYING: Duration = Duration::from_secs(1);
/// What a proc's out-of-memory score is above the keeper's: the kernel takes procs first.
const OOM_ABOVE: i32 = 500;

enum Phase {
    Starting(Spawning),
    Running(Child),
}

struct Proc {
    phase: Phase,
    tree: Tree,
    group: ProcGroup,
    started: u64,
    pipes: Option<Pipes>,
    /// Where the pipes of a detached one go.
    files: Option<Files>,
    /// Its end is told, or about to be.
    told: bool,
}

impl Proc {
    fn child(&self) -> &Child {
        match &self.phase {
            Phase::Starting(spawning) => &spawning.child,
            Phase::Running(child) => child,
        }
    }

    /// What belongs to it, by its tree or by its group.
    fn members(&mut self, all: &Snapshot) -> Vec<u32> {
        let grouped = self.group.inner().map(Group::members).unwrap_or_default();
        self.tree.members(all).into_iter().map(|member| member.pid).chain(grouped).collect()
    }
}

/// All there is to keep.
pub(crate) struct Keeper {
    control: Control,
    host: Pidfd,
    signals: SignalFd,
    procs: HashMap<u64, Proc>,
    /// The procs' leaders that are not reaped yet.
    leaders: HashMap<u32, u64>,
    kills: Kills,
    adopting: Adopting,
    groups: Groups,
    /// Launches that are to be forked.
    forks: Forks,
    terminations: Vec<u64>,
    /// The look at all processes that is under way.
    look: Option<Look>,
    open_files: OpenFiles,
    oom_score_adj: Option<i32>,
    reserve: Vec<OwnedFd>,
    /// For a keeper of procs that outlive their host; it has no others.
    detached: Option<Detached>,
    /// What the host started itself, and so no descendant of this process.
    beside: Tree,
    ending: bool,
    /// The host has said that it is enough.
    told: bool,
    /// When the conversation broke off without that word.
    broken: Option<Instant>,
    /// How many rounds of ending everything in a row have found nothing.
    empty: u32,
}

impl Keeper {
    /// With `replaces` it goes on for another one that was killed.
    pub(crate) fn new(
        control: OwnedFd,
        host: Pidfd,
        session: String,
        owner: Owner,
        replaces: bool,
    ) -> io::Result<Self> {
        let mut control = Control::new(control);
        let own = Process::look(std::process::id())?;
        control.send(if replaces {
            Reply::Replaced
        } else {
            Reply::Keeps { pid: own.pid, started: own.started }
        });
        Ok(Self {
            control,
            host,
            signals: sys::watch_child_signals()?,
            procs: HashMap::new(),
            leaders: HashMap::new(),
            kills: Kills::default(),
            adopting: if replaces { Adopting::Asking } else { Adopting::Done },
            groups: Groups::new(owner),
            forks: Forks::default(),
            terminations: Vec::new(),
            look: None,
            open_files: sys::raise_open_files()?,
            oom_score_adj: sys::oom_score_adj().ok().map(|own| (own + OOM_ABOVE).min(1000)),
            reserve: Vec::new(),
            detached: None,
            beside: Tree::marked(session),
            ending: false,
            told: false,
            broken: None,
            empty: 0,
        })
    }

    /// A look at all processes, which no number of open pipes can prevent.
    fn look(&mut self) -> Option<Snapshot> {
        self.reserve.clear();
        Snapshot::take().ok()
    }

    fn refill_reserve(&mut self) {
        while self.reserve.len() < RESERVE
            && let Ok(fd) = sys::open_null()
        {
            self.reserve.push(fd);
        }
    }

    /// Keeps until the host is gone or says that it is enough; returns when no descendant is left.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut pause = PAUSES.0;
        self.control.flush();
        loop {
            self.flush_link();
            let is_news = self.look_after_owner()?;
            if self.is_left_alone() {
                self.drain_unread();
                self.kills.remove_groups();
                return Ok(());
            }
            let timeout = if is_news || self.look.is_some() {
                Some(Duration::ZERO)
            } else if self.ending {
                Some(pause)
            } else {
                let again = (!self.terminations.is_empty()).then(|| Instant::now() + LOOK_AGAIN);
                let times = [self.kills.next_due(), self.adopting.next_due(), self.control.next_try(), again];
                let times = times.into_iter().chain([self.forks.next_due()]).chain(self.detached_times());
                let due = times.flatten().min();
                due.map(|due| due.saturating_duration_since(Instant::now()))
            };
            self.refill_reserve();
            let executing = self.wait(timeout)?;
            for _ in 0..BATCH {
                let Some((request, fds)) = self.control.receive() else { break };
                self.handle(request, fds);
            }
            for id in executing {
                self.finish_start(id);
            }
            // Before any is reaped: the end of what is not known yet would mean nothing.
            self.look_after_forks();
            self.control.flush();
            self.reap()?;
            self.look_after_trees();
            self.control.flush();
            if self.detached.is_none() && self.control.is_closed() && !self.told {
                self.broken.get_or_insert_with(Instant::now);
                self.ending = true;
            }
            if self.ending {
                self.refuse_all_forks();
                // Asked first: what a host leaves behind is only looked for once it is gone.
                let host_gone = self.host.has_ended()?;
                if self.end_all(host_gone) && (host_gone || self.may_leave()) {
                    self.kills.remove_groups();
                    return Ok(());
                }
                pause = if self.empty == 1 { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            }
        }
    }

    /// Waits for anything to happen; gives the procs whose start has come to an end.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<u64>> {
        let mut watches = vec![sys::Watch::readable(self.signals.as_fd())];
        let mut starting = Vec::new();
        for (&id, proc) in &self.procs {
            if let Phase::Starting(spawning) = &proc.phase {
                watches.push(sys::Watch::readable(spawning.as_fd()));
                starting.push(id);
            }
        }
        let owned = self.detached.as_ref().is_none_or(|detached| detached.owned);
        if !self.ending && owned {
            watches.push(sys::Watch::readable(self.host.as_fd()));
        }
        let host_at = watches.len() - 1;
        watches.extend(self.control.watch());
        let (pumped, pumped_at) = (self.pumped(), watches.len());
        watches.extend(pumped.iter().filter_map(|&place| Some(sys::Watch::readable(self.pipe(place)?))));
        watches.extend(self.detached.iter().flat_map(Detached::watches));
        watches.extend(self.forks.watches());
        sys::poll(&mut watches, timeout)?;
        let host_gone = self.detached.is_none() && !self.ending && watches[host_at].is_ready();
        let children = watches[0].is_ready();
        let executing = starting.into_iter().zip(&watches[1..]).filter(|(_, watch)| watch.is_ready());
        let executing = executing.map(|(id, _)| id).collect();
        let full = pumped.into_iter().zip(&watches[pumped_at..]).filter(|(_, watch)| watch.is_ready());
        let full: Vec<_> = full.map(|(place, _)| place).collect();
        drop(watches);
        for place in full {
            self.pump(place);
        }
        self.ending |= host_gone;
        if children {
            self.signals.clear();
        }
        Ok(executing)
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Adopt { id, pid, started } => self.adopt(id, pid, started),
            Request::Named { id, launch: [high, low] } => {
                if let Some(proc) = self.procs.get_mut(&id) {
                    let marker = format!("{high:016x}{low:016x}");
                    proc.group = self.groups.of_launch(&marker);
                    proc.tree = Tree::new(proc.child().pid, proc.started, marker, Some(std::process::id()));
                }
            }
            Request::Resume => self.adopting = Adopting::clear(),
            Request::Own => {}
            // It was meant for another, and is said again where it still holds.
            _ if self.adopting.is_asking() => {}
            Request::Launch { id, captured } => {
                sys::failpoint!("keeper-before-launching");
                if let Err(SpawnError { stage, source }) = self.launch(id, captured, fds) {
                    self.refuse(id, stage, &source);
                }
            }
            Request::Terminate { id } => {
                self.start_now(id);
                self.terminations.push(id);
            }
            Request::Kill { id } => {
                self.start_now(id);
                if let Some(proc) = self.procs.get(&id) {
                    proc.child().kill_group();
                    self.kills.add_asked(id, proc.tree.clone(), proc.group.clone());
                } else if !self.kills.ask(id) && !self.adopting.ask(id) {
                    self.control.send(Reply::Killed { id });
                }
            }
            Request::Shutdown => {
                self.told = true;
                self.ending = true;
            }
        }
    }

    fn adopt(&mut self, id: u64, pid: u32, started: u64) {
        match own_child(pid, started) {
            Some(child) => {
                let phase = Phase::Running(child);
                let tree = Tree::new(pid, started, String::new(), Some(std::process::id()));
                self.leaders.insert(pid, id);
                let group = ProcGroup::none();
                self.procs
                    .insert(id, Proc { phase, tree, group, started, pipes: None, files: None, told: false });
            }
            None => self.control.send(Reply::Gone { id }),
        }
    }

    fn refuse(&mut self, id: u64, stage: Stage, source: &io::Error) {
        let errno = source.raw_os_error().unwrap_or(libc::EIO);
        self.control.send(Reply::Refused { id, stage, errno });
    }

    fn finish_start(&mut self, id: u64) {
        let Some(mut proc) = self.procs.remove(&id) else { return };
        let Phase::Starting(spawning) = proc.phase else {
            self.procs.insert(id, proc);
            return;
        };
        let pid = spawning.child.pid;
        match spawning.finish() {
            Ok(child) => {
                let reply = Reply::Started { id, pid, started: proc.started };
                self.control.send_with(reply, proc.pipes.clone());
                proc.phase = Phase::Running(child);
                self.procs.insert(id, proc);
            }
            Err(SpawnError { stage, source }) => {
                self.forget(id);
                self.leaders.remove(&pid);
                // Its only process is reaped.
                proc.group.remove();
                self.refuse(id, stage, &source);
            }
        }
    }

    /// Every child that has ended: leaders are told of and then reaped, adopted orphans only reaped.
    ///
    /// For as long as something could not be told, nothing is reaped: should this process be killed, the
    /// kernel still knows how it ended.
    fn reap(&mut self) -> io::Result<()> {
        if self.adopting.is_asking() && !self.ending {
            return Ok(());
        }
        while self.control.is_done()
            && self.can_write_down()
            && let Some((pid, status)) = sys::next_ended_child()?
        {
            match self.leaders.get(&pid).copied() {
                Some(id) => self.leader_ended(id, pid, status)?,
                None => drop(sys::reap_child(pid)?),
            }
        }
        Ok(())
    }

    fn leader_ended(&mut self, id: u64, pid: u32, status: ExitStatus) -> io::Result<()> {
        self.finish_start(id);
        // One that failed to start is reaped by now.
        let Some(proc) = self.procs.get_mut(&id) else { return Ok(()) };
        if !proc.told {
            sys::failpoint!("keeper-before-telling");
            // Counted in its group, which is gone in a moment.
            let oom = proc.group.oom();
            if !self.write_down(id, status, oom) {
                return Ok(());
            }
            let Some(proc) = self.procs.get_mut(&id) else { return Ok(()) };
            proc.told = true;
            self.control.send(Reply::Exited { id, status, oom });
            self.control.flush();
            // Its number still means its group, for as long as it is not reaped.
            proc.child().kill_group();
        }
        if !self.control.is_done() {
            return Ok(());
        }
        sys::failpoint!("keeper-before-reaping");
        self.leaders.remove(&pid);
        sys::reap_child(pid)?;
        self.forget(id);
        if let Some(proc) = self.procs.remove(&id) {
            self.kills.add_leftover(id, proc.tree, proc.group);
            self.keep_output(proc.pipes, proc.files);
        }
        sys::failpoint!("keeper-after-reaping");
        Ok(())
    }

    /// Whether a host that lives has nothing more to expect. One that breaks off without a word is
    /// dying, as a rule: its sockets close a moment before it has ended.
    fn may_leave(&self) -> bool {
        (self.told && self.control.is_done()) || self.broken.is_some_and(|since| since.elapsed() > DYING)
    }

    /// One round of ending everything; true when nothing is left.
    fn end_all(&mut self, host_gone: bool) -> bool {
        for proc in self.procs.values() {
            proc.child().kill_group();
            proc.group.kill();
        }
        self.kills.kill_groups();
        let Some(all) = self.look() else { return false };
        let mut left = kill_descendants(&all, &[]);
        // A host that lives looks after its own children; its death leaves them to their marker.
        if host_gone {
            left += self.beside.signal(libc::SIGKILL, &all);
        }
        self.empty = if left == 0 && self.procs.is_empty() { self.empty + 1 } else { 0 };
        self.empty >= ENOUGH_EMPTY_LOOKS
    }
}

/// The child of this process that has `pid` and was started then. Nobody but this process can have reaped it
/// meanwhile.
fn own_child(pid: u32, started: u64) -> Option<Child> {
    let pidfd = Pidfd::open(pid).ok()?;
    let found = Process::look(pid).ok()?;
    (found.started == started && found.parent == std::process::id()).then_some(Child {
        pid,
        pidfd,
        stdout: None,
        stderr: None,
    })
}

/// Kills all that descend from this process, but `spared` and what descends from those; how many there were, zombies
/// among them.
fn kill_descendants(all: &Snapshot, spared: &[u32]) -> usize {
    let mut descendants = all.descendants([std::process::id()]);
    if !spared.is_empty() {
        let below = all.descendants(spared.iter().copied());
        let below: Vec<u32> = below.iter().map(|process| process.pid).chain(spared.iter().copied()).collect();
        descendants.retain(|process| !below.contains(&process.pid));
    }
    for process in descendants.iter().filter(|process| process.is_alive()) {
        process.signal(libc::SIGKILL);
    }
    descendants.len()
}
