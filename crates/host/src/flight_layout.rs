//! How a flight record lies in its file, and how it is read after its writer's end.
//!
//! All of it are 64-bit words in the machine's own order, since no other machine reads them. The file
//! is written by a process that may be broken and may end in the middle of anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use procession_model::{BootPhase, FlightRecord, Handling};

/// "procflt" and the version of this layout.
pub(crate) const MAGIC: u64 = u64::from_ne_bytes(*b"procflt1");

pub(crate) const PID: usize = 1;
/// The runtime's version, as text.
pub(crate) const VERSION: usize = 2;
pub(crate) const VERSION_WORDS: usize = 2;
/// What phase of the boot goes on, as its number and one; since when. `_proc_main.py` writes these two.
pub(crate) const PHASE: usize = 4;
pub(crate) const PHASE_SINCE: usize = 5;
/// In place of a phase, once there is none any more.
pub(crate) const IS_READY: u64 = 255;
/// How many messages have come, how many in progress have no slot, and the two rings' next entries.
pub(crate) const MESSAGES: usize = 6;
pub(crate) const UNNOTED: usize = 7;
pub(crate) const NEXT_RSS: usize = 8;
pub(crate) const NEXT_SAID: usize = 9;

/// A ring of pairs: time, bytes.
pub(crate) const RSS: usize = 64;
pub(crate) const RSS_SAMPLES: usize = 60;

/// Messages: each slot is written by one thread at a time, between two changes of its first word, which
/// is odd meanwhile.
pub(crate) const SLOTS: usize = 512;
pub(crate) const SLOT_COUNT: usize = 24;
pub(crate) const SLOT_WORDS: usize = 64;
pub(crate) const SLOT_NUMBER: usize = 1;
pub(crate) const SLOT_SINCE: usize = 2;
pub(crate) const SLOT_STATE: usize = 3;
pub(crate) const SLOT_ACTOR: Field = Field(4, 8);
pub(crate) const SLOT_WHAT: Field = Field(12, 8);
pub(crate) const SLOT_SENDER_PROC: Field = Field(20, 16);
pub(crate) const SLOT_SENDER: Field = Field(36, 8);
pub(crate) const BUSY: u64 = 1;
pub(crate) const DONE: u64 = 2;

/// A ring of lines, each written as a slot is.
pub(crate) const SAID: usize = SLOTS + SLOT_COUNT * SLOT_WORDS;
pub(crate) const SAID_LINES: usize = 48;
pub(crate) const SAID_WORDS: usize = 32;
pub(crate) const SAID_AT: usize = 1;
pub(crate) const SAID_TEXT: Field = Field(2, 30);

/// The length of a file, in bytes.
pub(crate) const LENGTH: usize = (SAID + SAID_LINES * SAID_WORDS) * size_of::<u64>();

/// What is said of a record that its host has made and no proc has written.
pub(crate) const UNWRITTEN: &str =
    "nothing was written into the flight record: our runtime did not come to run in it";

/// Where a text lies in an entry, and how many words there are for it.
#[derive(Clone, Copy)]
pub(crate) struct Field(pub(crate) usize, pub(crate) usize);

/// What `bytes` say.
///
/// # Errors
/// They are no record, or nothing was written into it.
pub(crate) fn read(bytes: &[u8]) -> Result<FlightRecord, String> {
    if bytes.len() < LENGTH {
        return Err(format!("the flight record has {} bytes of {LENGTH}", bytes.len()));
    }
    let words: Vec<u64> = bytes[..LENGTH]
        .chunks_exact(size_of::<u64>())
        .map(|word| u64::from_ne_bytes(word.try_into().expect("chunks of eight")))
        .collect();
    if words[0] != MAGIC {
        return Err("the flight record is garbled".to_owned());
    }
    if words[PID] == 0 && words[PHASE] == 0 {
        return Err(UNWRITTEN.to_owned());
    }
    let mut record = FlightRecord {
        version: text(&words[VERSION..], Field(0, VERSION_WORDS)),
        pid: u32::try_from(words[PID]).unwrap_or(0),
        messages: words[MESSAGES],
        unnoted: words[UNNOTED],
        ..FlightRecord::default()
    };
    match words[PHASE] {
        // None noted, or none any more.
        0 | IS_READY => {}
        number => match number.checked_sub(1).and_then(BootPhase::from_number) {
            Some(phase) => record.booting = Some((phase, time(words[PHASE_SINCE]))),
            None => record.torn += 1,
        },
    }
    read_slots(&words, &mut record);
    read_said(&words, &mut record);
    for (at, bytes) in ring(words[NEXT_RSS], RSS_SAMPLES).map(|index| (RSS + 2 * index, RSS + 2 * index + 1))
    {
        if words[at] != 0 {
            record.rss.push((time(words[at]), words[bytes]));
        }
    }
    Ok(record)
}

fn read_slots(words: &[u64], record: &mut FlightRecord) {
    for slot in words[SLOTS..SAID].chunks_exact(SLOT_WORDS) {
        let sender_proc = text(slot, SLOT_SENDER_PROC);
        let handling = || Handling {
            actor: text(slot, SLOT_ACTOR),
            endpoint: text(slot, SLOT_WHAT),
            sender: format!("{sender_proc}/{}", text(slot, SLOT_SENDER)),
            number: slot[SLOT_NUMBER],
            since: time(slot[SLOT_SINCE]),
        };
        match (slot[0] % 2, slot[SLOT_STATE]) {
            (0, 0) => {}
            (0, BUSY) => record.in_progress.push(handling()),
            (0, DONE) => {
                if record.last_done.as_ref().is_none_or(|last| last.number < slot[SLOT_NUMBER]) {
                    record.last_done = Some(handling());
                }
            }
            _ => record.torn += 1,
        }
    }
    record.in_progress.sort_by_key(|handling| handling.number);
}

fn read_said(words: &[u64], record: &mut FlightRecord) {
    for index in ring(words[NEXT_SAID], SAID_LINES) {
        let line = &words[SAID + index * SAID_WORDS..][..SAID_WORDS];
        match (line[0] % 2, line[SAID_AT]) {
            (0, 0) => {}
            (0, at) => record.said.push((time(at), text(line, SAID_TEXT))),
            _ => record.torn += 1,
        }
    }
}

/// The places of a ring of `length`, the oldest entry first, when `next` entries have been begun.
fn ring(next: u64, length: usize) -> impl Iterator<Item = usize> {
    let first = (next % length as u64) as usize;
    (first..length).chain(0..first)
}

fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Up to the first NUL, whatever the bytes are.
fn text(entry: &[u64], Field(start, length): Field) -> String {
    let bytes: Vec<u8> = entry[start..start + length].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
