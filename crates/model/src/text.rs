/// The longest reason that travels, in bytes: far below what a packet's head may measure.
const REASON_LIMIT: usize = 8 << 10;
/// What marks a text that was cut.
pub const CUT: &str = " […cut]";

/// `text`, of at most `limit` bytes and a mark that it was cut.
pub fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rfind(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

/// `reason` as it may stand in a packet's head. One that is too long would keep the packet from being
/// sent, and whoever waits for the news waiting.
pub fn cut_reason(reason: impl Into<String>) -> String {
    let reason = reason.into();
    // What was cut once is not cut again on its way through other hands.
    if reason.len() <= REASON_LIMIT + CUT.len() { reason } else { cut(reason, REASON_LIMIT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked() {
        assert_eq!(cut("abc".to_owned(), 3), "abc");
        assert_eq!(cut("abcd".to_owned(), 3), format!("abc{CUT}"));
        assert_eq!(cut("aäöü".to_owned(), 4), format!("aä{CUT}"));
        assert_eq!(cut("𝄞".to_owned(), 3), CUT);
    }

    #[test]
    fn a_reason_is_cut_once() {
        let once = cut_reason("ä".repeat(100_000));
        assert!(once.len() <= REASON_LIMIT + CUT.len() && once.ends_with(CUT), "{} bytes", once.len());
        assert_eq!(cut_reason(once.clone()), once);
        assert_eq!(cut_reason("short"), "short");
    }
}
