use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_host::{Gate, Launch};
use procession_model::{ActorId, LaunchId, ProcExit, ProcStatus};

/// All unread output of one subscription, in bytes. Beyond this, whoever writes is held up, where the subscriber
/// asked for that; else what does not fit is counted.
const OUTPUT_LIMIT: usize = 8 << 20;
/// What those can still add who cannot be held up: procs that have ended, and launchers that feed a log channel.
const OVERFLOW_LIMIT: usize = 64 << 20;
/// How many lines are read at once: in the interpreter a line costs six times what it does here.
const LINES_AT_ONCE: usize = 256;
/// What a queued line costs beside its text.
const LINE_COST: usize = 96;

/// What happened to a proc.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Output { stream: &'static str, line: String, ends: bool },
    Dropped { stream: &'static str, count: u64 },
    Status(ProcStatus),
    Ready,
    ActorEnded { actor: ActorId, failure: Option<String> },
    Note(String),
    Exit(Arc<ProcExit>),
    Restarting { incarnation: u32, after: Duration, attempt: Option<(u32, u32)>, why: String },
    RestartLimit(String),
}

/// Something that happened to a proc, and when it was heard of.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) about: Arc<Launch>,
    pub(crate) at: SystemTime,
    pub(crate) what: What,
}

/// Events that nobody has read yet, in bounded memory however slowly they are read.
///
/// Lifecycle events are always kept. Lines of output that do not fit are counted, and a [`What::Dropped`] stands where
/// they are missing.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    events: VecDeque<Event>,
    /// Holds up the writers of output; none where nobody is to wait for this reader.
    gate: Option<Gate>,
    /// It was full, and takes no output before half of that was read: so gaps are few.
    is_full: bool,
    output_bytes: usize,
    missing: HashMap<(LaunchId, &'static str), (Arc<Launch>, u64)>,
}

impl EventQueue {
    /// One whose `gate` closes while there is more to read than there should be.
    pub(crate) fn holding_up(gate: Gate) -> Self {
        Self { gate: Some(gate), ..Self::default() }
    }

    pub(crate) fn gate(&self) -> Option<Gate> {
        self.gate.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.missing.is_empty()
    }

    pub(crate) fn push(&mut self, event: Event) {
        if let What::Output { stream, line, .. } = &event.what {
            let cost = line.len() + LINE_COST;
            let limit = if self.gate.is_some() { OVERFLOW_LIMIT } else { OUTPUT_LIMIT };
            self.is_full |= self.output_bytes + cost > limit;
            if self.is_full {
                let about = &event.about;
                let missing = self.missing.entry((about.proc_id.launch_id(), *stream));
                missing.or_insert_with(|| (Arc::clone(about), 0)).1 += 1;
                return;
            }
            self.tell_missing();
            self.output_bytes += cost;
            if let Some(gate) = self.gate.as_ref().filter(|_| self.output_bytes > OUTPUT_LIMIT) {
                gate.set_open(false);
            }
        }
        self.events.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            self.tell_missing();
        }
        let event = self.events.pop_front()?;
        if let What::Output { line, .. } = &event.what {
            self.output_bytes -= line.len() + LINE_COST;
            self.is_full &= self.output_bytes > OUTPUT_LIMIT / 2;
            if let Some(gate) = self.gate.as_ref().filter(|_| self.output_bytes <= OUTPUT_LIMIT / 2) {
                gate.set_open(true);
            }
        }
        Some(event)
    }

    /// What is here, in order, up to as many lines as are read at once.
    pub(crate) fn pop_some(&mut self) -> Vec<Event> {
        let (mut some, mut lines) = (Vec::new(), 0);
        while lines < LINES_AT_ONCE
            && let Some(event) = self.pop()
        {
            lines += usize::from(matches!(event.what, What::Output { .. }));
            some.push(event);
        }
        some
    }

    fn tell_missing(&mut self) {
        let at = SystemTime::now();
        for ((_, stream), (about, count)) in self.missing.drain() {
            self.events.push_back(Event { about, at, what: What::Dropped { stream, count } });
        }
    }
}

#[cfg(test)]
mod tests {
    use procession_model::{HostId, ProcId};

    use super::*;

    fn about() -> Arc<Launch> {
        let proc_id = ProcId::fresh("p", &HostId::fresh("m")).unwrap();
        Arc::new(Launch { proc_id, rank: 0, incarnation: 1 })
    }

    fn event(about: &Arc<Launch>, what: What) -> Event {
        Event { about: Arc::clone(about), at: SystemTime::now(), what }
    }

    fn line(about: &Arc<Launch>, stream: &'static str, text: &str) -> Event {
        event(about, What::Output { stream, line: text.to_owned(), ends: true })
    }

    #[test]
    fn who_reads_slowly_has_some_lines_and_the_queue_keeps_the_rest() {
        let (about, mut queue) = (about(), EventQueue::default());
        for number in 0..600 {
            queue.push(line(&about, "stdout", &number.to_string()));
            queue.push(event(&about, What::Ready));
        }
        let mut read = Vec::new();
        for (events, lines_left) in [(511, 344), (512, 88), (177, 0)] {
            let some = queue.pop_some();
            assert_eq!(some.len(), events);
            read.extend(some);
            let left = queue.events.iter().filter(|event| matches!(event.what, What::Output { .. })).count();
            assert_eq!(left, lines_left);
        }
        assert!(queue.is_empty() && queue.pop_some().is_empty());
        let lines = read.iter().filter_map(|event| match &event.what {
            What::Output { line, .. } => Some(line.parse::<usize>().unwrap()),
            _ => None,
        });
        assert!(lines.eq(0..600));
    }

    #[test]
    fn events_come_in_order() {
        let (about, mut queue) = (about(), EventQueue::default());
        queue.push(event(&about, What::Ready));
        queue.push(line(&about, "stdout", "one"));
        queue.push(event(&about, What::Note("two".to_owned())));
        assert!(matches!(queue.pop().unwrap().what, What::Ready));
        assert!(matches!(queue.pop().unwrap().what, What::Output { line, .. } if line == "one"));
        assert!(matches!(queue.pop().unwrap().what, What::Note(_)));
        assert!(queue.is_empty() && queue.pop().is_none());
        assert_eq!(queue.output_bytes, 0);
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_exactly_and_where_they_are_missing() {
        let (about, mut queue) = (about(), EventQueue::default());
        let text = "x".repeat(4000);
        let written = 3 * OUTPUT_LIMIT / text.len();
        for number in 0..written {
            let stream = if number % 2 == 0 { "stdout" } else { "stderr" };
            queue.push(line(&about, stream, &text));
        }
        queue.push(event(&about, What::Ready));
        let (mut seen, mut dropped, mut ready) = (0, 0, 0);
        let first_taken = queue.pop().unwrap();
        assert!(matches!(first_taken.what, What::Output { .. }));
        queue.push(line(&about, "stdout", "there is room again"));
        while let Some(event) = queue.pop() {
            match event.what {
                What::Output { .. } => seen += 1,
                What::Dropped { count, .. } => dropped += count as usize,
                _ => ready += 1,
            }
        }
        assert_eq!((seen + dropped, ready), (written, 1));
        assert!(dropped > written / 2);
    }

    #[test]
    fn a_reader_that_never_reads_costs_bounded_memory() {
        let (about, mut queue) = (about(), EventQueue::default());
        for number in 0..200_000 {
            let stream = if number % 3 == 0 { "stdout" } else { "stderr" };
            queue.push(line(&about, stream, "short"));
        }
        assert!(queue.output_bytes <= OUTPUT_LIMIT);
        assert!(queue.events.len() <= OUTPUT_LIMIT / LINE_COST);
        assert_eq!(queue.missing.len(), 2);
    }

    #[test]
    fn a_queue_that_holds_its_writers_up_drops_nothing_that_they_had_written_already() {
        let (about, gate) = (about(), Gate::default());
        let mut queue = EventQueue::holding_up(gate.clone());
        let text = "x".repeat(4000);
        let written = 3 * OUTPUT_LIMIT / text.len();
        for number in 0..written {
            queue.push(line(&about, "stdout", &text));
            let full = (number + 1) * (text.len() + LINE_COST) > OUTPUT_LIMIT;
            assert_eq!(gate.is_open(), !full, "after line {number}");
        }
        for left in (0..written).rev() {
            assert!(matches!(queue.pop().unwrap().what, What::Output { .. }));
            assert_eq!(
                gate.is_open(),
                left * (text.len() + LINE_COST) <= OUTPUT_LIMIT / 2,
                "{left} are left"
            );
        }
        assert!(queue.is_empty());
    }
}
