//! The layout of a frame, all numbers little-endian:
//!
//! ```text
//! 0   magic             2 bytes
//! 2   segments          u16
//! 4   head length       u32
//! 8   length            u64, of everything that follows this prefix
//! 16  segment lengths   u64 each
//!     head              MessagePack: the name of its kind, then its fields in their order
//!     segments
//! ```
//!
//! Between frames there may be notes about shared memory, and a segment may be a reference into that.

use crate::ProtocolError;

/// How many bytes of a frame have a fixed place.
pub const PREFIX_LEN: usize = 16;
pub(crate) const MAGIC: [u8; 2] = [0xf5, 0x50];
pub(crate) const TABLE_ENTRY: usize = 8;

/// What a frame may measure at most; judged by its length fields, before any memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole frame after its prefix.
    pub frame: u64,
    /// Bytes of a head.
    pub head: u32,
    /// Payload segments.
    pub segments: u16,
}

impl Default for Limits {
    /// 1 GiB, 64 KiB, 1,024: for peers that have authenticated.
    fn default() -> Self {
        Self { frame: 1 << 30, head: 64 << 10, segments: 1024 }
    }
}

/// The fixed part of a frame, within limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix {
    pub(crate) segments: usize,
    pub(crate) head: usize,
    pub(crate) length: usize,
}

impl Prefix {
    /// Checks the four numbers against the limits and against each other.
    pub(crate) fn new(segments: u64, head: u64, length: u64, limits: &Limits) -> Result<Self, ProtocolError> {
        if segments > u64::from(limits.segments) {
            return Err(ProtocolError::Segments { count: segments, limit: limits.segments });
        }
        if head == 0 || head > u64::from(limits.head) {
            return Err(ProtocolError::HeadLength { length: head, limit: limits.head });
        }
        // What a prefix promises has to be addressable too, or the sums below could wrap.
        let limit = limits.frame.min(isize::MAX as u64 - PREFIX_LEN as u64);
        if length > limit {
            return Err(ProtocolError::FrameLength { length, limit });
        }
        let least = segments * TABLE_ENTRY as u64 + head;
        if length < least {
            return Err(ProtocolError::Sum { length, sum: least.into() });
        }
        Ok(Self { segments: segments as usize, head: head as usize, length: length as usize })
    }

    /// Reads the first bytes of `bytes`, which has at least [`PREFIX_LEN`].
    pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Result<Self, ProtocolError> {
        let found = [bytes[0], bytes[1]];
        if found != MAGIC {
            return Err(ProtocolError::Magic { found, expected: MAGIC });
        }
        let segments = u16::from_le_bytes([bytes[2], bytes[3]]);
        let head = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Self::new(segments.into(), head.into(), read_u64(&bytes[8..]), limits)
    }

    pub(crate) fn write(self) -> [u8; PREFIX_LEN] {
        let mut out = [0; PREFIX_LEN];
        out[..2].copy_from_slice(&MAGIC);
        out[2..4].copy_from_slice(&(self.segments as u16).to_le_bytes());
        out[4..8].copy_from_slice(&(self.head as u32).to_le_bytes());
        out[8..].copy_from_slice(&(self.length as u64).to_le_bytes());
        out
    }

    /// Where the head starts, from the frame's first byte.
    pub(crate) fn head_at(self) -> usize {
        PREFIX_LEN + self.segments * TABLE_ENTRY
    }

    /// The whole frame, with its prefix.
    pub(crate) fn total(self) -> usize {
        PREFIX_LEN + self.length
    }
}

/// Reads the first eight bytes of `bytes`.
pub(crate) fn read_u64(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(eight)
}
