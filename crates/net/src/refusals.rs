use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one source may be written about.
const EVERY: Duration = Duration::from_secs(60);
/// How many sources are told apart; what is beyond them shares one entry.
const SOURCES: usize = 256;

/// Writes to the log about peers that were turned away: once per source and minute, however often
/// they come.
#[derive(Default)]
pub(crate) struct Refusals {
    sources: Mutex<HashMap<String, Source>>,
}

struct Source {
    written: Instant,
    silent: u64,
}

impl Refusals {
    pub(crate) fn note(&self, source: &str, why: &dyn Display) {
        if let Some(more) = self.due(source, Instant::now()) {
            let why: String = why.to_string().escape_debug().collect();
            tracing::warn!(source, more, "refused a connection: {why}");
        }
    }

    /// Whether it is time to write about `source`, and about how many more since the last time.
    fn due(&self, source: &str, now: Instant) -> Option<u64> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES && !sources.contains_key(source) {
            sources.retain(|_, entry| now.duration_since(entry.written) < EVERY);
        }
        let key = if sources.len() < SOURCES || sources.contains_key(source) { source } else { "others" };
        match sources.get_mut(key) {
            Some(entry) if now.duration_since(entry.written) < EVERY => {
                entry.silent += 1;
                None
            }
            Some(entry) => {
                entry.written = now;
                Some(std::mem::take(&mut entry.silent))
            }
            None => {
                sources.insert(key.to_owned(), Source { written: now, silent: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_written_about_once_a_minute_with_what_was_left_out() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(refusals.due("a", at(0)), Some(0));
        assert_eq!(refusals.due("b", at(0)), Some(0));
        assert_eq!(refusals.due("a", at(1)), None);
        assert_eq!(refusals.due("a", at(59)), None);
        assert_eq!(refusals.due("a", at(60)), Some(2));
        assert_eq!(refusals.due("a", at(61)), None);
    }

    #[test]
    fn ten_thousand_sources_take_the_room_of_a_few() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let written = (0..10_000).filter(|n| refusals.due(&n.to_string(), start).is_some()).count();
        assert_eq!(written, SOURCES + 1);
        assert_eq!(refusals.sources.lock().unwrap().len(), SOURCES + 1);
        assert_eq!(refusals.due("late", start + EVERY), Some(0));
        assert_eq!(refusals.sources.lock().unwrap().len(), 1);
    }
}
