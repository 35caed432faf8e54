use bytes::{BufMut, BytesMut};
use procession_model::Packet;

use crate::frame::{PREFIX_LEN, Prefix, TABLE_ENTRY};
use crate::{Limits, ProtocolError};

/// Appends a frame up to and including its head to `out`; the packet's parts, as they are, follow
/// it on the wire.
///
/// # Errors
/// The packet is over a limit; `out` is as it was.
pub fn encode_prefix(packet: &Packet, limits: &Limits, out: &mut BytesMut) -> Result<(), ProtocolError> {
    let start = out.len();
    let prefix = append(packet, limits, out).inspect_err(|_| out.truncate(start))?;
    out[start..start + PREFIX_LEN].copy_from_slice(&prefix.write());
    Ok(())
}

fn append(packet: &Packet, limits: &Limits, out: &mut BytesMut) -> Result<Prefix, ProtocolError> {
    let count = packet.parts.len();
    if count > usize::from(limits.segments) {
        return Err(ProtocolError::Segments { count: count as u64, limit: limits.segments });
    }
    out.put_bytes(0, PREFIX_LEN);
    for part in &packet.parts {
        out.put_u64_le(part.len() as u64);
    }
    let head_at = out.len();
    rmp_serde::encode::write_named(&mut out.writer(), &packet.head)
        .map_err(|error| ProtocolError::Head(error.to_string()))?;
    let head = out.len() - head_at;
    let payload: u64 = packet.parts.iter().map(|part| part.len() as u64).sum();
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
