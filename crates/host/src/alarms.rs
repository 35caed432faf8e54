use std::collections::BTreeMap;
use std::time::Duration;

use procession_supervise::Timer;
use tokio::time::Instant;

/// An alarm that comes so late was not missed by the one it waited for, but by this process: it was
/// stopped, or starved.
const STALL: Duration = Duration::from_secs(1);
/// Far enough to never come, near enough to be a time.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What the driver of a launch waits for by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// What the state machine asked for.
    State(Timer),
    /// The word on how a proc ended whose connection did.
    LinkLost,
    /// The end of a proc whose connection was lost.
    LinkStillLost,
    /// What the launcher has to say after the exit.
    Late,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    length: Duration,
    extended: bool,
}

impl Due {
    fn after(length: Duration, now: Instant) -> Self {
        Self { at: now.checked_add(length).unwrap_or_else(|| now + NEVER), length, extended: false }
    }
}

/// The alarms of one launch, each set at most once at a time.
///
/// One that comes late because this whole process stood still is given the time that was lost, once
/// and at most its own length: what it waits for may have come meanwhile and not been read yet.
#[derive(Debug, Default)]
pub(crate) struct Alarms(BTreeMap<Alarm, Due>);

impl Alarms {
    pub(crate) fn set(&mut self, alarm: Alarm, after: Duration) {
        self.0.insert(alarm, Due::after(after, Instant::now()));
    }

    /// Sets it, unless it comes sooner already.
    pub(crate) fn set_sooner(&mut self, alarm: Alarm, after: Duration) {
        let due = Due::after(after, Instant::now());
        if self.0.get(&alarm).is_none_or(|set| due.at < set.at) {
            self.0.insert(alarm, due);
        }
    }

    pub(crate) fn clear(&mut self, alarm: Alarm) {
        self.0.remove(&alarm);
    }

    /// When [`Self::take_due`] may have one.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|due| due.at).min()
    }

    /// Takes the one that is due the longest.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Alarm> {
        loop {
            let (&alarm, due) = self.0.iter_mut().min_by_key(|(_, due)| due.at)?;
            let late = now.checked_duration_since(due.at)?;
            if late <= STALL || due.extended {
                self.0.remove(&alarm);
                return Some(alarm);
            }
            due.at = now + late.min(due.length);
            due.extended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Alarm = Alarm::State(Timer::Ready);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_alarm_comes_at_its_time_and_once() {
        let mut alarms = Alarms::default();
        alarms.set(READY, seconds(5));
        let at = alarms.next().unwrap();
        assert_eq!(alarms.take_due(at - seconds(1)), None);
        assert_eq!(alarms.take_due(at + Duration::from_millis(900)), Some(READY));
        assert_eq!(alarms.next(), None);
    }

    #[test]
    fn the_time_that_a_stall_took_is_given_back_once() {
        let mut alarms = Alarms::default();
        alarms.set(READY, seconds(5));
        let at = alarms.next().unwrap();
        assert_eq!(alarms.take_due(at + seconds(3)), None);
        assert_eq!(alarms.next(), Some(at + seconds(6)));
        assert_eq!(alarms.take_due(at + seconds(60)), Some(READY));
    }

    #[test]
    fn a_long_stall_gives_no_more_than_the_alarm_had() {
        let mut alarms = Alarms::default();
        alarms.set(READY, seconds(5));
        let at = alarms.next().unwrap();
        assert_eq!(alarms.take_due(at + seconds(3600)), None);
        assert_eq!(alarms.next(), Some(at + seconds(3605)));
    }

    #[test]
    fn the_shorter_of_two_deadlines_stands_and_the_longest_is_a_time_too() {
        let mut alarms = Alarms::default();
        alarms.set(READY, Duration::MAX);
        alarms.set_sooner(READY, seconds(5));
        let at = alarms.next().unwrap();
        alarms.set_sooner(READY, seconds(50));
        assert_eq!(alarms.next(), Some(at));
        alarms.clear(READY);
        assert_eq!(alarms.next(), None);
    }
}
