//! Frames from a peer.

use bytes::BytesMut;
use procession_model::Packet;
use procession_wire::{Decoder, Limits, encode_prefix};

/// However the bytes are cut, the same packets come out, and what came out goes in and out again as it is.
pub(crate) fn run(data: &[u8]) {
    let whole = decode(&[data]);
    let cut = usize::from(data.first().copied().unwrap_or_default()) * data.len() / 256;
    let (front, back) = data.split_at(cut);
    assert_eq!(whole, decode(&[front, back]));
    for packet in whole.0 {
        let mut bytes = BytesMut::new();
        // A head that names its fields can be longer than the one that came.
        if encode_prefix(&packet, &Limits::default(), &mut bytes).is_ok() {
            packet.parts.iter().for_each(|part| bytes.extend_from_slice(part));
            assert_eq!(decode(&[&bytes]), (vec![packet], false));
        }
    }
}

/// The packets in these pieces of a stream, and whether the connection is over then.
fn decode(pieces: &[&[u8]]) -> (Vec<Packet>, bool) {
    let (mut decoder, mut buffer, mut packets) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (packets, true);
                }
            }
        }
        assert!(decoder.missing(&buffer) > 0, "a frame that is whole has been taken");
    }
    (packets, false)
}
