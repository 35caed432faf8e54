use std::io;

use bytes::{Buf, BytesMut};
use procession_model::{Head, Packet};
use rmp_serde::decode::Error as HeadError;
use serde::Deserialize;

use crate::frame::{PREFIX_LEN, Prefix, TABLE_ENTRY, read_u64};
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
                let start = at;
                at += read_u64(entry) as usize;
                frame.slice(start..at)
            })
            .collect();
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
                let table = buffer[PREFIX_LEN..prefix.head_at()].chunks_exact(TABLE_ENTRY);
                let sum = (prefix.segments * TABLE_ENTRY + prefix.head) as u128
                    + table.map(|entry| u128::from(read_u64(entry))).sum::<u128>();
                if sum != prefix.length as u128 {
                    return Err(ProtocolError::Sum { length: prefix.length as u64, sum });
                }
                self.frame = Some(prefix);
            }
        }
        Ok(self.frame)
    }
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
