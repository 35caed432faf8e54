use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_launch::{Lines, Tail};

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

/// The output of one proc, fed from wherever it comes: its last lines, and every line for observers.
pub(crate) struct Output {
    streams: [Mutex<Both>; 2],
    observers: Arc<Observers>,
}

struct Both {
    tail: Tail,
    /// For the observers.
    lines: Lines,
}

impl Output {
    pub(crate) fn new(keep: usize, observers: Arc<Observers>) -> Self {
        let both = || Mutex::new(Both { tail: Tail::new(keep), lines: Lines::default() });
        Self { streams: [both(), both()], observers }
    }

    fn both(&self, stream: Stream) -> MutexGuard<'_, Both> {
        self.streams[stream as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, stream: Stream, bytes: &[u8]) {
        let heard = self.observers.any();
        let mut events = Vec::new();
        {
            let mut both = self.both(stream);
            both.tail.push(bytes);
            if heard {
                both.lines.push(bytes, |line, ends| events.push(event(stream, line, ends)));
            }
        }
        // Without the lock: an observer may ask for the tail.
        events.into_iter().for_each(|event| self.observers.tell(event));
    }

    /// Shows an unfinished last line of each stream.
    pub(crate) fn finish(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut last = None;
            self.both(stream).lines.finish(|line, ends| last = Some(event(stream, line, ends)));
            last.into_iter().for_each(|event| self.observers.tell(event));
        }
    }

    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        self.both(stream).tail.lines()
    }
}

fn event(stream: Stream, line: &str, ends: bool) -> ProcEvent {
    ProcEvent::Output { stream, line: line.to_owned(), ends }
}
