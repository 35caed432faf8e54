//! What is made of a byte stream, whatever is in it and however it comes.

/// Bytes that are no text, and text cut anywhere.
mod f69 {
    use procession_launch::{Lines, Tail};
    use proptest::prelude::*;

    const PIECE: usize = 64 << 10;

    fn of_lines(stream: &[u8], cuts: &[usize]) -> Vec<(Vec<u8>, bool)> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut see = |piece: &[u8], ends| seen.push((piece.to_vec(), ends));
        chunks(stream, cuts, |chunk| lines.push(chunk, &mut see));
        lines.finish(see);
        seen
    }

    fn of_tail(stream: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut tail = Tail::new(5);
        chunks(stream, cuts, |chunk| tail.push(chunk));
        tail.finish();
        tail.lines()
    }

    fn chunks(mut stream: &[u8], cuts: &[usize], mut each: impl FnMut(&[u8])) {
        for &cut in cuts {
            let (now, later) = stream.split_at(cut.min(stream.len()));
            each(now);
            stream = later;
        }
        each(stream);
    }

    fn odd() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 12] = [
            b"\n",
            b"\r",
            b"\r\n",
            b"\0",
            b"\xef\xbb\xbf",
            b"\xf0\x9f\x8c\x8d",
            b"\xf0\x9f",
            b"\xff\xfe",
            b"\x80",
            b"\x1b[31mred\x1b[0m",
            b"text",
            "ü".as_bytes(),
        ];
        let long = (PIECE - 8..PIECE + 8).prop_map(|length| vec![b'x'; length]);
        let piece =
            prop_oneof![20 => prop::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec), 1 => long];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    /// A stream as its lines have it: no CR before an LF, and an LF behind the last line too.
    fn of_whole_lines(stream: &[u8]) -> Vec<u8> {
        let mut lines: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
        let last = lines.pop().filter(|last| !last.is_empty());
        let ended = lines.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        ended.chain(last).flat_map(|line| [line, b"\n"].concat()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lines_and_tail_do_not_depend_on_how_a_stream_is_cut_and_no_byte_is_lost(
            stream in odd(),
            cuts in prop::collection::vec(0usize..200, 0..80),
        ) {
            let whole = of_lines(&stream, &[]);
            prop_assert_eq!(&of_lines(&stream, &cuts), &whole);
            prop_assert_eq!(of_tail(&stream, &cuts), of_tail(&stream, &[]));
            prop_assert!(whole.iter().all(|(piece, _)| piece.len() <= PIECE));
            let all: Vec<u8> = whole.iter().flat_map(|(piece, ends)| [piece.as_slice(), &b"\n"[..usize::from(*ends)]].concat()).collect();
            prop_assert_eq!(all, of_whole_lines(&stream));
        }
    }
}
