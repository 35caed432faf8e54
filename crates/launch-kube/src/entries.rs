use k8s_openapi::jiff::Timestamp;

/// Runtimes take long lines apart at multiples of this; some kubelets say the time of each piece.
const PIECE: usize = 8 << 10;
/// The longest that a time may be written.
const STAMP: usize = 36;

/// What of a pod's log was passed on, so that it can be read again from there. Its lines begin with their times.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    last: Option<Timestamp>,
    /// How many entries of the time of the last one were passed on, and how many bytes of it.
    same: usize,
    passed: usize,
    here: Here,
}

/// Where in the answer to one request it is.
#[derive(Debug, Default)]
struct Here {
    /// Nothing new has come yet.
    repeats: bool,
    /// How many entries of the time of the last one have come.
    seen: usize,
    /// What may be a time, until that is known.
    held: Vec<u8>,
    at: At,
    /// How many bytes of the entry have come.
    offset: usize,
    /// How many more of it are known.
    known: usize,
    /// Whether all of it is.
    skips: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum At {
    /// Where a line begins.
    #[default]
    Begin,
    Text,
    /// In the middle of a line, where there may be a time.
    Seam,
    /// In what the kubelet says itself.
    Strange,
}

impl Entries {
    /// The next answer begins; it has to have all since this time.
    pub(crate) fn again(&mut self) -> Option<Timestamp> {
        self.here = Here { repeats: self.last.is_some(), ..Here::default() };
        self.last
    }

    /// Appends to `out` what is new in `bytes`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = bytes.first() {
            match self.here.at {
                At::Begin | At::Seam => {
                    bytes = &bytes[1..];
                    self.stamp(first, out);
                }
                At::Strange => {
                    bytes = &bytes[1..];
                    if first == b'\n' {
                        self.here.at = At::Begin;
                    }
                }
                At::Text => {
                    let most = PIECE - self.here.offset % PIECE;
                    let piece = &bytes[..bytes.len().min(most)];
                    let end = piece.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
                    let piece = &piece[..end.unwrap_or(piece.len())];
                    bytes = &bytes[piece.len()..];
                    self.text(piece, out);
                    self.here.at = match end {
                        Some(_) => At::Begin,
                        None if self.here.offset.is_multiple_of(PIECE) => At::Seam,
                        None => At::Text,
                    };
                }
            }
        }
    }

    /// The last answer has ended: what was held is text.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.here.at == At::Seam {
            let held = std::mem::take(&mut self.here.held);
            self.text(&held, out);
        }
    }

    fn stamp(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == b' ' {
            let read = std::str::from_utf8(&self.here.held).ok();
            let read = read.and_then(|text| text.parse::<Timestamp>().ok());
            if let Some(stamp) = read {
                self.here.held.clear();
                self.enter(stamp);
                return;
            }
        } else if self.here.held.len() < STAMP && (byte.is_ascii_digit() || b"-+:.TZ".contains(&byte)) {
            self.here.held.push(byte);
            return;
        }
        let held = std::mem::take(&mut self.here.held);
        if self.here.at == At::Seam {
            self.here.at = At::Text;
            self.feed(&[&held[..], &[byte]].concat(), out);
        } else {
            self.here.at = if byte == b'\n' { At::Begin } else { At::Strange };
        }
    }

    fn enter(&mut self, stamp: Timestamp) {
        let here = &mut self.here;
        (here.at, here.offset, here.known, here.skips) = (At::Text, 0, 0, false);
        if self.last == Some(stamp) {
            here.seen += 1;
            if here.repeats && here.seen <= self.same {
                here.skips = here.seen < self.same;
                here.known = self.passed;
                return;
            }
            self.same = here.seen;
        } else if here.repeats && self.last.is_some_and(|last| stamp < last) {
            here.skips = true;
            return;
        } else {
            (self.last, self.same, here.seen) = (Some(stamp), 1, 1);
        }
        self.passed = 0;
        here.repeats = false;
    }

    fn text(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let here = &mut self.here;
        here.offset += piece.len();
        if here.skips {
            return;
        }
        let known = here.known.min(piece.len());
        here.known -= known;
        self.passed += piece.len() - known;
        out.extend_from_slice(&piece[known..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: [&str; 3] =
        ["2026-11-28T07:00:00.000000001Z", "2026-11-28T07:00:00.000000002Z", "2026-11-28T09:00:01.5+02:00"];

    /// What comes of a log that breaks off after `cut` bytes, and is read again from its beginning, in pieces of `size`.
    fn read(log: &[u8], cut: usize, size: usize) -> Vec<u8> {
        let (mut entries, mut out) = (Entries::default(), Vec::new());
        for log in [&log[..cut], log] {
            entries.again();
            for piece in log.chunks(size) {
                entries.feed(piece, &mut out);
            }
        }
        entries.finish(&mut out);
        out
    }

    #[test]
    fn wherever_a_log_breaks_off_nothing_is_lost_and_nothing_doubled() {
        let log = format!(
            "{} one\n{} one\n{} \n{} two words\nno time: the kubelet's\n{} open",
            T[0], T[0], T[1], T[1], T[2]
        );
        for cut in 0..=log.len() {
            for size in [1, 7, 1000] {
                let came = read(log.as_bytes(), cut, size);
                assert_eq!(String::from_utf8_lossy(&came), "one\none\n\ntwo words\nopen", "cut at {cut}");
            }
        }
    }

    #[test]
    fn pieces_of_long_lines_are_put_together_whether_each_has_its_time_or_not() {
        let (piece, stamped) = ("x".repeat(2 * PIECE), |at: usize, text: &str| format!("{} {text}", T[at]));
        let each = format!("{}{}{}\n", stamped(0, &piece), stamped(0, &piece), stamped(1, "rest"));
        let once = format!("{} {piece}{piece}rest\n", T[0]);
        let expected = format!("{piece}{piece}rest\n");
        for log in [each, once] {
            for cut in [0, 40, PIECE, 2 * PIECE + 31, 2 * PIECE + 40, 4 * PIECE + 70, log.len()] {
                let cut = cut.min(log.len());
                assert_eq!(read(log.as_bytes(), cut, 1000), expected.as_bytes(), "cut at {cut}");
            }
        }
        let digits = format!("{} {}2026\n", T[0], "x".repeat(PIECE));
        assert!(read(digits.as_bytes(), 0, 100).ends_with(b"x2026\n"), "what looks like a time is none");
        let open = format!("{} {}20", T[0], "x".repeat(PIECE));
        assert!(read(open.as_bytes(), 0, 100).ends_with(b"x20"));
    }

    #[test]
    fn a_clock_that_goes_back_costs_no_line() {
        let log = format!("{} later\n{} earlier\n", T[2], T[0]);
        assert_eq!(read(log.as_bytes(), 0, 5), b"later\nearlier\n");
    }

    #[test]
    fn bytes_that_are_no_text_and_blanks_at_the_edges_stay() {
        let log = [T[0].as_bytes(), b"   \xff\xfe \n"].concat();
        assert_eq!(read(&log, 0, 3), b"  \xff\xfe \n");
    }
}
