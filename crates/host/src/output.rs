use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_launch::Tail;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// One of a proc's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

type OnLine = Arc<dyn Fn(Stream, &str) + Send + Sync>;

/// The last lines of both streams of one proc, fed from wherever the output comes.
pub(crate) struct Output {
    tails: [Mutex<Tail>; 2],
    on_line: OnLine,
}

impl Output {
    pub(crate) fn new(keep: usize, on_line: OnLine) -> Self {
        Self { tails: [Mutex::new(Tail::new(keep)), Mutex::new(Tail::new(keep))], on_line }
    }

    fn tail(&self, stream: Stream) -> std::sync::MutexGuard<'_, Tail> {
        self.tails[stream as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, stream: Stream, bytes: &[u8]) {
        self.tail(stream).push_with(bytes, |line| (self.on_line)(stream, line));
    }

    /// Shows an unfinished last line of each stream.
    pub(crate) fn finish(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.tail(stream).finish_with(|line| (self.on_line)(stream, line));
        }
    }

    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        self.tail(stream).lines()
    }
}

/// After a proc's end: how long its output may be silent, and how long draining takes at most.
const SILENCE: Duration = Duration::from_millis(5);
const DRAIN: Duration = Duration::from_millis(200);

/// Reads a proc's pipes until they end, or until shortly after the proc did: a grandchild may hold
/// a pipe open for hours.
pub(crate) struct Pump {
    ended: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Pump {
    pub(crate) fn new() -> Self {
        Self { ended: watch::channel(false).0, tasks: Vec::new() }
    }

    pub(crate) fn read(
        &mut self,
        output: &Arc<Output>,
        stream: Stream,
        pipe: Box<dyn AsyncRead + Send + Unpin>,
    ) {
        let ended = self.ended.subscribe();
        self.tasks.push(tokio::spawn(pump(Arc::clone(output), stream, pipe, ended)));
    }

    /// The proc has ended: takes what is still in the pipes.
    pub(crate) async fn drain(&mut self) {
        self.ended.send_replace(true);
        for task in self.tasks.drain(..) {
            let _panicked = task.await;
        }
    }
}

async fn pump(
    output: Arc<Output>,
    stream: Stream,
    mut pipe: Box<dyn AsyncRead + Send + Unpin>,
    mut ended: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            read = pipe.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => output.push(stream, &buffer[..n]),
            },
            _ = ended.wait_for(|ended| *ended) => break,
        }
    }
    let deadline = Instant::now() + DRAIN;
    while Instant::now() < deadline {
        match timeout(SILENCE, pipe.read(&mut buffer)).await {
            Ok(Ok(n)) if n > 0 => output.push(stream, &buffer[..n]),
            _ => return,
        }
    }
}
