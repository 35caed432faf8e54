use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use procession_launch::Lines;
use procession_model::ProcId;
use procession_sys::{LogFile, Rotation, Taken};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::lent::Lent;
use crate::observers::{Observers, ProcEvent};
use crate::output::Stream;
use crate::spec::LogSpec;

/// Files that are written to at one moment; the rest wait. It bounds the threads that a file system
/// which does not answer can hold.
static WRITES: Semaphore = Semaphore::const_new(32);
/// What a launcher may have fed that is not written yet, in bytes; beyond it is counted as dropped.
const QUEUE_LIMIT: usize = 16 << 20;
/// How long the end of a proc waits for a file system that does not answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How far back files are read for lines, in bytes.
const READ_BACK: u64 = 16 << 20;

/// As much of either end of what an earlier host has seen is read.
const RECALLED: u64 = 1 << 20;

/// What is known of a stream from before this host.
pub(crate) struct Past {
    /// Its first bytes; none when they are not kept.
    pub(crate) first: Option<Vec<u8>>,
    /// Its last bytes, and whether they begin with a line.
    pub(crate) last: Vec<u8>,
    pub(crate) begins_line: bool,
    /// The position that they lead to.
    pub(crate) to: u64,
}

/// The two files of one launch. All that blocks runs on the runtime's threads for that.
pub(crate) struct LogFiles {
    streams: [Arc<File>; 2],
    observers: Arc<Observers>,
    queue: mpsc::UnboundedSender<Queued>,
    /// Until somebody writes what is queued.
    unread: Mutex<Option<mpsc::UnboundedReceiver<Queued>>>,
    queued: AtomicUsize,
}

struct File {
    path: PathBuf,
    log: Mutex<LogFile>,
    /// What the queue had no room for.
    overflow: AtomicUsize,
    told: AtomicBool,
}

enum Queued {
    Bytes { stream: Stream, bytes: Bytes, receipts: Box<dyn Send> },
    Flush(oneshot::Sender<()>),
}

impl File {
    fn log(&self) -> MutexGuard<'_, LogFile> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogFiles {
    /// The files `<directory>/<name>.<incarnation>.out` and `.err`; nothing is touched yet.
    pub(crate) fn new(spec: &LogSpec, id: &ProcId, incarnation: u32, observers: Arc<Observers>) -> Arc<Self> {
        let rotation = Rotation { max_bytes: spec.max_bytes, keep: spec.keep };
        let file = |ending| {
            let path = spec.directory.join(format!("{}.{incarnation}.{ending}", id.name()));
            let log = Mutex::new(LogFile::new(path.clone(), rotation));
            Arc::new(File { path, log, overflow: AtomicUsize::new(0), told: AtomicBool::new(false) })
        };
        let (queue, inputs) = mpsc::unbounded_channel();
        let unread = Mutex::new(Some(inputs));
        Arc::new(Self {
            streams: [file("out"), file("err")],
            observers,
            queue,
            unread,
            queued: AtomicUsize::new(0),
        })
    }

    pub(crate) fn path(&self, stream: Stream) -> &Path {
        &self.streams[stream as usize].path
    }

    fn unread(&self) -> Option<mpsc::UnboundedReceiver<Queued>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Makes both, so that they are there when the proc runs.
    pub(crate) async fn start(self: &Arc<Self>) {
        if let Some(inputs) = self.unread() {
            tokio::spawn(write_queued(Arc::downgrade(self), inputs));
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let made = self.blocking(stream, |log| log.make().err());
            if let Ok(Some(Some(error))) = timeout(PATIENCE, made).await {
                self.tell(stream, &error);
            }
        }
    }

    /// Moves what waits in the pipe into the file; gives it in `buffer` too, as far as it was read.
    pub(crate) async fn take(
        &self,
        stream: Stream,
        pipe: Arc<Receiver>,
        mut buffer: Lent,
    ) -> Option<(io::Result<Taken>, Lent)> {
        let work = move |log: &mut LogFile| {
            // Inside of `try_io`, so that no notice is missed that comes meanwhile.
            let taken = pipe.try_io(|| log.take(pipe.as_fd(), &mut buffer));
            (taken, buffer)
        };
        let (taken, buffer) = self.blocking(stream, work).await?;
        if let Ok(Taken { failure: Some(error), .. }) = &taken {
            self.tell(stream, error);
        }
        Some((taken, buffer))
    }

    /// Takes what a launcher has fed; `receipts` are dropped once it is written. Never blocks.
    pub(crate) fn append(&self, stream: Stream, bytes: Bytes, receipts: Box<dyn Send>) {
        let size = bytes.len();
        if self.queued.fetch_add(size, Ordering::Relaxed) + size > QUEUE_LIMIT {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            self.streams[stream as usize].overflow.fetch_add(size, Ordering::Relaxed);
            self.tell(stream, &io::Error::other("it is slower than what is written to it"));
        } else {
            let _host_ends = self.queue.send(Queued::Bytes { stream, bytes, receipts });
        }
    }

    /// Waits until all that came is written, as long as the file system answers, and closes the files.
    /// How many bytes are not in them.
    pub(crate) async fn finish(&self) -> u64 {
        drop(self.unread());
        let (flushed, done) = oneshot::channel();
        let _host_ends = self.queue.send(Queued::Flush(flushed));
        let _too_slow = timeout(PATIENCE, done).await;
        let queued = self.queued.load(Ordering::Relaxed) as u64;
        // Whoever holds a file now waits for its file system, and this must not.
        let dropped = self.streams.iter().map(|file| {
            let log = file.log.try_lock().map(|mut log| {
                log.close();
                log.counts().1
            });
            log.unwrap_or(0) + file.overflow.load(Ordering::Relaxed) as u64
        });
        dropped.sum::<u64>() + queued
    }

    /// The last `count` lines before position `to` of a stream; none when the files do not have them.
    /// Blocks as the file system does.
    pub(crate) fn lines_before(&self, stream: Stream, to: u64, count: usize) -> Option<Vec<String>> {
        let read = self.streams[stream as usize].log().read_back(to, READ_BACK);
        let (begin, bytes) =
            read.inspect_err(|error| tracing::warn!(%error, "output was not read back")).ok()??;
        let cut =
            if begin == 0 { 0 } else { bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1) };
        let mut kept = VecDeque::new();
        let mut keep = |line: &[u8], _| {
            kept.push_back(String::from_utf8_lossy(line).into_owned());
            if kept.len() > count {
                kept.pop_front();
            }
        };
        let mut lines = Lines::default();
        lines.push(&bytes[cut..], &mut keep);
        lines.finish(keep);
        Some(kept.into())
    }

    /// Goes on with files that an earlier host has begun; gives what is known of the stream so far, if they tell.
    pub(crate) async fn resume(&self, stream: Stream) -> Option<Past> {
        let work = |log: &mut LogFile| -> io::Result<Option<Past>> {
            let is_whole = log.resume()?;
            let (to, _) = log.counts();
            let Some((from, last)) = log.read_back(to, RECALLED)? else { return Ok(None) };
            let first = match is_whole {
                true => log.read_back(to.min(RECALLED), RECALLED)?.map(|(_, first)| first),
                false => None,
            };
            Ok(Some(Past { first, last, begins_line: is_whole && from == 0, to }))
        };
        let past = timeout(PATIENCE, self.blocking(stream, work)).await.ok()??;
        past.inspect_err(|error| tracing::warn!(%error, "earlier output was not read back")).ok()?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        stream: Stream,
        work: impl FnOnce(&mut LogFile) -> T + Send + 'static,
    ) -> Option<T> {
        let place = WRITES.acquire().await.ok()?;
        let file = Arc::clone(&self.streams[stream as usize]);
        let done = spawn_blocking(move || {
            // Held by the thread that may hang, whoever waits for it.
            let _place = place;
            work(&mut file.log())
        });
        done.await.ok()
    }

    /// Says it once for each stream.
    fn tell(&self, stream: Stream, error: &io::Error) {
        let file = &self.streams[stream as usize];
        if !file.told.swap(true, Ordering::Relaxed) {
            let path = file.path.display();
            let text = format!(
                "{} cannot be written to {path}: {error}; what it does not take is counted in the exit, and tried again with \
                 all that comes",
                stream.as_str()
            );
            tracing::warn!("{text}");
            self.observers.tell(ProcEvent::Note(text));
        }
    }
}

async fn write_queued(files: std::sync::Weak<LogFiles>, mut inputs: mpsc::UnboundedReceiver<Queued>) {
    while let Some(input) = inputs.recv().await {
        let Some(files) = files.upgrade() else { return };
        match input {
            Queued::Bytes { stream, bytes, receipts } => {
                let size = bytes.len();
                let failure = files.blocking(stream, move |log| log.append(&bytes)).await.flatten();
                files.queued.fetch_sub(size, Ordering::Relaxed);
                if let Some(error) = failure {
                    files.tell(stream, &error);
                }
                drop(receipts);
            }
            Queued::Flush(done) => drop(done.send(())),
        }
    }
}
