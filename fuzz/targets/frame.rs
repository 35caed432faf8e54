//! Frames from a peer.

use bytes::{Bytes, BytesMut};
use procession_model::Packet;
use procession_wire::{
    Decoder, Limits, NoMemory, Note, PeerMemory, ProtocolError, Reference, encode_prefix, encode_prefix_with,
    write_reference,
};

/// Memory that the peer's packets may refer to; it takes every note.
#[derive(Debug, Default, PartialEq)]
struct Memory {
    notes: Vec<Note>,
    references: Vec<Reference>,
}

impl PeerMemory for Memory {
    fn note(&mut self, note: Note) -> Result<(), ProtocolError> {
        self.notes.push(note);
        Ok(())
    }

    fn view(&mut self, reference: Reference) -> Result<Bytes, ProtocolError> {
        self.references.push(reference);
        if reference.length > 4096 {
            return Err(ProtocolError::Reference(reference));
        }
        Ok(Bytes::from(vec![7; reference.length as usize]))
    }
}

/// However the bytes are cut, the same packets come out, and what came out goes in and out again as it is.
pub(crate) fn run(data: &[u8]) {
    let cut = usize::from(data.first().copied().unwrap_or_default()) * data.len() / 256;
    let (front, back) = data.split_at(cut);
    let (mut memory, mut same) = (Memory::default(), Memory::default());
    let (packets, _) = decode(&[data], &mut memory);
    assert_eq!(packets, decode(&[front, back], &mut same).0);
    assert_eq!(memory, same);
    through_memory(&packets);
    let whole = decode(&[data], &mut NoMemory);
    assert_eq!(whole, decode(&[front, back], &mut NoMemory));
    for packet in whole.0 {
        let mut bytes = BytesMut::new();
        // A head that names its fields can be longer than the one that came.
        if encode_prefix(&packet, &Limits::default(), &mut bytes).is_ok() {
            packet.parts.iter().for_each(|part| bytes.extend_from_slice(part));
            assert_eq!(decode(&[&bytes], &mut NoMemory), (vec![packet], false));
        }
    }
}

/// What is referred to comes out as what is carried does.
fn through_memory(packets: &[Packet]) {
    for packet in packets {
        let refer = |(index, part): (usize, &Bytes)| {
            let seven = part.iter().all(|&byte| byte == 7);
            let reference = Reference { region: index as u32, offset: 3, length: part.len() as u64 };
            (seven && part.len() <= 4096).then_some(reference)
        };
        let references: Vec<_> = packet.parts.iter().enumerate().map(refer).collect();
        let mut bytes = BytesMut::new();
        if encode_prefix_with(packet, &references, &Limits::default(), &mut bytes).is_err() {
            continue;
        }
        for (part, reference) in packet.parts.iter().zip(&references) {
            match reference {
                Some(reference) => write_reference(reference, &mut bytes),
                None => bytes.extend_from_slice(part),
            }
        }
        let mut memory = Memory::default();
        assert_eq!(decode(&[&bytes], &mut memory), (vec![packet.clone()], false));
        assert_eq!(memory.references, references.into_iter().flatten().collect::<Vec<_>>());
    }
}

/// The packets in these pieces of a stream, and whether the connection is over then.
fn decode(pieces: &[&[u8]], memory: &mut impl PeerMemory) -> (Vec<Packet>, bool) {
    let (mut decoder, mut buffer, mut packets) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode_with(&mut buffer, memory) {
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
