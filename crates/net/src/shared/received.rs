use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use procession_sys::{Came, SeenRegion, is_address_space_limited};
use procession_wire::{Note, PeerMemory, ProtocolError, Reference};

use super::Ends;
use super::memory::{Kind, Memory, let_go};
use super::outgoing::{Outgoing, release};

/// How many regions of one peer are mapped at once: what it has itself, and what it passes on.
const MOST_REGIONS: usize = 256;

/// The regions of a peer that are mapped here.
pub(crate) struct Received {
    link: Arc<Outgoing>,
    ends: Arc<Ends>,
    regions: HashMap<u32, Arc<Memory>>,
    offers: u32,
    references: u64,
}

impl Received {
    pub(crate) fn new(link: Arc<Outgoing>, ends: Arc<Ends>) -> Self {
        Self { link, ends, regions: HashMap::new(), offers: 0, references: 0 }
    }

    fn offered(&mut self, region: u32, length: u64) -> Option<()> {
        let came = self.ends.arrived().filter(|_| region == self.offers)?;
        self.offers += 1;
        let opened = match came {
            _ if self.regions.len() >= MOST_REGIONS => Err(format!("{MOST_REGIONS} of it are mapped")),
            // What is left of that is for what this process does itself.
            _ if is_address_space_limited() => Err("this process may not map all that it wants".to_owned()),
            Came::Descriptor(file) => SeenRegion::open(file, length).map_err(|error| error.to_string()),
            Came::LostDescriptor | Came::Bytes => Err("this process has too many descriptors".to_owned()),
        };
        self.link.note(match opened {
            Ok(seen) => {
                self.regions.insert(region, Memory::new(Kind::Seen(seen)));
                Note::Accept { region }
            }
            Err(why) => {
                tracing::debug!(why, "a region of a peer is not mapped: what is in it is copied");
                Note::Refuse { region }
            }
        });
        Some(())
    }
}

impl PeerMemory for Received {
    fn note(&mut self, note: Note) -> Result<(), ProtocolError> {
        let fits = match note {
            Note::Offer { region, length } => self.offered(region, length).is_some(),
            Note::Accept { region } => self.link.answered(region, true),
            Note::Refuse { region } => self.link.answered(region, false),
            Note::Retire { region } => self.regions.remove(&region).map(let_go).is_some(),
            Note::Release { reference, stays } => self.link.released(reference, stays),
        };
        if fits { Ok(()) } else { Err(ProtocolError::UnexpectedNote(note)) }
    }

    fn view(&mut self, reference: Reference) -> Result<Bytes, ProtocolError> {
        let number = self.references;
        self.references += 1;
        let memory = self.regions.get(&reference.region).ok_or(ProtocolError::Reference(reference))?;
        let view = View {
            memory: memory.clone(),
            offset: reference.offset,
            length: reference.length,
            reference: number,
            link: Arc::downgrade(&self.link),
        };
        if view.bytes().is_none() {
            return Err(ProtocolError::Reference(reference));
        }
        Ok(Bytes::from_owner(view))
    }
}

/// Bytes in a region of a peer, which is told when nobody reads them any more.
struct View {
    memory: Arc<Memory>,
    offset: u64,
    length: u64,
    reference: u64,
    link: Weak<Outgoing>,
}

impl View {
    fn bytes(&self) -> Option<&[u8]> {
        match self.memory.kind() {
            Kind::Seen(region) => region.bytes(self.offset, self.length),
            Kind::Own(_) => None,
        }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self.bytes().unwrap_or_default()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        release(&self.link, self.reference, self.memory.stays());
    }
}
