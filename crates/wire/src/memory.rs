//! What two ends of a connection say about memory that they share, all numbers little-endian.
//!
//! ```text
//! 0   magic     2 bytes
//! 2   kind      u16
//! 4   region    u32, as the end that offers it counts; in a release 1 where the bytes are not to be written over
//! 8   number    u64: the length of an offered region, the reference that is released, else zero
//! ```
//!
//! An offer has the region's descriptor with it, or before it. In the table of a frame, the length of a segment that is referred to
//! has [`REFERRED`] set, and in the place of the segment there is
//!
//! ```text
//! 0   region    u32
//! 4   zero      4 bytes
//! 8   offset    u64
//! ```
//!
//! References are counted by both ends, from 0.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ProtocolError;
use crate::frame::{PREFIX_LEN, read_u64};

/// Marks the length of a segment that is referred to.
pub(crate) const REFERRED: u64 = 1 << 63;
/// Bytes in the place of a segment that is referred to.
pub(crate) const REFERENCE_LEN: usize = 16;
pub(crate) const MAGIC: [u8; 2] = [0xf5, 0x53];

/// A segment that lies in memory which both ends can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The region, as the sender of the packet counts its offers.
    pub region: u32,
    /// Where in it the segment starts.
    pub offset: u64,
    /// Bytes of the segment.
    pub length: u64,
}

/// What one end says to the other between packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Here is a region that packets may refer to, once it is accepted.
    Offer {
        /// How many were offered before it.
        region: u32,
        /// Its bytes.
        length: u64,
    },
    /// The offered region is mapped.
    Accept {
        /// Which.
        region: u32,
    },
    /// The offered region cannot be mapped here; its number is used up.
    Refuse {
        /// Which.
        region: u32,
    },
    /// No packet refers to a region any more.
    Retire {
        /// Which.
        region: u32,
    },
    /// Nobody reads what a reference led to any more.
    Release {
        /// Which reference.
        reference: u64,
        /// Somebody may read it all the same: it must not be written over.
        stays: bool,
    },
}

impl Note {
    /// Appends the note to `out`.
    pub fn write(&self, out: &mut BytesMut) {
        let (kind, region, number) = match *self {
            Self::Offer { region, length } => (1, region, length),
            Self::Accept { region } => (2, region, 0),
            Self::Refuse { region } => (3, region, 0),
            Self::Retire { region } => (4, region, 0),
            Self::Release { reference, stays } => (5, stays.into(), reference),
        };
        out.extend_from_slice(&MAGIC);
        out.put_u16_le(kind);
        out.put_u32_le(region);
        out.put_u64_le(number);
    }

    /// Reads the first bytes of `bytes`, which starts with [`MAGIC`] and has at least [`PREFIX_LEN`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let kind = u16::from_le_bytes([bytes[2], bytes[3]]);
        let (region, number) = (read_u32(&bytes[4..]), read_u64(&bytes[8..PREFIX_LEN]));
        match (kind, region, number) {
            (1, region, length) => Ok(Self::Offer { region, length }),
            (2, region, 0) => Ok(Self::Accept { region }),
            (3, region, 0) => Ok(Self::Refuse { region }),
            (4, region, 0) => Ok(Self::Retire { region }),
            (5, stays @ (0 | 1), reference) => Ok(Self::Release { reference, stays: stays == 1 }),
            _ => Err(ProtocolError::Note { kind, region, number }),
        }
    }
}

impl Reference {
    pub(crate) fn write(&self, out: &mut BytesMut) {
        out.put_u32_le(self.region);
        out.put_u32_le(0);
        out.put_u64_le(self.offset);
    }

    /// Reads what stands in the place of a segment of `length` bytes.
    pub(crate) fn read(place: &[u8], length: u64) -> Result<Self, ProtocolError> {
        let (region, zero, offset) = (read_u32(place), read_u32(&place[4..]), read_u64(&place[8..]));
        let reference = Self { region, offset, length };
        if zero == 0 { Ok(reference) } else { Err(ProtocolError::Reference(reference)) }
    }
}

fn read_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The memory that an end shares with its peer, as the peer's packets and notes speak of it.
pub trait PeerMemory {
    /// Takes a note.
    ///
    /// # Errors
    /// It does not fit to what was said before. The connection is over.
    fn note(&mut self, note: Note) -> Result<(), ProtocolError>;

    /// The bytes of a reference; called once for each, in their order.
    ///
    /// # Errors
    /// It leads nowhere. The connection is over.
    fn view(&mut self, reference: Reference) -> Result<Bytes, ProtocolError>;
}

/// The ends share none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMemory;

impl PeerMemory for NoMemory {
    fn note(&mut self, note: Note) -> Result<(), ProtocolError> {
        Err(ProtocolError::UnexpectedNote(note))
    }

    fn view(&mut self, reference: Reference) -> Result<Bytes, ProtocolError> {
        Err(ProtocolError::Reference(reference))
    }
}
