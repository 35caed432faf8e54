//! What goes over a connection that may be replaced by another one, all numbers little-endian:
//!
//! ```text
//! data       1, length u32, bytes
//! received   2, count u64, limit u64: how much of the peer's has arrived, over all connections, and how
//!            much may have been sent before this is said again
//! end        3: nothing follows; counts as one byte
//! ```
//!
//! Each end begins a connection with `received`; the other goes on from there.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ProtocolError;

/// The most bytes in one record.
pub const MAX_RECORD: usize = 64 << 10;

const DATA: u8 = 1;
const RECEIVED: u8 = 2;
const END: u8 = 3;

/// One piece of what goes over such a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The next bytes.
    Data(Bytes),
    /// How far the peer is, counted from the first byte of the first connection.
    Received {
        /// How many bytes have arrived.
        count: u64,
        /// How many there is room for.
        limit: u64,
    },
    /// There will be no more bytes.
    End,
}

impl Record {
    /// Appends the record to `out`.
    ///
    /// # Panics
    /// The data is longer than [`MAX_RECORD`].
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Data(bytes) => write_data(&[bytes], out),
            Self::Received { count, limit } => {
                out.put_u8(RECEIVED);
                out.put_u64_le(*count);
                out.put_u64_le(*limit);
            }
            Self::End => out.put_u8(END),
        }
    }

    /// Takes the next record off the front of `buffer`, or nothing while it has not arrived whole.
    ///
    /// # Errors
    /// The bytes are no record. Nothing after them can be understood.
    pub fn read(buffer: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        match buffer.first() {
            None => Ok(None),
            Some(&DATA) => {
                let Some(length) = buffer.get(1..5) else { return Ok(None) };
                let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
                if length == 0 || length > MAX_RECORD {
                    return Err(ProtocolError::RecordLength { length, limit: MAX_RECORD });
                }
                if buffer.len() < 5 + length {
                    return Ok(None);
                }
                buffer.advance(5);
                Ok(Some(Self::Data(buffer.split_to(length).freeze())))
            }
            Some(&RECEIVED) => {
                if buffer.len() < 17 {
                    return Ok(None);
                }
                buffer.advance(1);
                Ok(Some(Self::Received { count: buffer.get_u64_le(), limit: buffer.get_u64_le() }))
            }
            Some(&END) => {
                buffer.advance(1);
                Ok(Some(Self::End))
            }
            Some(&kind) => Err(ProtocolError::RecordKind(kind)),
        }
    }
}

/// Appends one record of data that is in several pieces.
///
/// # Panics
/// They are longer than [`MAX_RECORD`] together.
pub fn write_data(pieces: &[&[u8]], out: &mut BytesMut) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    assert!(length <= MAX_RECORD, "{length} bytes in one record");
    out.put_u8(DATA);
    out.put_u32_le(length as u32);
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}
