use memchr::memchr;

/// The longest piece of a line that is passed on, in bytes.
const PIECE: usize = 64 << 10;

/// Puts a byte stream together into lines, in bounded memory and without losing any of it.
///
/// Lines end at LF; CR before it is dropped. What is longer than 64 KiB comes in pieces, which are
/// cut between characters of UTF-8; where depends on the line alone.
#[derive(Debug, Default)]
pub struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes of the stream, split anywhere. `on_piece` is told whether a line ends
    /// with its piece.
    pub fn push(&mut self, mut bytes: &[u8], mut on_piece: impl FnMut(&[u8], bool)) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.extend(&bytes[..end], &mut on_piece);
            let line = self.open.strip_suffix(b"\r").unwrap_or(&self.open);
            on_piece(line, true);
            self.open.clear();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut on_piece);
    }

    /// As [`Self::push`], of bytes that end no line.
    pub fn push_open(&mut self, bytes: &[u8], mut on_piece: impl FnMut(&[u8], bool)) {
        self.extend(bytes, &mut on_piece);
    }

    /// Goes on with `bytes`, which begin a line and end none. What came before is not wanted.
    pub fn restart(&mut self, bytes: &[u8]) {
        self.open.clear();
        self.extend(bytes, &mut |_, _| {});
    }

    /// The line that has no end yet, if there is one; for the end of the stream.
    pub fn finish(&mut self, mut on_piece: impl FnMut(&[u8], bool)) {
        if !self.open.is_empty() {
            on_piece(&self.open, true);
            self.open.clear();
        }
    }

    fn extend(&mut self, mut bytes: &[u8], on_piece: &mut impl FnMut(&[u8], bool)) {
        while self.open.len() + bytes.len() > PIECE {
            let (now, later) = bytes.split_at(PIECE - self.open.len());
            if self.open.is_empty() {
                let cut = whole_characters(now);
                on_piece(&now[..cut], false);
                bytes = &bytes[cut..];
                continue;
            }
            self.open.extend_from_slice(now);
            let cut = whole_characters(&self.open);
            on_piece(&self.open[..cut], false);
            self.open.drain(..cut);
            bytes = later;
        }
        self.open.extend_from_slice(bytes);
    }
}

/// How many of the bytes stand before a character that is not whole yet, or before a CR that an LF may follow.
fn whole_characters(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return bytes.len() - 1;
    }
    for back in 1..=3.min(bytes.len()) {
        let length = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        return bytes.len() - if length > back { back } else { 0 };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(stream: &[u8], chunk: usize) -> Vec<(String, bool)> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut see = |piece: &[u8], ends| seen.push((String::from_utf8_lossy(piece).into_owned(), ends));
        stream.chunks(chunk).for_each(|part| lines.push(part, &mut see));
        lines.finish(&mut see);
        seen
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_split() {
        let text = b"one\r\n\ntwo\rstill two\nthr\xffee\n\xf0\x9f\x8c\x8d four";
        let whole = ["one", "", "two\rstill two", "thr\u{fffd}ee", "\u{1f30d} four"];
        for chunk in 1..text.len() {
            let seen = pieces(text, chunk);
            assert!(seen.iter().map(|(piece, _)| piece).eq(whole), "chunks of {chunk}");
            assert!(seen.iter().all(|(_, ends)| *ends));
        }
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_nothing_of_it_is_lost() {
        for shift in 0..4 {
            let line = format!("{}{}", "x".repeat(shift), "\u{1f30d}".repeat(PIECE));
            let stream = format!("{line}\r\nnext\n");
            for chunk in [1 << 10, PIECE, stream.len()] {
                let seen = pieces(stream.as_bytes(), chunk);
                let (last, long) = seen.split_last().unwrap();
                assert_eq!(*last, ("next".to_owned(), true));
                assert_eq!(long.iter().map(|(piece, _)| piece.as_str()).collect::<String>(), line);
                assert!(long.iter().all(|(piece, _)| piece.len() <= PIECE));
                assert_eq!(long.iter().filter(|(_, ends)| *ends).count(), 1);
            }
        }
    }

    #[test]
    fn a_line_that_fits_exactly_is_whole_and_an_end_that_is_cut_off_is_still_an_end() {
        let fits = "y".repeat(PIECE);
        assert_eq!(pieces(format!("{fits}\n").as_bytes(), 1000), [(fits.clone(), true)]);
        let cut = pieces(format!("{}\r\n", &fits[1..]).as_bytes(), PIECE);
        assert_eq!(cut, [(fits[1..].to_owned(), true)]);
        let late = pieces(format!("{fits}\r\n").as_bytes(), PIECE);
        assert_eq!(late.iter().map(|(piece, _)| piece.as_str()).collect::<String>(), fits);
    }

    #[test]
    fn who_comes_late_gets_the_open_line_as_if_all_had_been_put_together() {
        let stream = [b"one\ntwo\n".repeat(3), "\u{1f30d}".repeat(2 * PIECE).into_bytes()].concat();
        let late = b" and on\nlast";
        for chunk in [7, 1000, PIECE, stream.len()] {
            let (mut whole, mut skipping) = (Lines::default(), Lines::default());
            for part in stream.chunks(chunk) {
                whole.push(part, |_, _| {});
                match part.iter().rposition(|&byte| byte == b'\n') {
                    Some(last) => skipping.restart(&part[last + 1..]),
                    None => skipping.push_open(part, |_, _| {}),
                }
            }
            let pieces = |lines: &mut Lines| {
                let mut seen = Vec::new();
                let mut see = |piece: &[u8], ends| seen.push((piece.to_vec(), ends));
                lines.push(late, &mut see);
                lines.finish(&mut see);
                seen
            };
            assert_eq!(pieces(&mut whole), pieces(&mut skipping), "chunks of {chunk}");
        }
    }

    #[test]
    fn a_stream_without_lines_costs_bounded_memory() {
        let mut lines = Lines::default();
        let mut bytes = 0;
        for _ in 0..1000 {
            lines.push(&[b'x'; 65_000], |piece, ends| {
                assert!(!ends);
                bytes += piece.len();
            });
        }
        assert!(lines.open.capacity() <= 2 * PIECE);
        assert_eq!(bytes + lines.open.len(), 65_000_000);
    }
}
