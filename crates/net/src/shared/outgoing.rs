use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use procession_model::Packet;
use procession_wire::{Note, Reference};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::{Memory, find};
use super::{Ends, LEAST_SHARED};

/// How long packets wait until the peer has said whether it sees the memory that they lie in. Then they go on without, until it does. A peer
/// answers as soon as it reads, so this is for one whose machine is very busy: to copy would hold it up longer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// The end of a link that shares memory with its peer: what the peer was told of, and what it still reads.
///
/// Its lock is held for moments, and nothing that has locks of its own is called or dropped under it: bytes are dropped and
/// notes are made wherever the last reader is, under whichever locks that holds.
pub(crate) struct Outgoing {
    state: Mutex<State>,
    /// Wakes who writes: there are notes.
    work: Arc<Notify>,
    ends: Arc<Ends>,
}

#[derive(Default)]
struct State {
    /// By the id of the memory.
    known: HashMap<u64, Known>,
    offers: u32,
    /// What the peer has not answered yet: one offer at a time, so that it is clear which descriptor is whose.
    asked: Option<Asked>,
    references: u64,
    /// What the peer may still read, by reference.
    held: HashMap<u64, Bytes>,
    notes: Vec<Note>,
    ended: bool,
}

struct Asked {
    id: u64,
    region: u32,
    since: Instant,
}

#[derive(Clone, Copy)]
enum Known {
    Asked,
    Accepted(u32),
    Refused,
}

impl Outgoing {
    pub(crate) fn new(work: Arc<Notify>, ends: Arc<Ends>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), work, ends })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer is to answer something before `packet` is written: whether it can see memory that the packet lies in, for
    /// which it is asked here if need be.
    pub(crate) fn has_to_ask(self: &Arc<Self>, packet: &Packet) -> bool {
        let mut memories = large(packet).filter_map(|part| find(part)).map(|(memory, _)| memory);
        memories.any(|memory| self.asks_for(&memory))
    }

    fn asks_for(self: &Arc<Self>, memory: &Arc<Memory>) -> bool {
        let mut state = self.state();
        if state.ended {
            return false;
        }
        let waits = state.asked.as_ref().is_some_and(|asked| asked.since.elapsed() < ANSWER);
        match state.known.get(&memory.id) {
            Some(known) => return waits && matches!(known, Known::Asked),
            // One at a time: the turn of this one comes.
            None if state.asked.is_some() => return waits,
            None => {}
        }
        // Without a descriptor there is nothing to offer; the next packet may have one.
        let Ok(descriptor) = rustix::io::fcntl_dupfd_cloexec(&**memory, 0) else { return false };
        let region = state.offers;
        state.offers += 1;
        state.asked = Some(Asked { id: memory.id, region, since: Instant::now() });
        state.known.insert(memory.id, Known::Asked);
        state.notes.push(Note::Offer { region, length: memory.len() as u64 });
        self.ends.send(descriptor);
        drop(state);
        memory.offered_on(Arc::downgrade(self));
        self.work.notify_one();
        true
    }

    /// Which parts of `packet`, which is written next, are written as references; empty when none is.
    pub(crate) fn references(&self, packet: &Packet) -> Vec<Option<Reference>> {
        if large(packet).next().is_none() {
            return Vec::new();
        }
        let refer = |part: &Bytes| {
            let (memory, offset) = if part.len() < LEAST_SHARED { None } else { find(part) }?;
            let state = self.state();
            match state.known.get(&memory.id) {
                Some(&Known::Accepted(region)) if !state.ended => {
                    Some(Reference { region, offset: offset as u64, length: part.len() as u64 })
                }
                _ => None,
            }
        };
        packet.parts.iter().map(refer).collect()
    }

    /// The packet was written with these: what it refers to is kept until the peer releases it.
    pub(crate) fn written(&self, packet: &Packet, references: &[Option<Reference>]) {
        if references.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.ended {
            drop(state);
            return packet.parts.iter().for_each(stay);
        }
        for (part, _) in packet.parts.iter().zip(references).filter(|(_, reference)| reference.is_some()) {
            let reference = state.references;
            state.references += 1;
            state.held.insert(reference, part.clone());
        }
    }

    /// Has `note` written.
    pub(crate) fn note(&self, note: Note) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        state.notes.push(note);
        drop(state);
        self.work.notify_one();
    }

    /// Appends the notes that are to be written, and says how many bytes they make.
    pub(crate) fn write_notes(&self, out: &mut BytesMut) -> usize {
        let before = out.len();
        let notes = mem::take(&mut self.state().notes);
        notes.iter().for_each(|note| note.write(out));
        out.len() - before
    }

    /// The memory is not used any more.
    pub(crate) fn retire(&self, id: u64) {
        let known = self.state().known.remove(&id);
        if let Some(Known::Accepted(region)) = known {
            self.note(Note::Retire { region });
        }
    }

    /// The peer has answered an offer; false when it was not asked.
    pub(crate) fn answered(&self, region: u32, accepts: bool) -> bool {
        let mut state = self.state();
        let Some(Asked { id, .. }) = state.asked.take_if(|asked| asked.region == region) else {
            return false;
        };
        let known = if accepts { Known::Accepted(region) } else { Known::Refused };
        let is_gone = match state.known.entry(id) {
            Entry::Occupied(mut entry) => {
                entry.insert(known);
                false
            }
            Entry::Vacant(_) => true,
        };
        drop(state);
        if is_gone && accepts {
            self.note(Note::Retire { region });
        }
        self.work.notify_one();
        true
    }

    /// The peer has released a reference; false when it has none of that number.
    pub(crate) fn released(&self, reference: u64, stays: bool) -> bool {
        let held = self.state().held.remove(&reference);
        if let Some(bytes) = &held
            && stays
        {
            stay(bytes);
        }
        held.is_some()
    }

    /// Nothing more goes or comes; what has arrived can be read.
    pub(crate) fn hang_up(&self) {
        self.ends.hang_up();
    }

    /// The link has ended. What the peer had not released it may read for as long as it lives.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let (held, _notes) = (mem::take(&mut state.held), mem::take(&mut state.notes));
        drop(state);
        held.values().for_each(stay);
    }
}

/// Parts that may be worth sharing.
fn large(packet: &Packet) -> impl Iterator<Item = &Bytes> {
    packet.parts.iter().filter(|part| part.len() >= LEAST_SHARED)
}

fn stay(bytes: &Bytes) {
    if let Some((memory, _)) = find(bytes) {
        memory.stay();
    }
}

/// What is left of a link for those who still read what came over it.
pub(super) fn release(link: &Weak<Outgoing>, reference: u64, stays: bool) {
    if let Some(link) = link.upgrade() {
        link.note(Note::Release { reference, stays });
    }
}
