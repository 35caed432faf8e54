use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procession_model::{Head, Packet};
use procession_net::{Link, LinkSender};
use procession_sys::Taken;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};

use crate::core::Core;
use crate::gate::Gate;
use crate::input::Input;
use crate::lent::{BUFFER, Lent};
use crate::log_files::PATIENCE;
use crate::output::Stream;
use crate::proc_ref::Shared;

/// After a proc's end: how long its pipes may be silent, how long its connection may, and how long
/// reading what is left takes at most.
const PIPE_SILENCE: Duration = Duration::from_millis(5);
const LINK_SILENCE: Duration = Duration::from_millis(20);
const DRAIN: Duration = Duration::from_millis(200);
/// What is read at once of a pipe that was made to hold that much, in bytes.
const WIDE: usize = 512 << 10;
/// How many such pipes there may be.
static WIDE_PIPES: Semaphore = Semaphore::const_new(16);

/// Reads what comes from a proc, its pipes and its connection, until they end, or until shortly
/// after the proc did: a grandchild may hold them open for hours.
pub(crate) struct Drain {
    ended: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { ended: watch::channel(false).0, tasks: Vec::new() }
    }

    /// Reads a stream, into the files of the proc where it has some.
    pub(crate) fn read_stream(
        &mut self,
        shared: &Arc<Shared>,
        stream: Stream,
        mut pipe: Box<dyn AsyncRead + Send + Unpin>,
        gate: Gate,
    ) {
        let (shared, mut ended) = (Arc::clone(shared), self.ended.subscribe());
        self.tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; BUFFER];
            let mut deadline = None;
            while let Some(Ok(n @ 1..)) =
                next(pipe.read(&mut buffer), &mut ended, &mut deadline, PIPE_SILENCE).await
            {
                shared.output.push(stream, &buffer[..n]);
                if let Some(files) = &shared.files {
                    files.append(stream, Bytes::copy_from_slice(&buffer[..n]), Box::new(()));
                }
                opened(&gate, &mut ended).await;
                // A pipe that is never empty must not keep everything else waiting.
                yield_now().await;
            }
        }));
    }

    /// Reads a pipe, by way of the files of the proc where it has some.
    pub(crate) fn read_pipe(&mut self, shared: &Arc<Shared>, stream: Stream, pipe: Receiver, gate: Gate) {
        let (output, files) = (Arc::clone(&shared.output), shared.files.clone());
        let mut ended = self.ended.subscribe();
        self.tasks.push(tokio::spawn(async move {
            let (pipe, mut deadline) = (Arc::new(pipe), None);
            let (mut wide, mut kept) = (Wide::default(), None);
            while let Some(Ok(())) = next(pipe.readable(), &mut ended, &mut deadline, PIPE_SILENCE).await {
                let mut buffer = kept.take().unwrap_or_else(|| Lent::of(BUFFER));
                let taken = match &files {
                    Some(files) => {
                        let take = files.take(stream, Arc::clone(&pipe), buffer);
                        let Some(Some((taken, back))) = patiently(take, &mut ended).await else { break };
                        buffer = back;
                        taken
                    }
                    None => {
                        let read = pipe.try_read(&mut buffer);
                        read.map(|bytes| Taken { bytes, shown: bytes, failure: None })
                    }
                };
                match taken {
                    Ok(Taken { bytes: 0, .. }) => break,
                    Ok(Taken { bytes, shown, .. }) => {
                        output.push(stream, &buffer[..shown]);
                        kept = wide.suit(&pipe, buffer, bytes);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        kept = wide.suit(&pipe, buffer, 0);
                        continue;
                    }
                    Err(_) => break,
                }
                opened(&gate, &mut ended).await;
                // A pipe that is never empty must not keep everything else waiting.
                yield_now().await;
            }
        }));
    }

    /// Everything from the proc's connection goes where it belongs; its driver is told of the end.
    pub(crate) fn read_link(&mut self, core: &Arc<Core>, shared: &Arc<Shared>, link: Link) {
        let Link { sender, receiver: mut link, .. } = link;
        let (core, shared, mut ended) = (Arc::clone(core), Arc::clone(shared), self.ended.subscribe());
        self.tasks.push(tokio::spawn(async move {
            let mut deadline = None;
            let how = loop {
                match next(link.recv(), &mut ended, &mut deadline, LINK_SILENCE).await {
                    None => break "it was silent after the end of the process".to_owned(),
                    Some(None) => break "closed by the proc's end of it".to_owned(),
                    Some(Some(Ok(packet))) => take(&core, &shared, &sender, packet),
                    Some(Some(Err(error))) => {
                        tracing::warn!(proc_id = %shared.id, %error, "the connection was closed");
                        break error.to_string();
                    }
                }
            };
            let _driver_gone = shared.driver.send(Input::LinkLost(how));
        }));
    }

    /// The proc has ended: takes what it has left behind. Nothing more is read after this.
    pub(crate) async fn finish(&mut self) {
        self.ended.send_replace(true);
        for task in self.tasks.drain(..) {
            let _panicked = task.await;
        }
    }
}

/// A pipe that is full when it is read is made to hold more, so that its writer waits less. Only so many at a time
/// are, since the kernel counts what all pipes of a user may hold, and gives small ones beyond that.
#[derive(Default)]
struct Wide {
    place: Option<SemaphorePermit<'static>>,
    /// There is no second try.
    tried: bool,
}

impl Wide {
    /// What the next read uses too, after one of `taken` bytes into `buffer`; none: whatever is lent then.
    fn suit(&mut self, pipe: &Receiver, buffer: Lent, taken: usize) -> Option<Lent> {
        if self.place.is_some() {
            return Some(buffer);
        }
        if self.tried || taken < BUFFER / 2 {
            return None;
        }
        let place = WIDE_PIPES.try_acquire().ok()?;
        self.tried = true;
        procession_sys::enlarge_pipe(pipe.as_fd(), WIDE).ok()?;
        self.place = Some(place);
        Some(Lent::of(WIDE))
    }
}

/// What `work` on a file gives; none when the proc has ended and the file system does not answer.
async fn patiently<T>(work: impl Future<Output = T>, ended: &mut watch::Receiver<bool>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = async {
            drop(ended.wait_for(|ended| *ended).await);
            sleep(PATIENCE).await;
        } => None,
    }
}

/// Waits for the gate, as long as the proc lives.
async fn opened(gate: &Gate, ended: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = gate.opened() => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

/// What `read` gives; none once the proc has ended and then been silent, or has left more than can be
/// read in time.
async fn next<T>(
    read: impl Future<Output = T>,
    ended: &mut watch::Receiver<bool>,
    deadline: &mut Option<Instant>,
    silence: Duration,
) -> Option<T> {
    tokio::pin!(read);
    if deadline.is_none() {
        tokio::select! {
            // Whoever holds the other end may never stop to write.
            biased;
            _ = ended.wait_for(|ended| *ended) => *deadline = Some(Instant::now() + DRAIN),
            read = &mut read => return Some(read),
        }
    }
    let left =
        deadline.and_then(|at| at.checked_duration_since(Instant::now())).filter(|left| !left.is_zero())?;
    timeout(silence.min(left), read).await.ok()
}

fn take(core: &Core, shared: &Shared, link: &LinkSender, packet: Packet) {
    match packet.head {
        Head::Leads { host } => core.hub.leads_to(&shared.id, link.clone(), host),
        Head::Ready { pid } => drop(shared.driver.send(Input::CalledBack { pid })),
        Head::Booted(own) => drop(shared.driver.send(Input::Booted(own))),
        Head::ActorEnded { actor, failure } => drop(shared.driver.send(Input::ActorEnded { actor, failure })),
        _ => core.take(packet, Some(&shared.id)),
    }
}
