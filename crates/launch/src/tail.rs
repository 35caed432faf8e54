use std::collections::VecDeque;

use memchr::{memchr, memrchr_iter};

/// The longest line a tail keeps, in bytes; what is beyond is cut and marked.
const LINE_LIMIT: usize = 4096;
/// All lines of a tail together, in bytes.
const TOTAL_LIMIT: usize = 1 << 20;
/// What marks a cut line.
const CUT: &str = " […cut]";

/// The last lines of a byte stream, in bounded memory, whatever the stream holds.
///
/// Lines end at LF; CR before it is dropped; bytes that are not UTF-8 become U+FFFD.
#[derive(Debug)]
pub struct Tail {
    lines: VecDeque<String>,
    keep: usize,
    total: usize,
    open: Vec<u8>,
    open_cut: bool,
}

impl Tail {
    /// A tail of at most `keep` lines; 0 keeps none.
    pub fn new(keep: usize) -> Self {
        Self { lines: VecDeque::new(), keep, total: 0, open: Vec::new(), open_cut: false }
    }

    /// Takes the next bytes of the stream, split anywhere.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.keep == 0 {
            return;
        }
        // Of lines that others push out at once nothing is ever seen.
        if let Some(end) = memrchr_iter(b'\n', bytes).nth(self.keep) {
            self.lines.clear();
            self.total = 0;
            self.begin_line();
            bytes = &bytes[end + 1..];
        }
        while let Some(end) = memchr(b'\n', bytes) {
            self.extend_open(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.close_line();
        }
        self.extend_open(bytes);
    }

    /// As [`Self::push`], of bytes that end no line.
    pub fn push_open(&mut self, bytes: &[u8]) {
        if self.keep > 0 {
            self.extend_open(bytes);
        }
    }

    /// The stream has ended, and with it its last line.
    pub fn finish(&mut self) {
        if !self.open.is_empty() {
            self.close_line();
        }
    }

    /// The lines kept so far, oldest first, an unfinished last line among them.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.lines.iter().cloned().collect();
        if !self.open.is_empty() {
            lines.push(self.text_of_open());
            if lines.len() > self.keep {
                lines.remove(0);
            }
        }
        lines
    }

    /// The lines kept so far that have ended, oldest first.
    pub fn ended_lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    fn extend_open(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT - self.open.len();
        self.open_cut |= bytes.len() > room;
        self.open.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text_of_open(&self) -> String {
        let bytes = self.open.strip_suffix(b"\r").unwrap_or(&self.open);
        let mut line = String::from_utf8_lossy(bytes).into_owned();
        if self.open_cut {
            line.push_str(CUT);
        }
        line
    }

    fn begin_line(&mut self) {
        self.open.clear();
        self.open_cut = false;
    }

    fn close_line(&mut self) {
        let line = self.text_of_open();
        self.begin_line();
        self.total += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.keep || self.total > TOTAL_LIMIT {
            self.total -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_last_lines_however_the_stream_is_split() {
        let text = b"one\r\ntwo\nthr\xffee\nfour";
        for cut in 0..text.len() {
            let mut tail = Tail::new(3);
            tail.push(&text[..cut]);
            tail.push(&text[cut..]);
            assert_eq!(tail.lines(), ["two", "thr\u{fffd}ee", "four"], "cut at {cut}");
        }
    }

    #[test]
    fn many_lines_at_once_leave_what_they_leave_one_by_one() {
        let text: Vec<u8> =
            (0..50).flat_map(|n| "x".repeat(n * 200).into_bytes().into_iter().chain([b'\n'])).collect();
        for keep in [1, 3, 49, 50, 51] {
            for size in [text.len(), 10_001, 300] {
                let (mut at_once, mut one_by_one) = (Tail::new(keep), Tail::new(keep));
                for part in text.chunks(size).chain([&b"open"[..]]) {
                    at_once.push(part);
                    part.iter().for_each(|byte| one_by_one.push(&[*byte]));
                    assert_eq!(at_once.lines(), one_by_one.lines(), "keeping {keep}, in parts of {size}");
                }
                assert_eq!((at_once.total, at_once.open_cut), (one_by_one.total, one_by_one.open_cut));
            }
        }
    }

    #[test]
    fn a_line_without_end_costs_bounded_memory_and_is_marked() {
        let mut tail = Tail::new(2);
        for _ in 0..1000 {
            tail.push(&[b'x'; 65536]);
        }
        assert!(tail.open.capacity() <= 2 * LINE_LIMIT);
        assert!(tail.lines()[0].ends_with(CUT));
    }

    #[test]
    fn a_tail_of_none_keeps_none() {
        let mut tail = Tail::new(0);
        tail.push(b"a\nb");
        assert!(tail.lines().is_empty());
    }

    #[test]
    fn the_whole_tail_is_bounded_too() {
        let mut tail = Tail::new(10_000);
        for _ in 0..10_000 {
            tail.push(&[b'y'; 4000]);
            tail.push(b"\n");
        }
        assert!(tail.total <= TOTAL_LIMIT);
    }
}
