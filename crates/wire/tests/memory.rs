//! Notes about memory that both ends see, and references into it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use bytes::{Bytes, BytesMut};
use procession_model::{Head, Packet};
use procession_wire::{
    Decoder, Limits, Note, PREFIX_LEN, PeerMemory, ProtocolError, Reference, encode_prefix_with,
    write_reference,
};

/// A peer's memory of a thousand sevens, which writes down what is asked of it.
#[derive(Default)]
struct Sevens {
    notes: Vec<Note>,
    references: Vec<Reference>,
}

impl PeerMemory for Sevens {
    fn note(&mut self, note: Note) -> Result<(), ProtocolError> {
        self.notes.push(note);
        Ok(())
    }

    fn view(&mut self, reference: Reference) -> Result<Bytes, ProtocolError> {
        self.references.push(reference);
        Ok(Bytes::from(vec![7; reference.length as usize]))
    }
}

const NOTES: [Note; 6] = [
    Note::Offer { region: 3, length: 1 << 40 },
    Note::Accept { region: u32::MAX },
    Note::Refuse { region: 0 },
    Note::Retire { region: 7 },
    Note::Release { reference: u64::MAX, stays: false },
    Note::Release { reference: 0, stays: true },
];

fn frame(packet: &Packet, references: &[Option<Reference>], out: &mut BytesMut) {
    encode_prefix_with(packet, references, &Limits::default(), out).unwrap();
    for (index, part) in packet.parts.iter().enumerate() {
        match references.get(index).copied().flatten() {
            Some(reference) => write_reference(&reference, out),
            None => out.extend_from_slice(part),
        }
    }
}

fn sevens(sizes: &[usize]) -> Packet {
    let parts = sizes.iter().map(|&size| Bytes::from(vec![7; size])).collect();
    Packet { head: Head::Ready { pid: 1 }, parts }
}

#[test]
fn notes_and_packets_come_out_in_their_order_however_they_are_cut() {
    let sent = sevens(&[5, 600, 0, 700]);
    let first = Reference { region: 1, offset: 1 << 33, length: 600 };
    let second = Reference { region: 2, offset: 0, length: 700 };
    let mut bytes = BytesMut::new();
    NOTES[..3].iter().for_each(|note| note.write(&mut bytes));
    frame(&sent, &[None, Some(first), None, Some(second)], &mut bytes);
    NOTES[3..].iter().for_each(|note| note.write(&mut bytes));
    frame(&sevens(&[1]), &[], &mut bytes);
    for step in [1, 2, 7, 15, 16, 17, bytes.len()] {
        let (mut decoder, mut memory) = (Decoder::default(), Sevens::default());
        let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(packet) = decoder.decode_with(&mut buffer, &mut memory).unwrap() {
                packets.push(packet);
            }
        }
        assert_eq!(packets, [sent.clone(), sevens(&[1])]);
        assert_eq!(memory.notes, NOTES);
        assert_eq!(memory.references, [first, second]);
    }
}

#[test]
fn ends_that_share_nothing_take_neither_notes_nor_references() {
    for note in NOTES {
        let mut bytes = BytesMut::new();
        note.write(&mut bytes);
        let error = Decoder::default().decode(&mut bytes).unwrap_err();
        assert_eq!(error, ProtocolError::UnexpectedNote(note));
    }
    let reference = Reference { region: 0, offset: 0, length: 5 };
    let mut bytes = BytesMut::new();
    frame(&sevens(&[5]), &[Some(reference)], &mut bytes);
    assert_eq!(Decoder::default().decode(&mut bytes).unwrap_err(), ProtocolError::Reference(reference));
}

#[test]
fn what_is_no_note_is_refused_by_its_numbers() {
    for (kind, region, number) in
        [(0_u16, 0_u32, 0_u64), (6, 0, 0), (2, 0, 1), (3, 1, 1), (4, 0, 9), (5, 2, 0)]
    {
        let mut bytes = BytesMut::from(&[0xf5, 0x53][..]);
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&region.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        let error = Decoder::default().decode_with(&mut bytes, &mut Sevens::default()).unwrap_err();
        assert_eq!(error, ProtocolError::Note { kind, region, number });
    }
}

#[test]
fn a_packet_is_limited_by_what_it_is_and_not_by_what_it_takes_on_the_way() {
    let limits = Limits { frame: 1000, ..Limits::default() };
    let reference = Reference { region: 0, offset: 0, length: 1001 };
    let mut bytes = BytesMut::new();
    let error = encode_prefix_with(&sevens(&[1001]), &[Some(reference)], &limits, &mut bytes).unwrap_err();
    assert_eq!(error, ProtocolError::FrameLength { length: 1001, limit: 1000 });
    assert!(bytes.is_empty());
    frame(&sevens(&[1001]), &[Some(reference)], &mut bytes);
    let error = Decoder::new(limits).decode_with(&mut bytes, &mut Sevens::default()).unwrap_err();
    assert_eq!(error, ProtocolError::FrameLength { length: 1001, limit: 1000 });
}

#[test]
fn a_reference_with_bytes_that_mean_nothing_is_refused() {
    let reference = Reference { region: 0, offset: 0, length: 5 };
    let mut bytes = BytesMut::new();
    frame(&sevens(&[5]), &[Some(reference)], &mut bytes);
    let zero = bytes.len() - 12;
    assert!(zero > PREFIX_LEN);
    bytes[zero] = 1;
    let error = Decoder::default().decode_with(&mut bytes, &mut Sevens::default()).unwrap_err();
    assert_eq!(error, ProtocolError::Reference(reference));
}
