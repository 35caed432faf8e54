use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use procession_launch::ProcLauncher;
use procession_model::{BootTiming, FlightRecord, ProcExit, ProcId, ProcStatus, StopRequest};
use procession_supervise::{Readiness, StopHow};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{mpsc, oneshot, watch};

use crate::boot_clock::BootClock;
use crate::clock::Clock;
use crate::core::Core;
use crate::effects::obituary;
use crate::flight::FlightFile;
use crate::flight_layout::UNWRITTEN;
use crate::input::Input;
use crate::ledger::At;
use crate::log_files::{LogFiles, Past};
use crate::observers::{Audience, Launch, Observer, Observers, ProcEvent};
use crate::output::{Output, Stream};
use crate::request::Request;
use crate::spec::{OwnerLoss, SpawnSpec};

/// Where a launch stands at one moment.
#[derive(Clone, Debug)]
pub struct ProcSnapshot {
    /// Its status.
    pub status: ProcStatus,
    /// The process, where one is known.
    pub pid: Option<u32>,
    /// The substrate's name for it.
    pub handle: Option<String>,
    /// What its launcher last said about the launch.
    pub progress: Option<String>,
    /// Its launcher's name.
    pub launcher: String,
    /// The file that takes all of its stdout, where that was asked for.
    pub stdout_path: Option<PathBuf>,
    /// The file that takes all of its stderr, where that was asked for.
    pub stderr_path: Option<PathBuf>,
    /// When the launch was asked for.
    pub started_at: SystemTime,
    /// When the launcher acknowledged it.
    pub running_at: Option<SystemTime>,
    /// When it called back.
    pub ready_at: Option<SystemTime>,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// How long each phase of its boot took.
    pub boot: BootTiming,
    /// How often its launcher, or the operating system, had something to say after its exit was settled.
    pub late_reports: u64,
}

/// What the driver of a launch and all who look at it share.
pub(crate) struct Shared {
    pub(crate) id: ProcId,
    pub(crate) rank: usize,
    pub(crate) incarnation: u32,
    pub(crate) stop_grace: Duration,
    pub(crate) request: Request,
    pub(crate) native: bool,
    /// The end of the host is not its own.
    pub(crate) outlives: bool,
    /// Where it stands in the journal of one that outlives its host.
    pub(crate) at: Option<At>,
    /// An earlier host has launched it.
    pub(crate) is_adopted: bool,
    /// It had ended by the time it was taken over.
    pub(crate) was_over: AtomicBool,
    pub(crate) calls_back: bool,
    /// The proc that its launcher has to itself, once there is one.
    pub(crate) launched_in: OnceLock<ProcId>,
    /// Without the end, which is in `exit`.
    pub(crate) snapshot: Mutex<ProcSnapshot>,
    pub(crate) boot: BootClock,
    /// What the proc notes about itself, or why it cannot; none once it has ended, and before it is asked for.
    pub(crate) flight: Mutex<Option<Result<FlightFile, String>>>,
    pub(crate) ready: watch::Sender<Option<Result<(), String>>>,
    pub(crate) exit: watch::Sender<Option<Arc<ProcExit>>>,
    pub(crate) output: Arc<Output>,
    pub(crate) files: Option<Arc<LogFiles>>,
    pub(crate) observers: Arc<Observers>,
    pub(crate) driver: UnboundedSender<Input>,
    pub(crate) clock: Arc<Clock>,
}

impl Shared {
    pub(crate) fn snapshot(&self) -> std::sync::MutexGuard<'_, ProcSnapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flight(&self) -> std::sync::MutexGuard<'_, Option<Result<FlightFile, String>>> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file of its flight record; none, and why is kept, where that cannot be.
    pub(crate) fn open_flight(&self, directory: &Path) -> Option<PathBuf> {
        let made = match self.outlives {
            true => FlightFile::staying(directory, self.id.launch_id(), self.is_adopted),
            false => FlightFile::create(directory, self.id.launch_id()),
        };
        let made = made.map_err(|error| format!("no flight record could be made: {error}"));
        let path = made.as_ref().ok().map(|file| file.path().to_owned());
        *self.flight() = Some(made);
        path
    }

    /// What the proc has noted about itself until now.
    pub(crate) fn read_flight(&self) -> Result<FlightRecord, String> {
        match &*self.flight() {
            // Who has dialled back runs our runtime: it was the file that it did not find.
            Some(Ok(file)) => file.read().map_err(|why| match self.boot.linked.get() {
                Some(_) if why == UNWRITTEN => {
                    "it does not see the files of its host, and so found no flight record".to_owned()
                }
                _ => why,
            }),
            Some(Err(why)) => Err(why.clone()),
            None if self.calls_back => Err("where it ran there is no place for a flight record".to_owned()),
            None => Err("a program without our runtime notes nothing".to_owned()),
        }
    }

    /// Takes the file away.
    pub(crate) fn close_flight(&self) {
        if let Some(Ok(file)) = self.flight().take() {
            file.remove();
        }
    }

    /// Counts what came after the exit was settled, and changes nothing any more.
    pub(crate) fn late_report(&self, what: &str) {
        self.snapshot().late_reports += 1;
        tracing::info!(proc_id = %self.id, what, "a late report");
        self.observers.tell(ProcEvent::Note(format!("late: {what}")));
    }

    /// The first word on its readiness is the last.
    pub(crate) fn settle_ready(&self, ready: Result<(), String>) {
        self.ready.send_if_modified(|settled| {
            let first = settled.is_none();
            settled.get_or_insert(ready);
            first
        });
    }
}

/// When a proc is stopped among others: those that others live by come later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What a zygote has launched.
    Forked,
    /// What launchers have that may be procs themselves; zygotes among it.
    Launched,
    /// What nobody but the host stands for.
    Native,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::Forked, Self::Launched, Self::Native];
}

/// One launch of one proc, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct ProcRef(pub(crate) Arc<Shared>);

impl ProcRef {
    /// A launch that is about to be asked for, and what its driver is told.
    pub(crate) fn new(
        id: ProcId,
        incarnation: u32,
        spec: &SpawnSpec,
        launcher: &dyn ProcLauncher,
        audience: Arc<Audience>,
        clock: &Arc<Clock>,
    ) -> (Self, UnboundedReceiver<Input>) {
        let (driver, inputs) = mpsc::unbounded_channel();
        // The launch that was taken over is one; later ones of its slot are our own.
        let adopted = spec.adopted.as_ref().filter(|open| open.asked.proc_id == id);
        audience.open(id.launch_id());
        let launch = Arc::new(Launch { proc_id: id.clone(), rank: spec.rank, incarnation });
        let observers = Arc::new(Observers { launch, audience });
        let files = spec.log.as_ref().map(|log| LogFiles::new(log, &id, incarnation, Arc::clone(&observers)));
        let path = |stream| files.as_ref().map(|files| files.path(stream).to_owned());
        let shared = Shared {
            id,
            rank: spec.rank,
            incarnation,
            stop_grace: spec.policy.stop_grace,
            request: Request::new(),
            calls_back: spec.policy.readiness == Readiness::CallBack,
            native: launcher.knows_status_by_parenthood(),
            outlives: spec.on_owner_loss == OwnerLoss::Detach,
            at: spec.at,
            is_adopted: adopted.is_some(),
            was_over: AtomicBool::new(false),
            launched_in: launcher.own_proc().map_or_else(OnceLock::new, OnceLock::from),
            snapshot: Mutex::new(ProcSnapshot {
                status: ProcStatus::Starting,
                pid: None,
                handle: None,
                progress: None,
                launcher: launcher.name().to_owned(),
                stdout_path: path(Stream::Stdout),
                stderr_path: path(Stream::Stderr),
                started_at: adopted.map_or_else(|| clock.time_of_day(), |open| open.asked.since),
                running_at: None,
                ready_at: None,
                ended_at: None,
                boot: BootTiming::default(),
                late_reports: 0,
            }),
            boot: BootClock::start(adopted.map(|open| open.boot.clone()), clock.now()),
            flight: Mutex::default(),
            ready: watch::channel(None).0,
            exit: watch::channel(None).0,
            output: Arc::new(Output::new(spec.tail_lines, Arc::clone(&observers))),
            files,
            observers,
            driver,
            clock: Arc::clone(clock),
        };
        (Self(Arc::new(shared)), inputs)
    }

    /// One that ended under an earlier host.
    pub(crate) fn ended_before(
        core: &Core,
        exit: &Arc<ProcExit>,
        spec: &SpawnSpec,
        launcher: &dyn ProcLauncher,
        audience: Arc<Audience>,
    ) -> Self {
        let (own, _nobody_drives_it) =
            Self::new(exit.proc_id.clone(), exit.incarnation, spec, launcher, audience, &core.clock);
        {
            let mut snapshot = own.0.snapshot();
            snapshot.status = exit.kind.status();
            (snapshot.pid, snapshot.started_at, snapshot.ready_at) =
                (exit.pid, exit.started_at, exit.ready_at);
        }
        for (stream, lines) in [(Stream::Stdout, &exit.stdout_tail), (Stream::Stderr, &exit.stderr_tail)] {
            let last: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
            let to = last.len() as u64;
            own.0.output.recall(stream, Past { first: None, last, begins_line: true, to });
        }
        core.hub.gone(&exit.proc_id, &obituary(exit));
        own.0.exit.send_replace(Some(Arc::clone(exit)));
        own.0.settle_ready(Err(format!(
            "proc {} ended under an earlier host: {}",
            exit.proc_id, exit.verdict
        )));
        own.0.observers.put([ProcEvent::Status(exit.kind.status()), ProcEvent::Exit(Arc::clone(exit))]);
        own
    }

    /// Its id.
    pub fn id(&self) -> &ProcId {
        &self.0.id
    }

    pub(crate) fn stage(&self) -> Stage {
        match (self.0.native, self.0.launched_in.get()) {
            (true, Some(_)) => Stage::Forked,
            (false, _) => Stage::Launched,
            (true, None) => Stage::Native,
        }
    }

    /// Its place in its mesh.
    pub fn rank(&self) -> usize {
        self.0.rank
    }

    /// Which launch of its slot it is.
    pub fn incarnation(&self) -> u32 {
        self.0.incarnation
    }

    /// Where it stands now; never in a terminal status without an exit.
    pub fn status(&self) -> ProcSnapshot {
        let mut snapshot = self.0.snapshot().clone();
        snapshot.boot = self.0.boot.timing();
        if let Some(exit) = self.exit() {
            snapshot.status = exit.kind.status();
            snapshot.ended_at = Some(exit.ended_at);
        }
        snapshot
    }

    /// How it ended; none while it lives.
    pub fn exit(&self) -> Option<Arc<ProcExit>> {
        self.0.exit.borrow().clone()
    }

    /// The last lines of a stream so far.
    pub fn output_tail(&self, stream: Stream) -> Vec<String> {
        self.0.output.lines(stream)
    }

    /// The last `count` lines of a stream so far: from its file, where it has one, else as many as are
    /// kept. Blocks as the file system does.
    pub fn last_lines(&self, stream: Stream, count: usize) -> Vec<String> {
        let (kept, to) = self.0.output.lines_to(stream);
        self.further_back(stream, kept, to, count)
    }

    pub(crate) fn further_back(
        &self,
        stream: Stream,
        kept: Vec<String>,
        to: u64,
        count: usize,
    ) -> Vec<String> {
        if count <= kept.len() {
            return kept[kept.len() - count..].to_vec();
        }
        let files = self.0.files.as_ref();
        files.and_then(|files| files.lines_before(stream, to, count)).unwrap_or(kept)
    }

    /// What [`Self::ready`] gives, when it gives it at once.
    pub fn ready_now(&self) -> Option<Result<(), String>> {
        self.0.ready.borrow().clone()
    }

    /// Waits until it has called back. Cancel safe.
    ///
    /// # Errors
    /// It never will: the phase, the reason and the last lines of stderr.
    pub async fn ready(&self) -> Result<(), String> {
        match self.0.ready.subscribe().wait_for(Option::is_some).await {
            Ok(state) => state.clone().unwrap_or_else(|| Err("the host was shut down".to_owned())),
            Err(_) => Err("the host was shut down".to_owned()),
        }
    }

    /// Waits until it has ended. Cancel safe.
    pub async fn ended(&self) -> Arc<ProcExit> {
        match self.0.exit.subscribe().wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().expect("the predicate saw an exit"),
            Err(_) => unreachable!("the sender lives as long as this reference"),
        }
    }

    /// Stops it: its agent is asked first, then its launcher, then it is killed, each after
    /// `grace` (none: the grace it was launched with). Resolves once it has ended. Cancelling the
    /// wait does not cancel the stop.
    pub async fn stop(&self, reason: &str, grace: Option<Duration>) -> Arc<ProcExit> {
        self.ask(StopHow::AgentFirst, grace.unwrap_or(self.0.stop_grace), "stop", reason, None);
        self.ended().await
    }

    /// Asks its launcher to end it, and kills it at `timeout`. Resolves once the launcher answered.
    ///
    /// # Errors
    /// The launcher could not be asked, in its own words.
    pub async fn terminate(&self, timeout: Duration, why: &str) -> Result<(), String> {
        self.acknowledged(StopHow::Terminate, timeout, "terminate", why).await
    }

    /// Kills its whole tree. Resolves once the launcher answered.
    ///
    /// # Errors
    /// The launcher could not be asked, in its own words.
    pub async fn kill(&self, why: &str) -> Result<(), String> {
        self.acknowledged(StopHow::Kill, Duration::ZERO, "kill", why).await
    }

    async fn acknowledged(&self, how: StopHow, grace: Duration, by: &str, why: &str) -> Result<(), String> {
        let (ack, answer) = oneshot::channel();
        self.ask(how, grace, by, why, Some(ack));
        // A driver that is gone has published the exit: an ended proc needs no stop.
        answer.await.unwrap_or(Ok(())).map_err(|error| format!("{by} of {} failed: {error}", self.id()))
    }

    pub(crate) fn ask(
        &self,
        how: StopHow,
        grace: Duration,
        by: &str,
        why: &str,
        ack: Option<oneshot::Sender<Result<(), String>>>,
    ) {
        let request = StopRequest { by: by.to_owned(), at: self.0.clock.time_of_day(), why: why.to_owned() };
        let _ended = self.0.driver.send(Input::Stop { how, grace, request, ack });
    }

    /// Tells `observer` of everything from now on, one event after the other, on the host's io
    /// thread as a rule; it must not block. Of a proc that has ended it hears the exit at once.
    pub fn watch(&self, observer: Observer) {
        self.0.observers.add(observer);
    }

    /// Like [`Self::watch`], and gives the lines of stdout and stderr that are kept of before: each
    /// line is either among them or told, and one that has begun is told.
    pub fn watch_with_past(&self, observer: Observer) -> [Vec<String>; 2] {
        self.0.output.follow(self.0.observers.of_this_launch(observer), None).map(|(lines, _)| lines)
    }
}

impl fmt::Debug for ProcRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcRef({}, {})", self.id(), self.status().status)
    }
}
