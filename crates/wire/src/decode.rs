use std::io;

use bytes::{Buf, BytesMut};
use procession_model::{Head, Packet};
use rmp_serde::decode::Error as HeadError;
use serde::Deserialize;

use crate::frame::{PREFIX_LEN, Prefix, TABLE_ENTRY, read_u64};
use crate::memory::{self, NoMemory, Note, PeerMemory, REFERENCE_LEN, REFERRED, Reference};
use crate::{Limits, ProtocolError};

/// Heads are flat; anything that nests deeper was made to hurt.
const MAX_DEPTH: usize = 16;
/// The longest excerpt of a decoding error that is kept.
const MAX_REASON: usize = 200;

/// Takes packets out of the bytes of a connection, however those were cut.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    /// The frame at the front of the buffer, once its lengths were found to be good.
    frame: Option<Prefix>,
}

impl Decoder {
    /// A decoder that refuses what is over `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { limits, frame: None }
    }

    /// Takes the next packet off the front of `buffer`, or nothing while it has not arrived whole.
    ///
    /// The parts are slices of `buffer`'s memory: nothing is copied, and a part that is kept keeps
    /// the memory that was read along with it.
    ///
    /// # Errors
    /// The bytes are no frame. Nothing after them can be understood, so the connection is over.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, ProtocolError> {
        self.decode_with(buffer, &mut NoMemory)
    }

    /// The same for ends that share `memory`: it gets the notes before the packet, and gives parts that are referred to.
    ///
    /// # Errors
    /// As [`Self::decode`], and where `memory` says so.
    pub fn decode_with(
        &mut self,
        buffer: &mut BytesMut,
        memory: &mut impl PeerMemory,
    ) -> Result<Option<Packet>, ProtocolError> {
        while self.frame.is_none() && buffer.len() >= PREFIX_LEN && buffer[..2] == memory::MAGIC {
            memory.note(Note::read(buffer)?)?;
            buffer.advance(PREFIX_LEN);
        }
        let Some(prefix) = self.checked(buffer)? else { return Ok(None) };
        if buffer.len() < prefix.total() {
            return Ok(None);
        }
        self.frame = None;
        let (head_at, body_at) = (prefix.head_at(), prefix.head_at() + prefix.head);
        let head = decode_head(&buffer[head_at..body_at])?;
        if prefix.segments == 0 {
            buffer.advance(prefix.total());
            return Ok(Some(Packet::bare(head)));
        }
        let frame = buffer.split_to(prefix.total()).freeze();
        let mut at = body_at;
        let parts = frame[PREFIX_LEN..head_at]
            .chunks_exact(TABLE_ENTRY)
            .map(|entry| {
                let (start, entry) = (at, read_u64(entry));
                at += carried(entry) as usize;
                if entry & REFERRED == 0 {
                    return Ok(frame.slice(start..at));
                }
                memory.view(Reference::read(&frame[start..at], entry & !REFERRED)?)
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Packet { head, parts }))
    }

    /// How many bytes the frame at the front of `buffer` still lacks, as far as is known after
    /// [`Self::decode`] has found nothing.
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        let wanted = match (self.frame, buffer.get(2..4)) {
            (Some(prefix), _) => prefix.total(),
            (None, Some(&[low, high])) if buffer.len() >= PREFIX_LEN => {
                PREFIX_LEN + usize::from(u16::from_le_bytes([low, high])) * TABLE_ENTRY
            }
            _ => PREFIX_LEN,
        };
        wanted.saturating_sub(buffer.len())
    }

    /// The frame at the front of `buffer`, when enough of it is there to judge its lengths.
    fn checked(&mut self, buffer: &[u8]) -> Result<Option<Prefix>, ProtocolError> {
        if self.frame.is_none() && buffer.len() >= PREFIX_LEN {
            let prefix = Prefix::read(buffer, &self.limits)?;
            if buffer.len() >= prefix.head_at() {
                let table = buffer[PREFIX_LEN..prefix.head_at()].chunks_exact(TABLE_ENTRY).map(read_u64);
                let sum = (prefix.segments * TABLE_ENTRY + prefix.head) as u128
                    + table.clone().map(|entry| u128::from(carried(entry))).sum::<u128>();
                if sum != prefix.length as u128 {
                    return Err(ProtocolError::Sum { length: prefix.length as u64, sum });
                }
                let whole: u128 = table.map(|entry| u128::from(entry & !REFERRED)).sum();
                if whole > self.limits.frame.into() {
                    let length = u64::try_from(whole).unwrap_or(u64::MAX);
                    return Err(ProtocolError::FrameLength { length, limit: self.limits.frame });
                }
                self.frame = Some(prefix);
            }
        }
        Ok(self.frame)
    }
}

/// How many bytes of a segment are in the frame, by its entry in the table.
fn carried(entry: u64) -> u64 {
    if entry & REFERRED == 0 { entry } else { REFERENCE_LEN as u64 }
}

fn decode_head(bytes: &[u8]) -> Result<Head, ProtocolError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    let head = Head::deserialize(&mut deserializer).map_err(|error| {
        // The text may quote the peer, whose bytes have no business in a terminal.
        let reason: String = error.to_string().escape_debug().take(MAX_REASON).collect();
        ProtocolError::Head(reason)
    })?;
    // The only way to ask this library whether bytes are left is to read on.
    match <()>::deserialize(&mut deserializer) {
        Err(HeadError::InvalidMarkerRead(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(head),
        _ => Err(ProtocolError::TrailingBytes),
    }
}
