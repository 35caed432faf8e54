use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Relayed};
use procession_model::{InvalidArgument, LaunchId, LaunchOptions, ProcId};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::core::Core;
use crate::host::Host;
use crate::spec::SpawnSpec;
use crate::zygote::Zygote;

/// How long the exit of a proc waits for the end of what it was launched in.
const END: Duration = Duration::from_secs(10);
/// How many ended procs are remembered, which can be asked to end once more.
const REMEMBERED: usize = 1000;

/// Keeps so many processes warm, which another launcher starts, and launches each proc in one of them: that takes no longer than to
/// hand it over. Each serves for one proc, and ends with it; another is started in its place.
///
/// They are [`Zygote`]s, each with a keeper of its own, by which ends of procs are known.
pub struct Pool {
    core: Weak<Core>,
    name: String,
    spec: SpawnSpec,
    through: Mutex<Arc<dyn ProcLauncher>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many wait when nothing is launched.
    size: usize,
    /// How many were made.
    count: u64,
    is_closed: bool,
    warm: VecDeque<Arc<Zygote>>,
    /// Those that are up, each for a launch that was admitted and is still to come, while that holds its room.
    admitted: Vec<(Arc<Semaphore>, Arc<Zygote>)>,
    /// Those of launches.
    of: HashMap<LaunchId, Place>,
    /// The latest launches that have ended.
    ended: VecDeque<LaunchId>,
}

/// Where a launch goes.
struct Place {
    zygote: Arc<Zygote>,
    /// It was asked for, and not only chosen.
    is_asked: bool,
}

impl State {
    /// What was admitted and never came has left a process behind that another may have.
    fn take_back(&mut self) {
        let is_left = |(room, _): &mut (Arc<Semaphore>, Arc<Zygote>)| room.available_permits() > 0;
        let left: Vec<_> = self.admitted.extract_if(.., is_left).collect();
        left.into_iter().for_each(|(_, zygote)| self.give_back(zygote));
    }

    /// Another launch may have it; what is one too many ends.
    fn give_back(&mut self, zygote: Arc<Zygote>) {
        if !self.is_closed {
            self.warm.push_front(zygote);
            self.warm.truncate(self.size);
        }
    }

    /// One that is up, if there is one.
    fn next(&mut self) -> Option<Arc<Zygote>> {
        let at = self.warm.iter().position(|zygote| zygote.is_up()).unwrap_or(0);
        self.warm.remove(at)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that waits to be up, and is another's when nobody waits any more.
struct Waiting<'a>(&'a Mutex<State>, Option<Arc<Zygote>>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(zygote) = self.1.take() {
            locked(self.0).give_back(zygote);
        }
    }
}

/// A choice that was not used is another launch's.
struct Chosen {
    state: Arc<Mutex<State>>,
    launch: LaunchId,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        let is_unused = state.of.get(&self.launch).is_some_and(|place| !place.is_asked);
        if is_unused && let Some(place) = state.of.remove(&self.launch) {
            state.give_back(place.zygote);
        }
    }
}

impl Pool {
    /// Keeps `size` processes as in `spec` warm, that `through` launches for `host`. They are started at once.
    ///
    /// # Errors
    /// Nothing can be launched so.
    pub fn new(
        host: &Host,
        spec: SpawnSpec,
        through: Arc<dyn ProcLauncher>,
        size: usize,
    ) -> Result<Arc<Self>, InvalidArgument> {
        if size == 0 {
            return Err(InvalidArgument::new("size", "0", "nothing would be kept warm; give 1 at least"));
        }
        Zygote::check_spec(&spec, through.as_ref())?;
        let pool = Arc::new(Self {
            core: Arc::downgrade(host.core()),
            name: format!("pool@{}", through.name()),
            spec,
            through: Mutex::new(through),
            state: Arc::new(Mutex::new(State { size, ..State::default() })),
        });
        pool.fill(&mut locked(&pool.state));
        Ok(pool)
    }

    /// Processes are launched through that launcher from now on.
    pub fn launch_through(&self, launcher: Arc<dyn ProcLauncher>) {
        *locked(&self.through) = launcher;
    }

    /// Has it close with that proc of its host.
    pub fn close_with(self: &Arc<Self>, owner: &ProcId) {
        let core = self.core.upgrade();
        let Some((core, owner)) = core.and_then(|core| core.find(owner).map(|owner| (core, owner))) else {
            return;
        };
        let own = Arc::downgrade(self);
        core.runtime.spawn(async move {
            owner.ended().await;
            if let Some(own) = own.upgrade() {
                own.close().await;
            }
        });
    }

    /// Waits until all that are warm, or about to be, are up.
    ///
    /// # Errors
    /// One of them cannot be started.
    pub async fn warm(&self) -> Result<(), ProcLauncherError> {
        let warm: Vec<_> = locked(&self.state).warm.iter().cloned().collect();
        for zygote in warm {
            zygote.up().await?;
        }
        Ok(())
    }

    /// Ends what is warm, and waits for that; what runs a proc ends with it. Nothing is launched any more.
    pub async fn close(&self) {
        let ending: Vec<_> = {
            let mut state = locked(&self.state);
            state.is_closed = true;
            let admitted: Vec<_> = state.admitted.drain(..).map(|(_, zygote)| zygote).collect();
            state.warm.drain(..).chain(admitted).collect()
        };
        let ends = ending.iter().filter_map(|zygote| zygote.retire()).collect::<Vec<_>>();
        for end in ends {
            end.ended().await;
        }
    }

    /// Starts as many as are missing.
    fn fill(&self, state: &mut State) {
        let Some(core) = self.core.upgrade().filter(|core| !core.is_closing()) else { return };
        state.warm.retain(|zygote| !zygote.has_ended());
        while !state.is_closed && state.warm.len() < state.size {
            state.count += 1;
            let spec = SpawnSpec { name: format!("{}-{}", self.spec.name, state.count), ..self.spec.clone() };
            let zygote = Zygote::of(&core, spec, Arc::clone(&locked(&self.through)));
            if let Err(error) = zygote.start() {
                tracing::warn!(pool = self.name, %error, "it is tried again when a proc is launched");
            }
            state.warm.push_back(zygote);
        }
    }

    /// One that is up, or will be; another is started in its place.
    fn taken(&self) -> Result<Arc<Zygote>, ProcLauncherError> {
        let mut state = locked(&self.state);
        state.take_back();
        self.fill(&mut state);
        let next = state.next();
        self.fill(&mut state);
        next.ok_or_else(|| {
            let text = format!("LauncherUnavailable: {}: it was closed, or its host ends", self.name);
            ProcLauncherError::Other(text)
        })
    }

    /// That of a launch: the one that was chosen for it, or one that was kept for those that were admitted.
    fn place(&self, launch: LaunchId, is_asked: bool) -> Result<Arc<Zygote>, ProcLauncherError> {
        let known = {
            let mut state = locked(&self.state);
            let chosen = state.of.remove(&launch).map(|place| place.zygote);
            chosen.or_else(|| state.admitted.pop().map(|(_, zygote)| zygote))
        };
        let zygote = known.map_or_else(|| self.taken(), Ok)?;
        locked(&self.state).of.insert(launch, Place { zygote: Arc::clone(&zygote), is_asked });
        Ok(zygote)
    }

    /// Where it runs; none where it has ended.
    fn known(&self, proc_id: &ProcId) -> Result<Option<Arc<Zygote>>, ProcLauncherError> {
        let (state, launch) = (locked(&self.state), proc_id.launch_id());
        match state.of.get(&launch) {
            Some(place) => Ok(Some(Arc::clone(&place.zygote))),
            None if state.ended.contains(&launch) => Ok(None),
            None => Err(ProcLauncherError::NotFound(proc_id.to_string())),
        }
    }
}

#[async_trait]
impl ProcLauncher for Pool {
    fn name(&self) -> &str {
        &self.name
    }

    /// What a process can do that was started for anybody: nothing that has to be known when it starts.
    fn capabilities(&self) -> Capabilities {
        let dial_back = locked(&self.through).capabilities().dial_back;
        Capabilities {
            dial_back,
            command_attributes: true,
            stdio: true,
            tree_kill: true,
            ..Default::default()
        }
    }

    /// The keeper of each process is the parent.
    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    fn launched_in(&self, proc_id: &ProcId) -> Option<ProcId> {
        self.known(proc_id).ok()??.own_proc()
    }

    /// Waits for a process that is up.
    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        let zygote = self.taken()?;
        let mut waiting = Waiting(&self.state, Some(Arc::clone(&zygote)));
        let up = zygote.up().await;
        waiting.1 = None;
        up?;
        let room = Arc::new(Semaphore::new(1));
        let admission = Arc::clone(&room).try_acquire_owned();
        let admission = admission.map_err(|error| ProcLauncherError::Other(error.to_string()))?;
        locked(&self.state).admitted.push((room, zygote));
        Ok(admission.into())
    }

    /// As its process does itself, whose neighbour it is.
    async fn relay(&self, proc_id: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        let launch = proc_id.launch_id();
        let zygote = self.place(launch, false)?;
        let chosen = Chosen { state: Arc::clone(&self.state), launch };
        zygote.up().await?;
        let relayed = zygote.relay(proc_id, host).await?;
        Ok(Relayed { kept: Box::new((chosen, relayed.kept)), ..relayed })
    }

    /// Its exit is told when what it was launched in has ended too, or after 10 s.
    async fn launch(
        &self,
        proc_id: &ProcId,
        mut options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let launch = proc_id.launch_id();
        let zygote = self.place(launch, true)?;
        // One proc is not worth an interpreter to fork it from.
        if options.command.preload.take().is_some() {
            let own = || self.spec.command.program.to_string_lossy().into_owned();
            let interpreter = zygote.interpreter().unwrap_or_else(own);
            options.command.arg0 = options.command.arg0.map(|_| interpreter.clone());
            options.command.program = interpreter.into();
        }
        let served = Served { state: Arc::clone(&self.state), launch, zygote: Arc::clone(&zygote) };
        let launched = zygote.launch(proc_id, options).await?;
        let (exit_tx, exit_rx) = oneshot::channel();
        let exit = launched.exit_rx;
        tokio::spawn(async move {
            let exit = exit.await;
            let _it_ends_later = timeout(END, served.zygote.close()).await;
            drop(served);
            if let Ok(exit) = exit {
                let _host_gone = exit_tx.send(exit);
            }
        });
        Ok(LaunchResult { exit_rx, ..launched })
    }

    /// SIGTERM to the whole tree, once.
    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        match self.known(proc_id)? {
            Some(zygote) => zygote.terminate(proc_id, timeout).await,
            None => Ok(()),
        }
    }

    /// Returns when nothing of the tree is left. What does not answer is ended with all that is in it, which is this proc alone.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        let Some(zygote) = self.known(proc_id)? else { return Ok(()) };
        let killed = zygote.kill(proc_id).await;
        if let Err(ProcLauncherError::Kill(why)) = &killed {
            zygote.give_up(why);
        }
        killed
    }
}

/// A launch, for as long as its process serves it.
struct Served {
    state: Arc<Mutex<State>>,
    launch: LaunchId,
    zygote: Arc<Zygote>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ends_by_itself = self.zygote.retire();
        let mut state = locked(&self.state);
        state.of.remove(&self.launch);
        if state.ended.len() == REMEMBERED {
            state.ended.pop_front();
        }
        state.ended.push_back(self.launch);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.name).finish()
    }
}
