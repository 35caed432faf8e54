use bytes::{BufMut, BytesMut};
use procession_model::Packet;

use crate::frame::{PREFIX_LEN, Prefix, TABLE_ENTRY};
use crate::memory::{REFERENCE_LEN, REFERRED};
use crate::{Limits, ProtocolError, Reference};

/// Appends a frame up to and including its head to `out`; the packet's parts, as they are, follow
/// it on the wire.
///
/// # Errors
/// The packet is over a limit; `out` is as it was.
pub fn encode_prefix(packet: &Packet, limits: &Limits, out: &mut BytesMut) -> Result<(), ProtocolError> {
    encode_prefix_with(packet, &[], limits, out)
}

/// The same, where parts that have one of `references` (by their place; there may be fewer than parts) are not to follow: in the place
/// of each goes what [`write_reference`] appends.
///
/// # Errors
/// As [`encode_prefix`].
pub fn encode_prefix_with(
    packet: &Packet,
    references: &[Option<Reference>],
    limits: &Limits,
    out: &mut BytesMut,
) -> Result<(), ProtocolError> {
    let start = out.len();
    let prefix = append(packet, references, limits, out).inspect_err(|_| out.truncate(start))?;
    out[start..start + PREFIX_LEN].copy_from_slice(&prefix.write());
    Ok(())
}

/// Appends what goes in the place of a part that is referred to.
pub fn write_reference(reference: &Reference, out: &mut BytesMut) {
    reference.write(out);
}

fn append(
    packet: &Packet,
    references: &[Option<Reference>],
    limits: &Limits,
    out: &mut BytesMut,
) -> Result<Prefix, ProtocolError> {
    let count = packet.parts.len();
    if count > usize::from(limits.segments) {
        return Err(ProtocolError::Segments { count: count as u64, limit: limits.segments });
    }
    out.put_bytes(0, PREFIX_LEN);
    let mut payload = 0;
    for (index, part) in packet.parts.iter().enumerate() {
        match references.get(index).copied().flatten() {
            Some(reference) => {
                payload += REFERENCE_LEN as u64;
                out.put_u64_le(reference.length | REFERRED);
            }
            None => {
                payload += part.len() as u64;
                out.put_u64_le(part.len() as u64);
            }
        }
    }
    let head_at = out.len();
    rmp_serde::encode::write(&mut out.writer(), &packet.head)
        .map_err(|error| ProtocolError::Head(error.to_string()))?;
    let head = out.len() - head_at;
    let whole: u64 = packet.parts.iter().map(|part| part.len() as u64).sum();
    if whole > limits.frame {
        return Err(ProtocolError::FrameLength { length: whole, limit: limits.frame });
    }
    let length = (count * TABLE_ENTRY + head) as u64 + payload;
    Prefix::new(count as u64, head as u64, length, limits)
}

/// Whether `packet` can be sent at all.
///
/// # Errors
/// Why it cannot.
pub fn check(packet: &Packet, limits: &Limits) -> Result<(), ProtocolError> {
    encode_prefix(packet, limits, &mut BytesMut::new())
}
