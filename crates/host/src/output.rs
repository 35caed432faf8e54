use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memchr::memrchr;
use procession_launch::{Lines, Tail};

use crate::head::Head;
use crate::log_files::Past;
use crate::observers::{Observers, Owner, ProcEvent, SlotObserver};

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
    head: Head,
    tail: Tail,
    /// For the observers.
    lines: Lines,
    /// How many bytes came, and where the last line among them ended.
    seen: u64,
    line_end: u64,
}

impl Output {
    pub(crate) fn new(keep: usize, observers: Arc<Observers>) -> Self {
        let both = || {
            Mutex::new(Both {
                head: Head::new(keep),
                tail: Tail::new(keep),
                lines: Lines::default(),
                seen: 0,
                line_end: 0,
            })
        };
        Self { streams: [both(), both()], observers }
    }

    fn both(&self, stream: Stream) -> MutexGuard<'_, Both> {
        self.streams[stream as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, stream: Stream, bytes: &[u8]) {
        {
            let mut both = self.both(stream);
            let heard = self.observers.any();
            let mut events = Vec::new();
            let hear = |line: &[u8], ends| {
                if heard {
                    events.push(event(stream, line, ends));
                }
            };
            // Where a program writes all it can, this is what it waits for: each part looks only at what it needs.
            match memrchr(b'\n', bytes) {
                None => {
                    both.head.push_open(bytes);
                    both.tail.push_open(bytes);
                    both.lines.push_open(bytes, hear);
                }
                Some(last) => {
                    both.line_end = both.seen + last as u64 + 1;
                    both.head.push(bytes);
                    both.tail.push(bytes);
                    if heard {
                        both.lines.push(bytes, hear);
                    } else {
                        both.lines.restart(&bytes[last + 1..]);
                    }
                }
            }
            both.seen += bytes.len() as u64;
            // Under the lock, so that whoever comes has a line either in the tail or as an event.
            self.observers.put(events);
        }
        self.observers.tell_all();
    }

    /// Takes what came before this host, which no observer is told of.
    pub(crate) fn recall(&self, stream: Stream, past: Past) {
        let mut both = self.both(stream);
        let begin = |byte: &[u8]| byte.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let cut = if past.begins_line { 0 } else { begin(&past.last) };
        let last = &past.last[cut..];
        match &past.first {
            Some(first) => both.head.push(first),
            None => both.head = Head::new(0),
        }
        both.tail.push(last);
        both.lines.push(last, |_, _| {});
        both.seen = past.to;
        let unfinished = last.iter().rev().position(|&byte| byte == b'\n').unwrap_or(last.len());
        both.line_end = past.to - unfinished as u64;
    }

    /// Shows an unfinished last line of each stream.
    pub(crate) fn finish(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            {
                let mut both = self.both(stream);
                let mut last = None;
                both.tail.finish();
                both.lines.finish(|line, ends| last = Some(event(stream, line, ends)));
                self.observers.put(last);
            }
            self.observers.tell_all();
        }
    }

    /// The first lines of it.
    pub(crate) fn head(&self, stream: Stream) -> Vec<String> {
        self.both(stream).head.lines()
    }

    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        self.both(stream).tail.lines()
    }

    /// The lines that are kept, and the position in the stream that they lead to.
    pub(crate) fn lines_to(&self, stream: Stream) -> (Vec<String>, u64) {
        let both = self.both(stream);
        (both.tail.lines(), both.seen)
    }

    /// The lines of both streams that have ended so far, of those that are kept, and the position that they
    /// lead to; `observer` is told of all that follows.
    pub(crate) fn follow(&self, observer: SlotObserver, owner: Option<Owner>) -> [(Vec<String>, u64); 2] {
        let (stdout, stderr) = (self.both(Stream::Stdout), self.both(Stream::Stderr));
        let past = [&stdout, &stderr].map(|both| (both.tail.ended_lines(), both.line_end));
        let has_ended = self.observers.audience.add(observer, owner);
        drop((stdout, stderr));
        if has_ended {
            self.observers.tell_all();
        }
        past
    }
}

fn event(stream: Stream, line: &[u8], ends: bool) -> ProcEvent {
    ProcEvent::Output { stream, line: String::from_utf8_lossy(line).into_owned(), ends }
}
