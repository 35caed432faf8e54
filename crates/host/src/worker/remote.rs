//! What is launched through desks: a launcher has one of them at a time, and each launch the one that was there then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_actor::{ActorHandle, Handler, MailboxError, Message, OncePortReceiver, PortRef, Proc};
use procession_launch::{Admission, LaunchResult, ProcLauncherError, Report, Reports, StdioHandling};
use procession_model::{ActorId, LaunchId, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::desk::Desk;
use super::inflow::{Inflow, Outlet};
use super::message::{
    Answered, Ask, Done, End, Ended, Greet, How, Launch, Machine, Order, Question, Reached, Reply, Running,
    Said, ShutDown, Started, Through, Undone,
};

/// How many launches may wait for its acknowledgement at once; the others wait here.
const LAUNCHES_AT_ONCE: usize = 128;
/// For a desk to say that it has ended a proc: less than whoever asked waits.
pub(crate) const ANSWER: Duration = Duration::from_millis(4800);
/// For the end of a session to be told, when what was to come over it does not: the ports of whoever has ended may close first.
const SOON: Duration = Duration::from_millis(100);
/// How many ended procs are remembered, which can be asked to end once more.
const REMEMBERED: usize = 1000;

/// Somebody else's desk, and what was launched there: all of it ends with this.
pub(crate) struct Session {
    /// What it is, for people, and where: `worker`, `10.0.0.2:7000`.
    kind: &'static str,
    place: String,
    node: Proc,
    desk: ActorHandle<Desk>,
    pub(crate) machine: Machine,
    live: watch::Sender<Live>,
    /// Why it has ended.
    ended: watch::Sender<Option<String>>,
}

/// What runs there.
#[derive(Default)]
struct Live {
    procs: HashMap<ProcId, mpsc::UnboundedSender<Report>>,
    /// It takes no more.
    is_retired: bool,
}

impl Session {
    /// Learns from `desk` what can be launched there.
    pub(crate) async fn greet(
        kind: &'static str,
        place: String,
        node: &Proc,
        desk: ActorId,
    ) -> Result<Self, String> {
        let desk = ActorHandle::attach(node, desk);
        let (answer, greeting) = node.mailbox().open_once_port();
        desk.send(&node.instance(), Greet(answer.bind())).map_err(|error| error.to_string())?;
        let greeting = greeting.recv().await.map_err(|error| error.to_string())?;
        let ours = env!("CARGO_PKG_VERSION");
        if greeting.version != ours {
            let theirs = greeting.version;
            return Err(format!(
                "it runs version {theirs}, and this is {ours}; install the same at both ends"
            ));
        }
        Ok(Self {
            kind,
            place,
            node: node.clone(),
            desk,
            machine: greeting.machine?,
            live: watch::Sender::default(),
            ended: watch::Sender::new(None),
        })
    }

    /// Has it launch through the launcher of that kind, which is told to `said` what that says.
    pub(super) async fn through(
        &mut self,
        kind: &str,
        config: &str,
        said: PortRef<Said>,
    ) -> Result<(), String> {
        let (reached, answer) = self.node.mailbox().open_once_port();
        let (kind, config) = (kind.to_owned(), config.to_owned());
        self.tell(Through { kind, config, said, reached: reached.bind() })?;
        let Reached(machine) = answer.recv().await.map_err(|error| error.to_string())?;
        self.machine = machine?;
        Ok(())
    }

    /// Asks that launcher.
    pub(super) async fn ask_launcher(&self, question: Question) -> Result<Reply, String> {
        let (answer, answered) = self.node.mailbox().open_once_port();
        self.tell(Ask { question, answer: answer.bind() })?;
        let Answered(answer) = answered.recv().await.map_err(|error| error.to_string())?;
        answer
    }

    fn name(&self) -> String {
        format!("{} {}", self.kind, self.place)
    }

    /// Has who launched that proc hear what its launcher says.
    pub(super) fn hear(&self, Said { proc_id, word }: Said) {
        if let Some(reports) = self.live.borrow().procs.get(&proc_id) {
            let _nobody_listens = reports.send(word.into());
        }
    }

    /// Has all who launched something there that lives hear that.
    pub(super) fn report(&self, report: &Report) {
        for reports in self.live.borrow().procs.values() {
            let _nobody_listens = reports.send(report.clone());
        }
    }

    /// False where it takes nothing any more.
    fn enter(&self, proc_id: &ProcId, reports: &mpsc::UnboundedSender<Report>) -> bool {
        let mut is_taken = false;
        self.live.send_modify(|live| {
            is_taken = !live.is_retired;
            if is_taken {
                live.procs.insert(proc_id.clone(), reports.clone());
            }
        });
        is_taken
    }

    fn left(&self, proc_id: &ProcId) {
        self.live.send_if_modified(|live| live.procs.remove(proc_id).is_some());
    }

    /// It takes nothing any more.
    pub(crate) fn retire(&self) {
        self.live.send_modify(|live| live.is_retired = true);
    }

    /// Waits until nothing runs there. Cancel safe.
    pub(crate) async fn idle(&self) {
        let mut live = self.live.subscribe();
        let _never_closed = live.wait_for(|live| live.procs.is_empty()).await;
    }

    /// Whether something can be launched there.
    pub(crate) fn takes_launches(&self) -> bool {
        self.has_ended().is_none() && !self.live.borrow().is_retired
    }

    /// Why it has ended, if it has.
    pub(crate) fn has_ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    pub(crate) fn end(&self, why: &str) {
        self.ended.send_replace(Some(why.to_owned()));
    }

    /// Waits until it has ended. Cancel safe.
    pub(crate) async fn over(&self) {
        let mut ended = self.ended.subscribe();
        let _never_closed = ended.wait_for(Option::is_some).await;
    }

    pub(super) fn tell<M: Message>(&self, message: M) -> Result<(), String>
    where
        Desk: Handler<M>,
    {
        self.desk.send(&self.node.instance(), message).map_err(|error| error.to_string())
    }

    /// Asks for the end of a proc, with the answer.
    fn ask(&self, proc_id: &ProcId, how: How) -> Result<OncePortReceiver<Done>, String> {
        let (done, answer) = self.node.mailbox().open_once_port();
        let end = End { proc_id: proc_id.clone(), how, done: done.bind() };
        self.tell(end)?;
        Ok(answer)
    }

    /// Asks whoever has the desk to end, and waits for the answer.
    pub(super) async fn shut_down(&self) -> Result<(), String> {
        let (done, answer) = self.node.mailbox().open_once_port();
        self.tell(ShutDown(done.bind()))?;
        match timeout(ANSWER, async { self.settled(answer.recv().await).await }).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Undone::Failed(why))) => Err(why),
            Ok(Err(Undone::NotFound)) | Err(_) => Err(format!("it has not answered for {ANSWER:?}")),
        }
    }

    /// What an answer comes to; that the session has ended means that the proc has too.
    async fn settled(&self, answer: Result<Done, MailboxError>) -> Result<(), Undone> {
        match answer {
            Ok(Done(done)) => done,
            Err(MailboxError::Closed(why)) => match timeout(SOON, self.over()).await {
                Ok(()) => Ok(()),
                Err(_) => Err(Undone::Failed(why)),
            },
            Err(error) => Err(Undone::Failed(error.to_string())),
        }
    }

    fn mute(&self, patience: Duration) -> String {
        let name = self.name();
        format!("{name} has not answered for {patience:?}; see whether it can be reached, or is stopped")
    }
}

/// By launch: where it was asked for.
#[derive(Default)]
struct Launches {
    asked: HashMap<LaunchId, Asked>,
    ended: VecDeque<LaunchId>,
}

enum Asked {
    /// A desk is reached first; whether nobody wants it any more.
    Waits {
        given_up: bool,
    },
    At(Arc<Session>),
    Ended,
}

impl Launches {
    fn has_ended(&self, launch: LaunchId) -> bool {
        matches!(self.asked.get(&launch), Some(Asked::Ended))
    }

    fn ended(&mut self, launch: LaunchId) {
        self.asked.insert(launch, Asked::Ended);
        self.ended.push_back(launch);
        if self.ended.len() > REMEMBERED {
            let oldest = self.ended.pop_front();
            oldest.map(|launch| self.asked.remove(&launch));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills a launch whose caller does not take what became of it.
struct KillUnlessTaken(Option<(Arc<Session>, ProcId)>);

impl Drop for KillUnlessTaken {
    fn drop(&mut self) {
        if let Some((session, proc_id)) = self.0.take() {
            // Nobody waits for the answer; without a connection the other end does it by itself.
            let _asked = session.ask(&proc_id, How::Kill);
        }
    }
}

/// All launches of one launcher.
pub(crate) struct Remote {
    room: Arc<Semaphore>,
    launches: Arc<Mutex<Launches>>,
}

impl Default for Remote {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(LAUNCHES_AT_ONCE)), launches: Arc::default() }
    }
}

impl Remote {
    pub(crate) async fn admit(&self) -> Admission {
        // It is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await;
        permit.map_or_else(|_| Admission::default(), Admission::from)
    }

    /// A session for a launch, and the launch noted: at once where there is one `now`, as for who asks for its end next;
    /// else what `next` gives.
    pub(crate) async fn session_for(
        &self,
        launch: LaunchId,
        now: Option<Arc<Session>>,
        next: impl Future<Output = Result<Arc<Session>, ProcLauncherError>>,
    ) -> Result<Arc<Session>, ProcLauncherError> {
        if let Some(now) = now.filter(|now| now.takes_launches()) {
            locked(&self.launches).asked.insert(launch, Asked::At(Arc::clone(&now)));
            return Ok(now);
        }
        locked(&self.launches).asked.insert(launch, Asked::Waits { given_up: false });
        let session = next.await;
        let mut launches = locked(&self.launches);
        let given_up = matches!(launches.asked.remove(&launch), Some(Asked::Waits { given_up: true }));
        let session = session?;
        if given_up {
            return Err(ProcLauncherError::Other("it was given up before it was started".to_owned()));
        }
        launches.asked.insert(launch, Asked::At(Arc::clone(&session)));
        Ok(session)
    }

    /// Cancel safe: a proc whose launch nobody waits for any more is killed.
    pub(crate) async fn launch(
        &self,
        session: Arc<Session>,
        proc_id: &ProcId,
        opts: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let (name, mailbox) = (session.name(), session.node.mailbox());
        let inflows = [Arc::<Inflow>::default(), Arc::<Inflow>::default()];
        let streams = [&inflows[0], &inflows[1]].map(|inflow| {
            let inflow = Arc::clone(inflow);
            mailbox.open_sink(move |answer| inflow.take(answer))
        });
        let (started, acknowledged) = mailbox.open_once_port();
        let (ended, exit) = mailbox.open_once_port();
        let (reports_tx, reports) = mpsc::unbounded_channel();
        let launch = Launch {
            proc_id: proc_id.clone(),
            order: Order::from(opts),
            streams: streams.clone(),
            started: started.bind(),
            ended: ended.bind(),
        };
        let sent = match session.enter(proc_id, &reports_tx) {
            true => session.tell(launch),
            false => Err("it takes nothing any more; launch again".to_owned()),
        };
        if let Err(why) = sent {
            session.left(proc_id);
            locked(&self.launches).asked.remove(&proc_id.launch_id());
            return Err(ProcLauncherError::Other(format!("{name}: {why}")));
        }
        let mut not_taken = KillUnlessTaken(Some((Arc::clone(&session), proc_id.clone())));
        let (exit_tx, exit_rx) = oneshot::channel();
        let told = Exit {
            session: Arc::clone(&session),
            launches: Arc::clone(&self.launches),
            proc_id: proc_id.clone(),
        };
        let arriving = inflows.clone();
        tokio::spawn(async move {
            let result = told.result(exit.recv().await).await;
            arriving.iter().for_each(|inflow| inflow.finish());
            tokio::join!(arriving[0].read_out(), arriving[1].read_out());
            streams.iter().for_each(|port| told.session.node.mailbox().close_port(port));
            drop(told);
            let _given_up = exit_tx.send(result);
        });
        let running = match acknowledged.recv().await {
            Ok(Started(Ok(running))) => running,
            Ok(Started(Err(why))) => {
                not_taken.0 = None;
                return Err(ProcLauncherError::Other(format!("{name}: {why}")));
            }
            Err(error) => {
                let text = format!("{name} has not said that it runs: {error}; it ends there if it does");
                return Err(ProcLauncherError::Other(text));
            }
        };
        not_taken.0 = None;
        let Running { pid, started_at, captured } = running;
        // A launcher of a substrate says itself when it was started, and as what.
        if session.machine.engine().is_none() {
            let handle =
                pid.map_or_else(|| session.place.clone(), |pid| format!("{} pid {pid}", session.place));
            let _nobody_listens = reports_tx.send(Report::Handle(handle));
        }
        let [stdout, stderr] = inflows.map(|inflow| Box::new(Outlet(inflow)));
        let stdio =
            if captured { StdioHandling::Captured { stdout, stderr } } else { StdioHandling::Inherited };
        // Its number may say nothing on this machine.
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx, reports: Some(Reports::new(reports)) })
    }

    /// Ends a proc, and waits so long for the answer.
    pub(crate) async fn end(
        &self,
        proc_id: &ProcId,
        how: How,
        patience: Duration,
    ) -> Result<(), ProcLauncherError> {
        let session = match locked(&self.launches).asked.get_mut(&proc_id.launch_id()) {
            None => return Err(ProcLauncherError::NotFound(proc_id.to_string())),
            Some(Asked::Waits { given_up }) => {
                *given_up = true;
                return Ok(());
            }
            Some(Asked::Ended) => return Ok(()),
            Some(Asked::At(session)) => Arc::clone(session),
        };
        let failed = |why| match how {
            How::Terminate => ProcLauncherError::Terminate(why),
            How::Kill => ProcLauncherError::Kill(why),
        };
        let Ok(answer) = session.ask(proc_id, how) else {
            // All that it had launched ends there, or has.
            let is_over = timeout(SOON, session.over()).await.is_ok();
            return if is_over { Ok(()) } else { Err(failed(session.mute(patience))) };
        };
        let settled = timeout(patience, async { session.settled(answer.recv().await).await }).await;
        match settled {
            Ok(Ok(())) => Ok(()),
            // What it was launched by ends after it, maybe before its answer.
            Ok(Err(Undone::Failed(_))) if locked(&self.launches).has_ended(proc_id.launch_id()) => Ok(()),
            Ok(Err(Undone::NotFound)) => Err(ProcLauncherError::NotFound(proc_id.to_string())),
            Ok(Err(Undone::Failed(why))) => Err(failed(format!("{}: {why}", session.name()))),
            Err(_) => Err(failed(session.mute(patience))),
        }
    }
}

/// The end of one launch, when it comes.
struct Exit {
    session: Arc<Session>,
    launches: Arc<Mutex<Launches>>,
    proc_id: ProcId,
}

impl Exit {
    /// Where a desk is lost nobody knows what became of what was launched there, but that it does not live on.
    async fn result(&self, told: Result<Ended, MailboxError>) -> ProcExitResult {
        let why = match told {
            Ok(Ended(result)) => return result,
            Err(MailboxError::Closed(why)) => why,
            Err(error) => error.to_string(),
        };
        let _it_has_not_ended = timeout(SOON, self.session.over()).await;
        let reason = self.session.has_ended().unwrap_or_else(|| {
            format!("host lost: {} has not said how it ended: {why}", self.session.name())
        });
        ProcExitResult::new(ProcExitKind::Lost { reason })
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.session.left(&self.proc_id);
        locked(&self.launches).ended(self.proc_id.launch_id());
    }
}
