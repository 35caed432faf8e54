use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use procession_actor::Proc;
use procession_model::{BOOTSTRAP_ENV, BootPhase, Head, OwnBoot, Packet, ProcId, cut_reason};
use procession_net::{Address, Dial, DialCause, DialError, Link, dial};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::core::Core;
use crate::flight::Recorder;
use crate::line::{HOST_GONE, Line};
use crate::owner::{Leaving, end_with_owner, owner_gone};
use crate::payload::Payload;
use crate::payload_file::resolve;
use crate::peers::Peers;
use crate::worker::{Counter, Line as Worker};

/// How long a host is dialled that is there and does not answer: it may be stopped, or starved.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it is dialled when that fails in another way that can pass, since that began.
const TROUBLE: Duration = Duration::from_secs(2);
/// How long is waited before the second dial, and at most before a later one.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// How long the next host of its directory may refuse a proc that outlived one, or that directory be gone: then it
/// belongs to nobody.
const DISOWNED: Duration = Duration::from_secs(30);

/// Why a proc could not reach back.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The bootstrap payload is not one.
    #[error("PROCESSION_BOOTSTRAP cannot be read: {0}")]
    Payload(String),
    /// The bootstrap payload cannot be taken out of the environment.
    #[error(transparent)]
    Environment(io::Error),
    /// Nobody answered, or nobody admitted it.
    #[error("the host could not be reached: {0}")]
    Dial(#[from] DialError),
}

/// Takes what a launched proc has to know out of this process's environment; none when no host
/// launched it.
///
/// Has to be called while there is no other thread: at the start of `main`.
///
/// # Errors
/// A host launched it, and there are other threads.
pub fn take_bootstrap() -> Result<Option<String>, ChildError> {
    let payload = procession_sys::take_variable(BOOTSTRAP_ENV).map_err(ChildError::Environment)?;
    Ok(payload.map(|payload| payload.to_string_lossy().into_owned()))
}

/// The launched side: this process's node, connected to its host.
///
/// When the host is gone this process ends, its descendants first; only what blocks the runtime that
/// it was made on can delay that. One that outlives its host lives on instead: what waits for answers from other
/// procs errs, and the next host of the same directory is dialled until it is there.
pub struct Child {
    proc_: Proc,
    rank: usize,
    sys_path: Vec<String>,
    cwd: Option<PathBuf>,
    line: Arc<Line>,
    told: Told,
    leaving: Leaving,
    recorder: Option<Arc<Recorder>>,
    own_boot: OwnBoot,
    linked: Instant,
    counter: OnceLock<Counter>,
}

/// What the host has said so far.
#[derive(Clone)]
struct Told {
    peers: Arc<Peers>,
    host: watch::Sender<ProcId>,
    setup: watch::Sender<Option<Bytes>>,
    stop: watch::Sender<Option<String>>,
    /// Takes what is for actors and ports, where that is not the node alone: this process is a host.
    host_here: Arc<OnceLock<Weak<Core>>>,
}

impl Child {
    /// Reaches back to the host that `payload` names; actors run on this runtime too.
    ///
    /// # Errors
    /// The payload cannot be read, or the host admits nobody with it.
    pub async fn dial_back(payload: &str) -> Result<Self, ChildError> {
        Self::reach_back(payload, Handle::current(), Duration::ZERO).await
    }

    /// Like [`Self::dial_back`], of a process that has spent `imports` on loading this runtime.
    ///
    /// # Errors
    /// The payload cannot be read, or the host admits nobody with it.
    pub async fn dial_back_after(payload: &str, imports: Duration) -> Result<Self, ChildError> {
        Self::reach_back(payload, Handle::current(), imports).await
    }

    /// Reaches back to the host that `payload` names; actors run on the runtime `actors`, and so
    /// cannot keep this one from seeing that the host is gone.
    ///
    /// # Errors
    /// The payload cannot be read, or the host admits nobody with it.
    pub async fn dial_back_for(payload: &str, actors: Handle) -> Result<Self, ChildError> {
        Self::reach_back(payload, actors, Duration::ZERO).await
    }

    async fn reach_back(payload: &str, actors: Handle, imports: Duration) -> Result<Self, ChildError> {
        let start = Instant::now();
        let payload =
            resolve(payload).and_then(|text| Payload::decode(&text)).map_err(ChildError::Payload)?;
        // Where the host's files are not in sight there is none, and the host says so at the end.
        let recorder = payload.flight.as_deref().and_then(|path| Recorder::open(path).ok()).map(Arc::new);
        let phase = |phase| recorder.iter().for_each(|recorder| recorder.phase(Some(phase)));
        phase(BootPhase::Dial);
        let link = reach(&payload.dial).await?;
        phase(BootPhase::SetUp);
        let linked = Instant::now();
        let own_boot = OwnBoot { imports, dial: linked - start, set_up: Duration::ZERO };
        let proc_ = Proc::new(payload.proc_id, actors);
        let line = Arc::new(Line::new(link.sender.clone(), payload.outlives));
        let directory = meeting_place(&payload.dial).filter(|_| !payload.outlives);
        let peers = Peers::new(&proc_, payload.host.clone(), Arc::clone(&line), directory);
        let router: Arc<Peers> = Arc::clone(&peers);
        proc_.set_router(router);
        let (to_host, noting) = (Arc::clone(&line), recorder.clone());
        proc_.on_actor_end(move |actor, failure| {
            if let (Some(recorder), Some(failure)) = (&noting, failure) {
                recorder.say(&format!("actor {} failed: {failure}", actor.name));
            }
            to_host.actor_ended(actor, failure);
        });
        if let Some(recorder) = &recorder {
            let recorder: Arc<Recorder> = Arc::clone(recorder);
            proc_.set_recorder(recorder);
        }
        let told = Told {
            peers: Arc::clone(&peers),
            host: watch::Sender::new(payload.host),
            setup: watch::Sender::default(),
            stop: watch::Sender::default(),
            host_here: Arc::default(),
        };
        let leaving = Leaving::default();
        let again = payload.outlives.then_some(payload.dial);
        tokio::spawn(attend(proc_.clone(), Arc::clone(&line), link, again, told.clone(), leaving.clone()));
        Ok(Self {
            proc_,
            rank: payload.rank,
            sys_path: payload.sys_path,
            cwd: payload.cwd,
            line,
            told,
            leaving,
            recorder,
            own_boot,
            linked,
            counter: OnceLock::new(),
        })
    }

    /// This process's node.
    pub fn proc_(&self) -> &Proc {
        &self.proc_
    }

    /// The node of the host; of the last one, while there is none.
    pub fn host(&self) -> ProcId {
        self.told.host.borrow().clone()
    }

    /// Its place in its mesh.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The client's module search path; empty when it is on another machine.
    pub fn sys_path(&self) -> &[String] {
        &self.sys_path
    }

    /// The directory to work in: the one asked for, else the client's when it is on the same machine.
    pub fn cwd(&self) -> Option<&Path> {
        self.cwd.as_deref()
    }

    /// Waits for what to run before anything else; empty for nothing. Cancel safe.
    pub async fn setup(&self) -> Bytes {
        told(self.told.setup.subscribe()).await
    }

    /// Tells the host that this proc is set up.
    pub fn ready(&self) {
        let own_boot = OwnBoot { set_up: self.linked.elapsed(), ..self.own_boot };
        if let Some(recorder) = &self.recorder {
            recorder.phase(None);
        }
        self.line.ready(own_boot);
    }

    /// Keeps a line where the host finds it after this process's end, however that comes about.
    pub fn say(&self, text: &str) {
        if let Some(recorder) = &self.recorder {
            recorder.say(text);
        }
    }

    /// The reason, once the host has asked this proc to end.
    pub fn stop_asked(&self) -> Option<String> {
        self.told.stop.borrow().clone()
    }

    /// Waits until the host asks this proc to end; gives the reason. Cancel safe.
    pub async fn stopped(&self) -> String {
        told(self.told.stop.subscribe()).await
    }

    /// Tells the host something about a launch that a launcher in this proc is busy with.
    pub fn report_launch(
        &self,
        proc_id: &ProcId,
        pid: Option<u32>,
        handle: Option<String>,
        progress: Option<String>,
    ) {
        let (handle, progress) = (handle.map(cut_reason), progress.map(cut_reason));
        let head = Head::Report { proc_id: proc_id.clone(), pid, handle, progress };
        let _host_gone = self.line.post(Packet::bare(head));
    }

    /// Tells the host that a launch's substrate cannot be asked; a later [`Self::report_launch`] says that it can be again.
    pub fn report_unreachable(&self, proc_id: &ProcId, why: String) {
        let head = Head::Unreachable { proc_id: proc_id.clone(), why: cut_reason(why) };
        let _host_gone = self.line.post(Packet::bare(head));
    }

    /// Tells the host that a launcher in this proc reported the exit of a launch once more, and was refused.
    pub fn reported_again(&self, proc_id: &ProcId) {
        let _host_gone = self.line.post(Packet::bare(Head::ReportedAgain { proc_id: proc_id.clone() }));
    }

    /// From now on this process is the host `core` too, which leads on what is for its procs.
    pub(crate) fn serves(&self, core: &Arc<Core>) {
        self.told.peers.is_host_now();
        let _first = self.told.host_here.set(Arc::downgrade(core));
        core.hub.belongs_to(Arc::clone(&self.line));
    }

    /// Launches for the host from now on, as the process that its [`Zygote`](crate::Zygote) has started. `interpreter` is what
    /// runs Python here. To be called before [`Self::ready`].
    ///
    /// # Errors
    /// The keeper of what is launched could not be started.
    pub async fn serve_launches(&self, interpreter: Option<String>) -> Result<(), String> {
        let counter = Counter::open(&Worker::of(&self.proc_, self.line.link()), interpreter, None).await;
        let opened = counter.launcher.as_ref().map(drop).map_err(Clone::clone);
        let _first = self.counter.set(counter);
        opened
    }

    /// Writes out what was posted and closes the connection; this process ends by itself now. What it has launched for
    /// its host ends first.
    pub async fn goodbye(&self) {
        if let Some(counter) = self.counter.get() {
            counter.kill_all().await;
            counter.all_told().await;
        }
        self.leaving.begin();
        self.told.peers.goodbye().await;
        let link = self.line.link();
        link.close();
        let _host_gone = link.flushed().await;
    }
}

/// Where procs of the same host find each other's sockets: beside that of the host, where they have reached it.
fn meeting_place(dial: &Dial) -> Option<PathBuf> {
    let path = dial.addresses.iter().find_map(|address| match address {
        Address::Unix(path) => path.parent(),
        _ => None,
    });
    path.map(Path::to_owned)
}

/// Whether it tells this process of the end of another one.
fn is_of_a_peer(head: &Head, own: &Proc) -> bool {
    matches!(head, Head::ProcGone { to, .. } if to == own.id())
}

/// Waits for what the host says once. When the host is gone this never resolves: the process is about to end.
async fn told<T: Clone>(mut receiver: watch::Receiver<Option<T>>) -> T {
    loop {
        if let Some(told) = receiver.borrow_and_update().clone() {
            return told;
        }
        if receiver.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Dials; again when what failed may pass: a host that does not answer may be stopped or starved and
/// not gone, and one that hangs up may have been cut short of places for those who call.
async fn reach(to: &Dial) -> Result<Link, DialError> {
    let (start, mut trouble, mut pause) = (Instant::now(), None, PAUSE);
    loop {
        let error = match dial(to).await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        let given_up = if error.attempts.iter().any(|attempt| is_silence(&attempt.cause)) {
            trouble = None;
            start.elapsed() >= SILENCE
        } else {
            trouble.get_or_insert_with(Instant::now).elapsed() >= TROUBLE
        };
        if given_up || !error.is_temporary() {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether somebody is there, and has no time.
fn is_silence(cause: &DialCause) -> bool {
    match cause {
        DialCause::HandshakeDeadline => true,
        // The backlog of its socket is full.
        DialCause::Connect(error) => error.kind() == ErrorKind::WouldBlock,
        _ => false,
    }
}

/// Takes what the hosts send, one after the other, until this process leaves; without a way to dial again, `again`, the
/// end of the first one is its own.
async fn attend(
    proc_: Proc,
    line: Arc<Line>,
    mut link: Link,
    again: Option<Dial>,
    told: Told,
    leaving: Leaving,
) {
    loop {
        listen(&proc_, link, &told).await;
        if leaving.has_begun() {
            return proc_.close_ports("this proc has ended");
        }
        let Some(again) = &again else { end_with_owner(proc_.id().launch_id()) };
        proc_.others_gone(HOST_GONE);
        tracing::info!("the host is gone; the next one of its directory is dialled until it is there");
        link = match rejoin(again, DISOWNED).await {
            Ok(link) => link,
            Err(error) => {
                tracing::error!(%error, "no host takes this proc in any more; it ends");
                end_with_owner(proc_.id().launch_id());
            }
        };
        line.renew(link.sender.clone());
    }
}

/// Until the host is gone. One that has forked may be gone without its end of the connection being closed.
async fn listen(proc_: &Proc, mut link: Link, told: &Told) {
    let host = link.peer.pid.filter(|&pid| pid != 0);
    let gone = async {
        match host {
            Some(pid) => owner_gone(pid).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(gone);
    loop {
        let packet = tokio::select! {
            biased;
            packet = link.receiver.recv() => packet,
            () = &mut gone => return,
        };
        match packet {
            Some(Ok(Packet { head: Head::Host { proc_id }, .. })) => drop(told.host.send_replace(proc_id)),
            Some(Ok(Packet { head: Head::Welcome, parts })) => {
                told.setup.send_replace(Some(parts.into_iter().next().unwrap_or_default()));
            }
            Some(Ok(Packet { head: Head::Stop { reason }, .. })) => {
                // In this order: an actor that is made meanwhile is either stopped, or its maker sees the stop.
                told.stop.send_replace(Some(reason.clone()));
                // A host is asked by others until its procs have ended.
                if told.host_here.get().is_none() {
                    proc_.stop_actors(&reason);
                }
            }
            Some(Ok(Packet { head: Head::Peer { from, news, .. }, .. })) => told.peers.hear(&from, news),
            Some(Ok(packet)) if is_of_a_peer(&packet.head, proc_) => told.peers.gone(packet),
            Some(Ok(packet)) => match told.host_here.get().and_then(Weak::upgrade) {
                Some(core) => core.take(packet, None),
                None => proc_.receive(packet),
            },
            Some(Err(_)) | None => return,
        }
    }
}

/// Dials the next host for as long as there is none; errs when one that is there refuses for longer than `patience`, or
/// none can come for so long.
async fn rejoin(to: &Dial, patience: Duration) -> Result<Link, DialError> {
    let (mut disowned, mut pause) = (None, PAUSE);
    loop {
        let error = match dial(to).await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        if error.attempts.iter().any(|attempt| is_refusal(&attempt.cause)) || is_removed(to) {
            if disowned.get_or_insert_with(Instant::now).elapsed() >= patience {
                return Err(error);
            }
        } else {
            disowned = None;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether somebody is there, and does not want this proc.
fn is_refusal(cause: &DialCause) -> bool {
    matches!(cause, DialCause::Refused | DialCause::User { .. } | DialCause::Handshake(_))
}

/// Whether the directory in which the next host would listen is gone.
fn is_removed(to: &Dial) -> bool {
    to.addresses.iter().all(|address| match address {
        Address::Unix(path) => path
            .parent()
            .is_some_and(|directory| directory.metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound)),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
