use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_launch::Tail;

use crate::observers::{Observers, ProcEvent};

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

/// The last lines of both streams of one proc, fed from wherever the output comes.
pub(crate) struct Output {
    tails: [Mutex<Tail>; 2],
    observers: Arc<Observers>,
}

impl Output {
    pub(crate) fn new(keep: usize, observers: Arc<Observers>) -> Self {
        Self { tails: [Mutex::new(Tail::new(keep)), Mutex::new(Tail::new(keep))], observers }
    }

    fn tail(&self, stream: Stream) -> MutexGuard<'_, Tail> {
        self.tails[stream as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, stream: Stream, bytes: &[u8]) {
        self.take(stream, |tail, on_line| tail.push_with(bytes, on_line));
    }

    /// Shows an unfinished last line of each stream.
    pub(crate) fn finish(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.take(stream, |tail, on_line| tail.finish_with(on_line));
        }
    }

    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        self.tail(stream).lines()
    }

    fn take(&self, stream: Stream, feed: impl FnOnce(&mut Tail, &mut dyn FnMut(&str))) {
        let heard = self.observers.any();
        let mut lines = Vec::new();
        feed(&mut self.tail(stream), &mut |line| {
            if heard {
                lines.push(line.to_owned());
            }
        });
        // Without the lock: an observer may ask for the tail.
        for line in lines {
            self.observers.tell(ProcEvent::Output { stream, line });
        }
    }
}
