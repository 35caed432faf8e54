//! What goes into a frame comes out of it, and nothing else does.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use procession_model::{ActorId, Head, OwnBoot, Packet, PortId, ProcId, Target};
use procession_wire::{Decoder, Limits, PREFIX_LEN, ProtocolError, check, encode_prefix};
use proptest::collection::vec;
use proptest::prelude::*;

fn proc_id() -> impl Strategy<Value = ProcId> {
    ("[a-z][a-zA-Z0-9_.-]{0,20}", any::<u128>(), "[a-z]{1,10}-[0-9a-f]{16}")
        .prop_map(|(name, launch, host)| format!("{name}.{launch:032x}@{host}").parse().unwrap())
}

fn actor() -> impl Strategy<Value = ActorId> {
    (proc_id(), "[^/\0]{1,12}").prop_map(|(proc_id, name)| ActorId::new(proc_id, name))
}

fn port() -> impl Strategy<Value = PortId> {
    (proc_id(), any::<u64>()).prop_map(|(proc_id, index)| PortId::new(proc_id, index))
}

fn head() -> impl Strategy<Value = Head> {
    prop_oneof![
        (actor(), actor(), any::<String>(), vec(port(), 0..3), any::<bool>())
            .prop_map(|(to, from, tag, ports, answered)| Head::Deliver { to, from, tag, ports, answered }),
        (actor(), any::<String>(), vec((actor(), vec(port(), 0..3), any::<bool>()), 0..3)).prop_map(
            |(from, tag, to)| {
                let target = |(to, ports, answered)| Target { to, ports, answered };
                Head::Cast { from, tag, to: to.into_iter().map(target).collect() }
            }
        ),
        (port(), any::<String>(), vec(port(), 0..3)).prop_map(|(port, tag, ports)| Head::Send {
            port,
            tag,
            ports
        }),
        (port(), any::<String>()).prop_map(|(port, reason)| Head::PortClosed { port, reason }),
        (port(), proc_id()).prop_map(|(port, holder)| Head::PortMoved { port, holder }),
        (port(), proc_id()).prop_map(|(port, holder)| Head::PortCancelled { port, holder }),
        (proc_id(), proc_id(), any::<String>()).prop_map(|(to, proc_id, reason)| Head::ProcGone {
            to,
            proc_id,
            reason
        }),
        any::<String>().prop_map(|host| Head::Leads { host }),
        (actor(), actor(), any::<String>(), any::<String>())
            .prop_map(|(to, from, tag, reason)| Head::Returned { to, from, tag, reason }),
        (actor(), any::<Option<String>>()).prop_map(|(actor, failure)| Head::ActorEnded { actor, failure }),
        Just(Head::Welcome),
        proc_id().prop_map(|proc_id| Head::Host { proc_id }),
        any::<u32>().prop_map(|pid| Head::Ready { pid }),
        any::<[Duration; 3]>().prop_map(|[imports, dial, set_up]| Head::Booted(OwnBoot {
            imports,
            dial,
            set_up
        })),
        (proc_id(), any::<Option<u32>>(), any::<Option<String>>(), any::<Option<String>>())
            .prop_map(|(proc_id, pid, handle, progress)| Head::Report { proc_id, pid, handle, progress }),
        any::<String>().prop_map(|reason| Head::Stop { reason }),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let part =
        prop_oneof![Just(0), 1..300_usize, Just(6000)].prop_flat_map(|size| vec(any::<u8>(), size..=size));
    (head(), vec(part.prop_map(Bytes::from), 0..5)).prop_map(|(head, parts)| Packet { head, parts })
}

fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_prefix(packet, &Limits::default(), &mut bytes).unwrap();
    packet.parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.to_vec()
}

fn sample() -> Packet {
    Packet {
        head: Head::Stop { reason: "r".into() },
        parts: vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")],
    }
}

/// A frame with these numbers in its front, whatever follows.
fn frame(segments: u16, head: u32, length: u64, rest: &[u8]) -> Vec<u8> {
    [&[0xf5, 0x50][..], &segments.to_le_bytes(), &head.to_le_bytes(), &length.to_le_bytes(), rest].concat()
}

/// A frame without payload whose head is `head`.
fn with_head(head: &[u8]) -> Vec<u8> {
    frame(0, head.len() as u32, head.len() as u64, head)
}

fn refusal(bytes: &[u8]) -> ProtocolError {
    Decoder::default().decode(&mut BytesMut::from(bytes)).expect_err("it was taken for a packet")
}

#[test]
fn a_frame_that_has_not_arrived_whole_is_waited_for() {
    let bytes = bytes_of(&sample());
    for end in 0..bytes.len() {
        let mut buffer = BytesMut::from(&bytes[..end]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        let missing = decoder.missing(&buffer);
        assert!(missing > 0 && missing <= bytes.len() - end, "{missing} of {} at {end}", bytes.len() - end);
        assert_eq!(buffer.len(), end, "nothing is taken too early");
    }
}

#[test]
fn a_head_that_is_none_is_refused_with_what_is_wrong_with_it() {
    let stop = |fields: &[u8]| [b"\x81\xa4Stop", fields].concat();
    for (head, needle) in [
        (b"\x81\xa4Quit\x80".to_vec(), "unknown variant `quit`"),
        (stop(b"\x80"), "missing field `reason`"),
        (stop(b"\x81\xa6reason\x07"), "invalid type"),
        (stop(b"\x82\xa6reason\xa0\xa6reason\xa0"), "duplicate field"),
        (stop(b"\x82\xa6reason\xa0\xa4more\xa0"), "unknown field `more`"),
        (stop(b"\x81\xa6reason\xdb\xff\xff\xff\xff"), "end of file"),
        (stop(b"\x81\xa6reason\xa2\xff\xfe"), "utf-8"),
        (vec![0xc1], ""),
        (vec![0x91; 60_000], ""),
        (vec![0x81; 60_000], ""),
        ([&stop(b"\x82\xa6reason\xa0\xa1x")[..], &[0x91; 60_000]].concat(), ""),
    ] {
        match refusal(&with_head(&head)) {
            ProtocolError::Head(reason) => {
                assert!(reason.to_lowercase().contains(needle), "{reason:?} for {needle:?}");
                assert!(reason.len() <= 200);
            }
            other => panic!("{other} for {needle:?}"),
        }
    }
}

#[test]
fn an_optional_field_is_written_and_may_not_be_left_out() {
    let proc_id: ProcId = format!("p.{:032x}@host-0", 1).parse().unwrap();
    let actor = ActorId::new(proc_id.clone(), "a");
    for head in [
        Head::ActorEnded { actor, failure: None },
        Head::Report { proc_id, pid: None, handle: None, progress: None },
    ] {
        let bytes = bytes_of(&Packet::bare(head.clone()));
        let decoded = Decoder::default().decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
        assert_eq!(decoded.head, head);
        // The last field less, which is nothing; and the list of fields says so.
        let mut less = bytes[PREFIX_LEN..].to_vec();
        assert_eq!(less.pop(), Some(0xc0));
        let name_len = usize::from(less[1] & 0x1f);
        less[2 + name_len] -= 1;
        match refusal(&with_head(&less)) {
            ProtocolError::Head(reason) => assert!(reason.contains("invalid length"), "{reason}"),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn what_a_peer_says_does_not_reach_the_terminal_raw() {
    let ProtocolError::Head(reason) = refusal(&with_head(b"\x81\xa5\x1b[31m\x80")) else {
        panic!("another error")
    };
    assert!(!reason.contains('\x1b') && reason.contains("u{1b}"), "{reason}");
}

#[test]
fn bytes_after_the_head_are_refused() {
    for trailing in [&[0xc0][..], &[0x00], &[0x91], &[0xa1], &[0xc1], &[0xff, 0xff]] {
        let head = [&b"\xa7Welcome"[..], trailing].concat();
        assert_eq!(refusal(&with_head(&head)), ProtocolError::TrailingBytes, "{trailing:x?}");
    }
    let mut buffer = BytesMut::from(&with_head(b"\xa7Welcome")[..]);
    assert_eq!(Decoder::default().decode(&mut buffer), Ok(Some(Packet::bare(Head::Welcome))));
}

#[test]
fn parts_are_not_copied_out_of_the_buffer() {
    let packet = Packet { head: Head::Welcome, parts: vec![Bytes::from(vec![1; 10]), Bytes::new()] };
    let mut buffer = BytesMut::from(&bytes_of(&packet)[..]);
    let memory = buffer.as_ptr_range();
    let decoded = Decoder::default().decode(&mut buffer).unwrap().unwrap();
    assert!(memory.contains(&decoded.parts[0].as_ptr()));
    assert_eq!(decoded, packet);
}

#[test]
fn a_packet_over_a_limit_is_refused_where_it_is_made() {
    let limits = Limits { frame: 1000, ..Limits::default() };
    let mut out = BytesMut::from(&b"before"[..]);
    let mut packet = sample();
    packet.parts = vec![Bytes::new(); 1025];
    assert_eq!(
        encode_prefix(&packet, &limits, &mut out),
        Err(ProtocolError::Segments { count: 1025, limit: 1024 })
    );
    packet.parts = vec![Bytes::from(vec![0; 1000])];
    assert!(matches!(encode_prefix(&packet, &limits, &mut out), Err(ProtocolError::FrameLength { .. })));
    packet.head = Head::Stop { reason: "x".repeat(70_000) };
    assert!(matches!(encode_prefix(&packet, &limits, &mut out), Err(ProtocolError::HeadLength { .. })));
    assert_eq!(&out[..], b"before");
    assert_eq!(check(&sample(), &limits), Ok(()));
}

mod f89 {
    use super::*;

    #[test]
    fn lengths_are_judged_before_anything_else_has_arrived() {
        let limits = Limits::default();
        for (bytes, expected) in [
            (frame(0, 1, 1 << 56, &[]), ProtocolError::FrameLength { length: 1 << 56, limit: limits.frame }),
            (
                frame(0, 1, u64::MAX, &[]),
                ProtocolError::FrameLength { length: u64::MAX, limit: limits.frame },
            ),
            (
                frame(0, 1, limits.frame + 1, &[]),
                ProtocolError::FrameLength { length: limits.frame + 1, limit: limits.frame },
            ),
            (frame(0, 1, 0, &[]), ProtocolError::Sum { length: 0, sum: 1 }),
            (frame(2, 1, 16, &[]), ProtocolError::Sum { length: 16, sum: 17 }),
            (frame(0, 0, 9, &[]), ProtocolError::HeadLength { length: 0, limit: limits.head }),
            (
                frame(0, u32::MAX, 9, &[]),
                ProtocolError::HeadLength { length: u32::MAX.into(), limit: limits.head },
            ),
            (frame(1025, 1, 9, &[]), ProtocolError::Segments { count: 1025, limit: limits.segments }),
            (frame(1, 1, 10, &2_u64.to_le_bytes()), ProtocolError::Sum { length: 10, sum: 11 }),
            (frame(0, 1, 2, &[]), ProtocolError::Sum { length: 2, sum: 1 }),
            (
                frame(2, 1, 17, &[(u64::MAX >> 1).to_le_bytes(); 2].concat()),
                ProtocolError::Sum { length: 17, sum: 17 + 2 * u128::from(u64::MAX >> 1) },
            ),
            (vec![0; PREFIX_LEN], ProtocolError::Magic { found: [0, 0], expected: [0xf5, 0x50] }),
            (b"GET / HTTP/1.1\r\n".to_vec(), ProtocolError::Magic { found: *b"GE", expected: [0xf5, 0x50] }),
        ] {
            assert_eq!(refusal(&bytes), expected);
        }
    }

    #[test]
    fn a_promise_of_much_takes_no_memory() {
        let mut decoder = Decoder::new(Limits { frame: u64::MAX, ..Limits::default() });
        let mut buffer = BytesMut::from(&frame(0, 1, 1, &[])[..PREFIX_LEN]);
        buffer[8..].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        buffer[2] = 1;
        buffer.extend_from_slice(&((1_u64 << 40) - 9).to_le_bytes());
        let capacity = buffer.capacity();
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert_eq!(buffer.capacity(), capacity);
        assert_eq!(decoder.missing(&buffer), (1 << 40) - 8);
    }
}

mod f88 {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn packets_survive_however_their_bytes_are_cut(packets in vec(packet(), 1..6), cuts in vec(1..2000_usize, 10..50)) {
            let stream: Vec<u8> = packets.iter().flat_map(bytes_of).collect();
            let mut decoder = Decoder::default();
            let (mut buffer, mut seen, mut at) = (BytesMut::new(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at == stream.len() {
                    break;
                }
                let end = (at + cut).min(stream.len());
                buffer.extend_from_slice(&stream[at..end]);
                at = end;
                while let Some(packet) = decoder.decode(&mut buffer).unwrap() {
                    seen.push(packet);
                }
                prop_assert!(decoder.missing(&buffer) > 0, "a frame that is whole has been taken");
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(seen, packets);
        }

        #[test]
        fn bytes_that_were_changed_never_panic(packet in packet(), changes in vec((any::<usize>(), any::<u8>()), 1..8)) {
            let mut bytes = bytes_of(&packet);
            // Most of the meaning is at the front.
            let front = bytes.len().min(200);
            for (at, value) in changes {
                bytes[at % front] = value;
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut decoder = Decoder::default();
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
        }

        #[test]
        fn bytes_from_anywhere_never_panic(mut bytes in vec(any::<u8>(), 0..2000), like_ours: bool) {
            if like_ours && bytes.len() > PREFIX_LEN {
                bytes[..2].copy_from_slice(&[0xf5, 0x50]);
                bytes[3..4].fill(0);
                bytes[6..8].fill(0);
                bytes[10..16].fill(0);
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut decoder = Decoder::default();
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
        }
    }
}
