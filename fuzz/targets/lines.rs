//! What programs write.

use procession_launch::Lines;

const LONGEST_PIECE: usize = 64 << 10;

/// However the stream is cut, the same pieces come out, none is too long, and nothing but the ends of lines is gone.
pub(crate) fn run(data: &[u8]) {
    let Some((&first, stream)) = data.split_first() else { return };
    let whole = pieces(stream, stream.len().max(1));
    assert_eq!(whole, pieces(stream, usize::from(first) + 1));
    assert!(whole.iter().all(|(piece, _)| piece.len() <= LONGEST_PIECE));
    let told: usize = whole.iter().map(|(piece, _)| piece.len()).sum();
    let ends = stream.iter().filter(|&&byte| byte == b'\n').count();
    assert!((told..=told + 2 * ends).contains(&stream.len()), "{told} of {} bytes", stream.len());
}

fn pieces(stream: &[u8], chunk: usize) -> Vec<(Vec<u8>, bool)> {
    let (mut lines, mut seen) = (Lines::default(), Vec::new());
    let mut see = |piece: &[u8], ends| seen.push((piece.to_vec(), ends));
    stream.chunks(chunk).for_each(|part| lines.push(part, &mut see));
    lines.finish(&mut see);
    seen
}
