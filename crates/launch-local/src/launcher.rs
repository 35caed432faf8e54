use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_launch::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_model::{
    BootstrapCommand, Confinement, DialBack, InvalidArgument, LaunchId, LaunchOptions, ProcId,
};
use procession_sys::{self as sys, Controller, Owner};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::confine::{cgroups, check_resources, confines, limits, resolve};
use crate::driver::{Command, Driver, Launch, Started};
use crate::exits::Ended;
use crate::failure::{LaunchFailure, SHUT_DOWN, invalid, refused, whereabouts};
use crate::home::{self, Home, Inheritance};
use crate::keeper::Helper;
use crate::order::{Order, Output};
use crate::preload::preload;
use crate::prepare::{environment, prepare};
use crate::protocol::PATIENCE;

/// Launches on their way at one moment; the rest wait. It bounds the descriptors in flight.
const WINDOW: usize = 64;
/// How many ended procs are remembered, so that to stop one of them is no mistake.
const REMEMBERED: usize = 65_536;

/// Is told of every guard and keeper that is started.
pub(crate) type Note = Arc<dyn Fn(Helper) + Send + Sync>;

/// What one keeper is asked through.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) retired: Arc<AtomicBool>,
    /// Of procs that outlive this process, and of no others.
    pub(crate) detached: bool,
}

/// What was launched, and by which keeper.
pub(crate) struct Known {
    /// All that keep something; at most one of them is not retired, and one of detached procs.
    keepers: Vec<Keeper>,
    pub(crate) note: Note,
    pub(crate) shut_down: bool,
    procs: HashMap<LaunchId, (u64, Keeper)>,
    ended: VecDeque<LaunchId>,
    next: u64,
    home: Option<Home>,
    /// What an earlier host has left, until somebody takes it over: what runs, and by the digits of its launch
    /// what has ended.
    handed: HashMap<LaunchId, Started>,
    exits: HashMap<String, Ended>,
}

impl Known {
    /// The keeper of later launches, which is started where there is none.
    pub(crate) fn keeper(&mut self, own: &Weak<Mutex<Self>>, detached: bool) -> io::Result<Keeper> {
        self.keepers.retain(|keeper| !keeper.commands.is_closed());
        let takes = |keeper: &&Keeper| keeper.detached == detached && !keeper.retired.load(Ordering::Acquire);
        if let Some(keeper) = self.keepers.iter().find(takes) {
            return Ok(keeper.clone());
        }
        let keeper = match self.home.as_ref().filter(|_| detached) {
            Some(home) => Driver::start_detached(Weak::clone(own), home)?,
            None => Driver::start(Weak::clone(own), &self.note)?,
        };
        self.keepers.push(keeper.clone());
        Ok(keeper)
    }

    /// Adds a keeper, and what it keeps already.
    fn inherit(&mut self, own: &Weak<Mutex<Self>>, inheritance: Inheritance) -> io::Result<()> {
        let mut handed = HashMap::new();
        let keeper = Driver::go_on(inheritance, Weak::clone(own), &mut handed)?;
        for (launch, (id, started)) in handed {
            self.next = self.next.max(id + 1);
            self.procs.insert(launch, (id, keeper.clone()));
            self.handed.insert(launch, started);
        }
        self.keepers.push(keeper);
        Ok(())
    }

    pub(crate) fn has_home(&self) -> bool {
        self.home.is_some()
    }

    pub(crate) fn take_handed(&mut self, launch: LaunchId) -> Option<Started> {
        self.handed.remove(&launch)
    }

    pub(crate) fn take_exit(&mut self, launch: LaunchId) -> Option<Ended> {
        self.exits.remove(&launch.to_string())
    }

    /// A number for a launch that `keeper` is to be asked about.
    pub(crate) fn enter(&mut self, launch: LaunchId, keeper: Keeper) -> u64 {
        let number = self.next;
        self.next += 1;
        self.procs.insert(launch, (number, keeper));
        number
    }

    /// What no keeper keeps is asked through a `keeper` of its own, which is told of the end of everything too.
    pub(crate) fn inherit_survivor(&mut self, launch: LaunchId, keeper: Keeper) -> u64 {
        self.keepers.push(keeper.clone());
        self.enter(launch, keeper)
    }

    /// The launch with this number.
    pub(crate) fn launch(&self, number: u64) -> Option<LaunchId> {
        self.procs.iter().find(|(_, (other, _))| *other == number).map(|(&launch, _)| launch)
    }

    pub(crate) fn ended(&mut self, launch: LaunchId) {
        self.ended.push_back(launch);
        if self.ended.len() > REMEMBERED {
            let oldest = self.ended.pop_front();
            oldest.map(|launch| self.procs.remove(&launch));
        }
    }
}

/// Kills a launch whose caller does not take what became of it.
struct KillUnlessTaken(Option<(u64, Keeper)>);

impl Drop for KillUnlessTaken {
    fn drop(&mut self) {
        if let Some((id, keeper)) = self.0.take() {
            // Nobody waits for the answer; a keeper that is gone has killed it.
            let _ = keeper.commands.send(Command::Kill(id, oneshot::channel().0));
        }
    }
}

/// Launches procs as processes of this machine.
///
/// They are children of a keeper, a small process of its own with a guard above it: when this process
/// is gone, however it went, they kill them and all that they started. Dropping the launcher does the
/// same. Procs outlive the keeper: its guard keeps them on, and without that this process does.
///
/// Detached procs are children of another keeper, which stays when this process is gone, and is found again
/// by [`Self::start_in`] with the same directory.
pub struct NativeLauncher {
    pub(crate) known: Arc<Mutex<Known>>,
    window: Semaphore,
}

impl NativeLauncher {
    /// After this a keeper that does not answer a terminate or a kill is reported: later than a process
    /// that does not die, and sooner than whoever asked gives up.
    pub const ANSWER: Duration = Duration::from_millis(4500);

    /// Starts the keeper; to be called inside a tokio runtime with time and I/O enabled, on which
    /// the conversation with it runs from then on.
    ///
    /// # Errors
    /// The keeper could not be started.
    pub fn start() -> io::Result<Self> {
        Self::start_noting(|_| ())
    }

    /// The same; `note` is told of each guard and each keeper, the later ones too.
    ///
    /// # Errors
    /// The keeper could not be started.
    pub fn start_noting(note: impl Fn(Helper) + Send + Sync + 'static) -> io::Result<Self> {
        Self::begin(note, None)
    }

    /// The same for a host with a state directory, of this user alone (0700), which no other host uses: it can
    /// launch detached procs, and what an earlier host of the directory has left is handed over to it, to be
    /// taken over one by one with [`ProcLauncher::adopt`]. Blocks for as long as that takes.
    ///
    /// # Errors
    /// A keeper could not be started, the directory cannot be used, or another host that lives uses it.
    pub fn start_in(directory: &Path, note: impl Fn(Helper) + Send + Sync + 'static) -> io::Result<Self> {
        let home = Home::new(directory)?;
        let inheritance = home.claim()?;
        // What does not run any more was written down before the rest was handed over.
        let exits = home.exits()?;
        let launcher = Self::begin(note, Some(home))?;
        let own = Arc::downgrade(&launcher.known);
        let mut known = launcher.known();
        known.exits = exits;
        match inheritance {
            Some(inheritance) => known.inherit(&own, inheritance)?,
            None => drop(known.keeper(&own, true)?),
        }
        drop(known);
        Ok(launcher)
    }

    fn begin(note: impl Fn(Helper) + Send + Sync + 'static, home: Option<Home>) -> io::Result<Self> {
        let known = Known {
            keepers: Vec::new(),
            note: Arc::new(note),
            shut_down: false,
            procs: HashMap::new(),
            ended: VecDeque::new(),
            next: 0,
            home,
            handed: HashMap::new(),
            exits: HashMap::new(),
        };
        let launcher = Self { known: Arc::new(Mutex::new(known)), window: Semaphore::new(WINDOW) };
        launcher.known().keeper(&Arc::downgrade(&launcher.known), false)?;
        Ok(launcher)
    }

    /// Kills all procs, detached ones too, and ends their keepers. Returns when nothing of them is left, however many ask for
    /// it. Later launches are refused.
    ///
    /// Cancel safe: once polled, it happens whoever waits.
    pub async fn shutdown(&self) {
        self.end(|_| true).await;
    }

    /// The same, but leaves detached procs and their keeper behind.
    pub async fn leave(&self) {
        self.end(|keeper| !keeper.detached).await;
    }

    async fn end(&self, which: impl Fn(&Keeper) -> bool) {
        let keepers = {
            let mut known = self.known();
            known.shut_down = true;
            known.keepers.clone()
        };
        let told = keepers.iter().filter(|keeper| which(keeper)).map(|keeper| {
            let (done, ended) = oneshot::channel();
            // An error means that it keeps nothing any more.
            drop(keeper.commands.send(Command::Shutdown(done)));
            ended
        });
        for ended in told.collect::<Vec<_>>() {
            let _ = ended.await;
        }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a launch to the keeper, or to a new one when that is gone.
    fn post(&self, proc_id: &ProcId, launch: Launch) -> Result<KillUnlessTaken, ProcLauncherError> {
        let id = proc_id.launch_id();
        let mut known = self.known();
        if known.shut_down {
            return Err(LaunchFailure::new(SHUT_DOWN, libc::ECANCELED).into());
        }
        if known.procs.contains_key(&id) {
            let text = format!("{proc_id} was launched already; an id serves for one launch only");
            return Err(ProcLauncherError::Other(text));
        }
        let keeper = known
            .keeper(&Arc::downgrade(&self.known), launch.detach)
            .map_err(|error| LaunchFailure::of("the keeper could not be started", &error))?;
        // A keeper that dies just now drops the launch, and its receiver tells.
        let number = known.enter(id, keeper.clone());
        let _ = keeper.commands.send(Command::Launch(number, launch));
        Ok(KillUnlessTaken(Some((number, keeper))))
    }

    /// Where the output of a detached launch goes.
    fn output(&self, opts: &LaunchOptions) -> Result<Output, ProcLauncherError> {
        if !self.known().has_home() {
            let rule =
                "this launcher has no state directory, in which the next host finds it; leave detach out";
            return Err(invalid("detach", "true", rule));
        }
        let files = opts.output.as_ref();
        let files = files.ok_or_else(|| invalid("output", "none", "a detached proc has files; give them"))?;
        home::output(files).map_err(|error| {
            LaunchFailure::of("the files of its output have no absolute paths", &error).into()
        })
    }

    fn find(&self, proc_id: &ProcId) -> Result<(u64, Keeper), ProcLauncherError> {
        let known = self.known();
        known
            .procs
            .get(&proc_id.launch_id())
            .cloned()
            .ok_or_else(|| ProcLauncherError::NotFound(proc_id.to_string()))
    }
}

#[async_trait]
impl ProcLauncher for NativeLauncher {
    fn name(&self) -> &str {
        "native"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pid: true,
            stdio: true,
            tail: false,
            tree_kill: true,
            raw_paths: true,
            command_attributes: true,
            confines: confines(),
            group_kill: cgroups().has_unified(),
            oom_facts: cgroups().version_for(Controller::Memory) == Some(2),
            folds_signals: false,
            one_stream: false,
            adopt: self.known().has_home(),
            dial_back: DialBack::Local,
        }
    }

    fn check(&self, confinement: &Confinement) -> Result<(), InvalidArgument> {
        check_resources(&confinement.resources)?;
        resolve(confinement).map(drop)
    }

    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    /// Cancel safe: a proc whose launch nobody waits for any more is killed.
    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let detach = opts.detach;
        let output = if detach { Some(self.output(&opts)?) } else { None };
        let captured = opts.want_stdio || opts.tail_lines > 0 || detach;
        let launch = proc_id.launch_id();
        // A file system that does not answer must not hold up the runtime.
        let prepared = spawn_blocking(move || {
            let env = environment(&opts, launch);
            let command = opts.command;
            let cwd = command.cwd.as_deref();
            let mut prepared = prepare(&command.program, command.arg0.as_deref(), &command.args, &env, cwd)?;
            prepared.strings.order = order(&command, launch, output)?;
            Ok::<_, ProcLauncherError>(prepared)
        });
        let prepared = prepared.await.map_err(|error| {
            ProcLauncherError::Other(format!("the program was not looked up: {error}; launch it again"))
        })??;
        let _place = self.window.acquire().await;
        let started_at = SystemTime::now();
        let shown = prepared.shown;
        let strings =
            sys::sealed_memfd(c"procession-launch", &prepared.strings.encode()).map_err(unwritten)?;
        let mut fds = vec![strings, prepared.cwd];
        if !captured {
            fds.extend([own_output(io::stdout())?, own_output(io::stderr())?]);
        }
        let (started, answer) = oneshot::channel();
        let mut not_taken = self.post(proc_id, Launch { launch, shown, captured, detach, fds, started })?;
        let Started { pid, pipes, exit: exit_rx } = answer.await.unwrap_or_else(|_| {
            self.known().ended(launch);
            Err(LaunchFailure::new(
                "the keeper ended before it could start anything; launch again",
                libc::EAGAIN,
            ))
        })?;
        let stdio = handling(pipes)?;
        not_taken.0 = None;
        Ok(LaunchResult { pid: Some(pid), started_at, stdio, exit_rx, reports: None })
    }

    async fn adopt(
        &self,
        proc_id: &ProcId,
        _opts: &LaunchOptions,
        pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        self.take_over(proc_id.launch_id(), pid).await
    }

    /// SIGTERM to the whole tree, once. Cancel safe: once polled, it happens whoever waits.
    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        let (id, keeper) = self.find(proc_id)?;
        let (done, answer) = oneshot::channel();
        if keeper.commands.send(Command::Terminate(id, done)).is_err() {
            return Ok(());
        }
        // That it was dropped means that it had ended.
        let answered = tokio::time::timeout(Self::ANSWER, answer).await;
        answered.map(drop).map_err(|_| ProcLauncherError::Terminate(mute_keeper()))
    }

    /// Returns when nothing of the tree is left. Cancel safe: once polled, it happens whoever waits.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        let (id, keeper) = self.find(proc_id)?;
        let (done, answer) = oneshot::channel();
        if keeper.commands.send(Command::Kill(id, done)).is_err() {
            return Ok(());
        }
        match tokio::time::timeout(Self::ANSWER, answer).await {
            Ok(Ok(Some(pid))) => Err(ProcLauncherError::Kill(stuck(pid))),
            Ok(_) => Ok(()),
            Err(_) => Err(ProcLauncherError::Kill(mute_keeper())),
        }
    }
}

fn order(
    command: &BootstrapCommand,
    launch: LaunchId,
    output: Option<Output>,
) -> Result<Order, ProcLauncherError> {
    let confinement = &command.confinement;
    Ok(Order {
        preload: if output.is_none() { preload(command) } else { None },
        group: match output {
            Some(_) => Owner::detached_group_name(launch),
            None => Owner::this_process().group_name(launch),
        },
        limits: limits(&confinement.resources),
        confinement: resolve(confinement).map_err(refused)?,
        output,
    })
}

fn stuck(pid: u32) -> String {
    let place = whereabouts(pid);
    format!(
        "process {pid} has not died {PATIENCE:?} after SIGKILL: it is {place}; what it waits for has to answer or go \
         away first, and then it dies"
    )
}

fn mute_keeper() -> String {
    format!("the keeper has not answered for {:?}; see whether it is stopped", NativeLauncher::ANSWER)
}

fn unwritten(error: io::Error) -> ProcLauncherError {
    LaunchFailure::of("the launch could not be written into memory; free some, and try again", &error).into()
}

/// A duplicate of this process's own output; `/dev/null` where it has none.
fn own_output(output: impl AsFd) -> Result<OwnedFd, ProcLauncherError> {
    let fd = output.as_fd();
    fd.try_clone_to_owned().or_else(|_| sys::open_null()).map_err(unwritten)
}

pub(crate) fn handling(pipes: Option<[OwnedFd; 2]>) -> Result<StdioHandling, ProcLauncherError> {
    Ok(match pipes {
        Some([stdout, stderr]) => StdioHandling::Pipes { stdout: stream(stdout)?, stderr: stream(stderr)? },
        None => StdioHandling::Inherited,
    })
}

fn stream(pipe: OwnedFd) -> Result<Receiver, ProcLauncherError> {
    let unread = |error| LaunchFailure::of("its output cannot be read; launch it again", &error).into();
    Receiver::from_owned_fd(pipe).map_err(unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_die_is_told_of_before_the_keeper_is_said_to_be_mute() {
        assert!(PATIENCE + Duration::from_millis(300) < NativeLauncher::ANSWER);
    }
}
