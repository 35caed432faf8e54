use memchr::memchr;
use procession_launch::Tail;

/// How many lines at the beginning of a stream are kept.
const LINES: usize = 10;

/// The first lines of a byte stream, in bounded memory.
#[derive(Debug)]
pub(crate) struct Head {
    lines: Tail,
    /// How many more will be taken.
    left: usize,
}

impl Head {
    /// Of a stream of which `keep` lines are wanted; 0 keeps none.
    pub(crate) fn new(keep: usize) -> Self {
        let left = keep.min(LINES);
        Self { lines: Tail::new(left), left }
    }

    /// Takes the next bytes of the stream, split anywhere.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while self.left > 0 && !bytes.is_empty() {
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            self.left -= usize::from(bytes[..end].ends_with(b"\n"));
            self.lines.push(&bytes[..end]);
            bytes = &bytes[end..];
        }
    }

    /// As [`Self::push`], of bytes that end no line.
    pub(crate) fn push_open(&mut self, bytes: &[u8]) {
        if self.left > 0 {
            self.lines.push_open(bytes);
        }
    }

    /// The lines so far, an unfinished one among them.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lines()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_first_lines_however_the_stream_is_split_and_no_more() {
        let text: Vec<u8> = (0..30).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        for size in [1, 7, 1000] {
            let mut head = Head::new(100);
            text.chunks(size).for_each(|part| head.push(part));
            let lines = head.lines();
            assert_eq!((lines.len(), lines[0].as_str(), lines[9].as_str()), (10, "line 0", "line 9"));
        }
        let mut head = Head::new(100);
        head.push(b"one\nunfinished");
        assert_eq!(head.lines(), ["one", "unfinished"]);
        for (keep, kept) in [(0, 0), (2, 2)] {
            let mut few = Head::new(keep);
            few.push(&text);
            assert_eq!(few.lines(), &["line 0", "line 1"][..kept]);
        }
    }
}
