use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

use procession_actor::FlightRecorder;
use procession_model::{ActorId, BootPhase, FlightRecord, LaunchId};
use procession_sys::SharedPages;
use rustix::fs::OFlags;
use rustix::param::page_size;

use crate::common_file::CommonFile;
use crate::flight_layout as layout;
use crate::flight_layout::Field;

/// Where a proc finds its flight record before our runtime in it is loaded.
pub(crate) const FLIGHT_ENV: &str = "PROCESSION_FLIGHT_RECORD";

/// Between two samples of the resident memory, in nanoseconds.
const RSS_PAUSE: u64 = 1_000_000_000;
/// An entry that has no slot.
const NO_SLOT: u64 = u64::MAX;

/// The file of one launch, in a directory of its host; it goes with this, unless the proc outlives its host.
#[derive(Debug)]
pub struct FlightFile(CommonFile);

impl FlightFile {
    /// Makes it, with all of its space: a proc that writes where the disk is full would be killed.
    ///
    /// # Errors
    /// There is no space, or no file descriptor.
    pub fn create(directory: &Path, launch: LaunchId) -> io::Result<Self> {
        Self::make(directory, launch, false)
    }

    /// As [`Self::create`], of a proc that outlives its host; of one that has, that is the file from then.
    pub(crate) fn staying(directory: &Path, launch: LaunchId, is_there: bool) -> io::Result<Self> {
        match is_there {
            true => Ok(Self::at(directory, launch, true)),
            false => Self::make(directory, launch, true),
        }
    }

    fn at(directory: &Path, launch: LaunchId, stays: bool) -> Self {
        Self(CommonFile::new(directory.join(format!("flight-{launch}")), stays))
    }

    fn make(directory: &Path, launch: LaunchId, stays: bool) -> io::Result<Self> {
        let made = Self::at(directory, launch, stays);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(made.path())?;
        let mut bytes = [0; layout::LENGTH];
        bytes[..size_of::<u64>()].copy_from_slice(&layout::MAGIC.to_ne_bytes());
        file.write_all(&bytes)?;
        Ok(made)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remove(self) {
        self.0.remove();
    }

    /// What the proc has noted so far.
    ///
    /// # Errors
    /// Nothing that can be read, in words for people.
    pub fn read(&self) -> Result<FlightRecord, String> {
        let unreadable = |error| format!("the flight record cannot be read: {error}");
        // The proc could have put anything in its place; a pipe must not keep the host waiting.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(self.path());
        let file = file.map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err("the flight record was replaced by something else".to_owned());
        }
        // With room for the read that finds no more.
        let mut bytes = Vec::with_capacity(layout::LENGTH + 1);
        file.take(layout::LENGTH as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        layout::read(&bytes)
    }
}

/// The proc's side: notes into the file that its host made, from any thread, without a lock.
#[derive(Debug)]
pub struct Recorder {
    pages: SharedPages,
    /// A bit for each slot that is taken.
    taken: AtomicU32,
    /// When memory was sampled last.
    sampled: AtomicU64,
    statm: Option<File>,
}

impl Recorder {
    /// The record at `path`, to be written by this process.
    ///
    /// # Errors
    /// There is none, as where that is the path of another mount namespace.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let pages = SharedPages::map(&file, layout::LENGTH)?;
        if pages.words()[0].load(Ordering::Relaxed) != layout::MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a flight record of this version"));
        }
        let statm = File::open("/proc/self/statm").ok();
        let made = Self { pages, taken: AtomicU32::new(0), sampled: AtomicU64::new(0), statm };
        made.put(layout::PID, u64::from(std::process::id()));
        made.put_text(layout::VERSION, Field(0, layout::VERSION_WORDS), env!("CARGO_PKG_VERSION"));
        Ok(made)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.pages.words()[index]
    }

    fn put(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// As much of `text` as there is room for, and a NUL where there is more.
    fn put_text(&self, entry: usize, Field(start, length): Field, text: &str) {
        let words = &self.pages.words()[entry + start..][..length];
        let mut chunks = text.as_bytes().chunks(size_of::<u64>());
        for word in words {
            let mut bytes = [0; size_of::<u64>()];
            let chunk = chunks.next().unwrap_or_default();
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            if chunk.len() < bytes.len() {
                return;
            }
        }
    }

    /// Lets `write` fill an entry: whoever finds its first word odd knows that it was not done with.
    fn write(&self, entry: usize, write: impl FnOnce()) {
        let sequence = self.word(entry).fetch_or(1, Ordering::Relaxed) | 1;
        fence(Ordering::Release);
        write();
        self.word(entry).store(sequence.wrapping_add(1), Ordering::Release);
    }

    /// What phase of its boot the proc is in; none once it is ready.
    pub fn phase(&self, phase: Option<BootPhase>) {
        self.put(layout::PHASE_SINCE, now());
        self.put(layout::PHASE, phase.map_or(layout::IS_READY, |phase| phase as u64 + 1));
    }

    /// Keeps a line among the last ones.
    pub fn say(&self, text: &str) {
        let next = self.word(layout::NEXT_SAID).fetch_add(1, Ordering::Relaxed);
        let index = (next % layout::SAID_LINES as u64) as usize;
        let entry = layout::SAID + index * layout::SAID_WORDS;
        self.write(entry, || {
            self.put(entry + layout::SAID_AT, now());
            self.put_text(entry, layout::SAID_TEXT, text);
        });
    }

    fn sample_rss(&self, now: u64) {
        let last = self.sampled.load(Ordering::Relaxed);
        if now.saturating_sub(last) < RSS_PAUSE
            || self.sampled.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let mut text = [0; 128];
        let Some(Ok(length)) = self.statm.as_ref().map(|statm| statm.read_at(&mut text, 0)) else { return };
        let text = String::from_utf8_lossy(&text[..length]);
        let Some(pages) = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()) else { return };
        let next = self.word(layout::NEXT_RSS).fetch_add(1, Ordering::Relaxed);
        let index = layout::RSS + 2 * (next % layout::RSS_SAMPLES as u64) as usize;
        self.put(index + 1, pages.saturating_mul(page_size() as u64));
        self.put(index, now);
    }

    fn take_slot(&self) -> Option<u64> {
        let free = |taken: u32| {
            let slot = taken.trailing_ones();
            (slot < layout::SLOT_COUNT as u32).then_some(taken | 1 << slot)
        };
        let before = self.taken.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).ok()?;
        Some(u64::from(before.trailing_ones()))
    }
}

impl FlightRecorder for Recorder {
    fn begin(&self, actor: &ActorId, what: &str, sender: &ActorId) -> u64 {
        let now = now();
        self.sample_rss(now);
        let number = self.word(layout::MESSAGES).fetch_add(1, Ordering::Relaxed) + 1;
        let Some(slot) = self.take_slot() else {
            self.word(layout::UNNOTED).fetch_add(1, Ordering::Relaxed);
            return NO_SLOT;
        };
        let entry = entry_of(slot);
        self.write(entry, || {
            self.put(entry + layout::SLOT_NUMBER, number);
            self.put(entry + layout::SLOT_SINCE, now);
            self.put(entry + layout::SLOT_STATE, layout::BUSY);
            self.put_text(entry, layout::SLOT_ACTOR, &actor.name);
            self.put_text(entry, layout::SLOT_WHAT, what);
            self.put_text(entry, layout::SLOT_SENDER_PROC, sender.proc_id.name());
            self.put_text(entry, layout::SLOT_SENDER, &sender.name);
        });
        slot
    }

    fn end(&self, slot: u64) {
        if slot == NO_SLOT {
            self.word(layout::UNNOTED).fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.put(entry_of(slot) + layout::SLOT_STATE, layout::DONE);
        self.taken.fetch_and(!(1 << slot), Ordering::Release);
    }
}

fn entry_of(slot: u64) -> usize {
    layout::SLOTS + slot as usize * layout::SLOT_WORDS
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use procession_model::{HostId, ProcId};

    use super::*;

    struct Both {
        _dir: tempfile::TempDir,
        file: FlightFile,
        recorder: Recorder,
        actor: ActorId,
        sender: ActorId,
    }

    fn both() -> Both {
        let dir = tempfile::tempdir().unwrap();
        let file = FlightFile::create(dir.path(), LaunchId::fresh()).unwrap();
        let recorder = Recorder::open(file.path()).unwrap();
        let host = HostId::fresh("m");
        let id = |name, actor| ActorId::new(ProcId::fresh(name, &host).unwrap(), actor);
        Both { _dir: dir, file, recorder, actor: id("w-0", "trainer"), sender: id("client", "client:1") }
    }

    fn garble(both: &Both, word: usize, value: u64) {
        both.recorder.put(word, value);
    }

    #[test]
    fn what_is_in_progress_is_read_and_what_is_done_is_the_last_done() {
        let both = both();
        let first = both.recorder.begin(&both.actor, "step", &both.sender);
        let second = both.recorder.begin(&both.actor, "save", &both.sender);
        both.recorder.end(first);
        let record = both.file.read().unwrap();
        let [busy] = &record.in_progress[..] else { panic!("{record:?}") };
        assert_eq!((busy.actor.as_str(), busy.endpoint.as_str(), busy.number), ("trainer", "save", 2));
        assert_eq!(busy.sender, "client/client:1");
        assert!(busy.since.elapsed().unwrap().as_secs() < 60);
        assert_eq!(record.last_done.unwrap().endpoint, "step");
        assert_eq!((record.messages, record.unnoted, record.torn), (2, 0, 0));
        assert_eq!((record.pid, record.version.as_str()), (std::process::id(), env!("CARGO_PKG_VERSION")));
        assert!(record.rss[0].1 > 0, "memory was sampled with the first message");
        both.recorder.end(second);
        assert!(both.file.read().unwrap().in_progress.is_empty());
    }

    #[test]
    fn more_messages_than_slots_are_counted() {
        let both = both();
        let entries: Vec<u64> =
            (0..30).map(|_| both.recorder.begin(&both.actor, "wait", &both.sender)).collect();
        let record = both.file.read().unwrap();
        assert_eq!((record.in_progress.len(), record.unnoted), (layout::SLOT_COUNT, 6));
        entries.into_iter().for_each(|entry| both.recorder.end(entry));
        let record = both.file.read().unwrap();
        assert_eq!((record.in_progress.len(), record.unnoted, record.messages), (0, 0, 30));
    }

    #[test]
    fn texts_are_cut_to_their_room_and_the_last_lines_are_kept() {
        let both = both();
        let long = "ä".repeat(200);
        both.recorder.begin(&both.actor, &long, &both.sender);
        both.recorder.begin(&both.actor, "short", &both.sender);
        for number in 0..60 {
            both.recorder.say(&format!("line {number}"));
        }
        let record = both.file.read().unwrap();
        assert_eq!(record.in_progress[0].endpoint, "ä".repeat(32));
        assert_eq!(record.in_progress[1].endpoint, "short");
        let said: Vec<&str> = record.said.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!((said.len(), said[0], said[47]), (48, "line 12", "line 59"));
    }

    #[test]
    fn a_phase_is_known_until_it_is_over() {
        let both = both();
        for phase in [BootPhase::Imports, BootPhase::Dial, BootPhase::SetUp] {
            both.recorder.phase(Some(phase));
            assert_eq!(both.file.read().unwrap().booting.unwrap().0, phase);
        }
        both.recorder.phase(None);
        assert_eq!(both.file.read().unwrap().booting, None);
    }

    #[test]
    fn an_entry_that_was_being_written_is_told_as_torn_and_not_shown() {
        let both = both();
        let slot = both.recorder.begin(&both.actor, "step", &both.sender);
        both.recorder.say("whole");
        garble(&both, entry_of(slot), 3);
        garble(&both, layout::SAID, 1);
        garble(&both, layout::PHASE, 77);
        let record = both.file.read().unwrap();
        assert_eq!((record.in_progress.len(), record.said.len(), record.torn), (0, 0, 3));
    }

    #[test]
    fn garbage_in_the_file_never_hurts_who_reads_it() {
        let both = both();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..200 {
            for word in 1..layout::LENGTH / 8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                garble(&both, word, if round % 2 == 0 { state } else { u64::MAX });
            }
            let record = both.file.read().unwrap();
            assert!(
                record.in_progress.len() <= layout::SLOT_COUNT && record.said.len() <= layout::SAID_LINES
            );
            assert!(record.said.iter().all(|(_, text)| text.len() <= 3 * 240));
        }
        garble(&both, 0, 0);
        assert_eq!(both.file.read().unwrap_err(), "the flight record is garbled");
    }

    #[test]
    fn a_file_that_was_cut_replaced_or_never_written_is_said_to_be_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = FlightFile::create(dir.path(), LaunchId::fresh()).unwrap();
        assert!(file.read().unwrap_err().starts_with("nothing was written"));
        std::fs::write(file.path(), b"short").unwrap();
        assert!(file.read().unwrap_err().contains("5 bytes of"));
        assert!(Recorder::open(file.path()).is_err());
        std::fs::remove_file(file.path()).unwrap();
        assert!(file.read().unwrap_err().contains("cannot be read"));
        std::os::unix::fs::symlink("/dev/zero", file.path()).unwrap();
        assert!(file.read().unwrap_err().contains("cannot be read"), "a link is not followed");
        std::fs::remove_file(file.path()).unwrap();
        std::fs::create_dir(file.path()).unwrap();
        assert!(file.read().unwrap_err().contains("replaced by something else"));
        std::fs::remove_dir(file.path()).unwrap();
    }
}
