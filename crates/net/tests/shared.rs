//! Payloads in memory that both ends of a link see.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use common::{Host, number, packet, soon};
use procession_model::Packet;
use procession_net::{LEAST_SHARED, Link, LinkError, LinkSender, Peer, PrivateBytes, take_slot};
use procession_wire::{Decoder, Limits, Note, PeerMemory, ProtocolError, Reference};
use procession_wire::{encode_prefix, encode_prefix_with, write_reference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;

/// So many bytes in shared memory.
fn large(length: usize, byte: u8) -> Bytes {
    let mut room = take_slot(length).unwrap();
    room.bytes().fill(byte);
    room.filled()
}

/// Whether these bytes lie in shared memory: nobody has copied them on the way.
fn is_shared(bytes: &Bytes) -> bool {
    PrivateBytes::of(bytes.clone()).is_ok()
}

fn holds(bytes: &Bytes, length: usize, byte: u8) -> bool {
    bytes.len() == length && bytes.iter().all(|&found| found == byte)
}

/// An end of a link that is read all the time, as ends are at work: what its peer answers is heard.
struct End {
    sender: LinkSender,
    packets: UnboundedReceiver<Packet>,
    reading: JoinHandle<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn end(link: Link) -> End {
    let Link { sender, mut receiver, .. } = link;
    let (arrived, packets) = unbounded_channel();
    let reading = tokio::spawn(async move {
        while let Some(packet) = receiver.recv().await {
            let _nobody_waits = arrived.send(packet.unwrap());
        }
    });
    End { sender, packets, reading }
}

/// A link over a unix socket, as (the proc's end, the host's end).
async fn linked(host: &Host) -> (End, End) {
    let (proc_end, host_end) = soon(host.link()).await;
    (end(proc_end), end(host_end))
}

/// The part of the next packet that arrives.
async fn part(end: &mut End) -> Bytes {
    soon(end.packets.recv()).await.unwrap().parts.remove(0)
}

/// The same where only this end is read.
async fn first_part(link: &mut Link) -> Bytes {
    soon(link.receiver.recv()).await.unwrap().unwrap().parts.remove(0)
}

/// How many mappings of shared payloads this process has.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:procession-payloads").count()
}

#[tokio::test]
async fn a_large_payload_is_seen_where_it_was_written_in_both_directions() {
    let (mut proc_end, mut host_end) = linked(&Host::unix()).await;
    for round in 0..3 {
        for length in [LEAST_SHARED, LEAST_SHARED + 1, 3 * MIB + 5] {
            proc_end.sender.post(packet(1, large(length, round))).unwrap();
            let got = part(&mut host_end).await;
            assert!(holds(&got, length, round) && is_shared(&got), "{length} bytes, round {round}");
            host_end.sender.post(packet(1, large(length, 10 + round))).unwrap();
            let got = part(&mut proc_end).await;
            assert!(holds(&got, length, 10 + round) && is_shared(&got), "{length} bytes, round {round}");
        }
    }
}

#[tokio::test]
async fn what_is_passed_on_from_link_to_link_is_not_copied_either() {
    let host = Host::unix();
    let (from, mut host_from) = linked(&host).await;
    let (mut to, host_to) = linked(&host).await;
    for byte in 0..4 {
        from.sender.post(packet(1, large(MIB, byte))).unwrap();
        host_to.sender.post(packet(1, part(&mut host_from).await)).unwrap();
        let got = part(&mut to).await;
        assert!(holds(&got, MIB, byte) && is_shared(&got));
    }
}

#[tokio::test]
async fn a_slot_is_used_again_when_the_last_of_its_readers_has_dropped_it() {
    let host = Host::unix();
    let (from, mut host_from) = linked(&host).await;
    let (mut to, host_to) = linked(&host).await;
    let sent = large(MIB, 1);
    let place = sent.as_ptr();
    from.sender.post(packet(1, sent)).unwrap();
    host_to.sender.post(packet(1, part(&mut host_from).await)).unwrap();
    let got = part(&mut to).await;
    for byte in 2..10 {
        let other = large(MIB, byte);
        assert_ne!(other.as_ptr(), place);
        assert!(holds(&got, MIB, 1));
    }
    drop(got);
    soon(async {
        while take_slot(MIB).unwrap().bytes().as_ptr() != place {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn packets_keep_their_order_around_one_for_which_the_peer_is_asked() {
    let (proc_end, mut host_end) = linked(&Host::unix()).await;
    let other = large(80 * MIB, 3); // a region of its own: the peer is asked twice
    for index in 0..200 {
        let payload = match index {
            50 | 120 => large(MIB, index as u8),
            51 => other.clone(),
            _ => Bytes::from(vec![index as u8; 5]),
        };
        proc_end.sender.post(packet(index, payload)).unwrap();
    }
    for index in 0..200 {
        let packet = soon(host_end.packets.recv()).await.unwrap();
        assert_eq!(number(&packet), index);
        let (length, byte) = match index {
            50 | 120 => (MIB, index as u8),
            51 => (80 * MIB, 3),
            _ => (5, index as u8),
        };
        assert!(holds(&packet.parts[0], length, byte), "packet {index}");
    }
    soon(proc_end.sender.flushed()).await.unwrap();
    assert_eq!(proc_end.sender.pending_bytes(), 0);
}

#[tokio::test]
async fn a_network_gets_the_bytes_themselves() {
    let (proc_end, mut host_end) = linked(&Host::tcp().await).await;
    proc_end.sender.post(packet(1, large(MIB, 4))).unwrap();
    let got = part(&mut host_end).await;
    assert!(holds(&got, MIB, 4) && !is_shared(&got));
}

#[tokio::test]
async fn what_was_received_stays_as_it_is_when_the_link_has_ended() {
    let host = Host::unix();
    let (from, mut host_from) = linked(&host).await;
    let (mut to, host_to) = linked(&host).await;
    let mut kept = Vec::new();
    for byte in 0..4 {
        from.sender.post(packet(1, large(MIB, byte))).unwrap();
        host_to.sender.post(packet(1, part(&mut host_from).await)).unwrap();
        kept.push(part(&mut to).await);
    }
    // First the link to who reads ends, then that to who wrote.
    for ends in [[to, host_to], [from, host_from]] {
        for end in &ends {
            end.sender.close();
        }
        for end in &ends {
            soon(end.sender.flushed()).await.unwrap();
        }
    }
    for byte in 100..160 {
        drop(large(MIB, byte));
    }
    for (got, byte) in kept.iter().zip(0..) {
        assert!(holds(got, MIB, byte));
    }
}

#[tokio::test]
async fn memory_is_given_back_at_both_ends_when_nobody_has_used_it_for_a_while() {
    let (proc_end, mut host_end) = linked(&Host::unix()).await;
    proc_end.sender.post(packet(1, large(MIB, 1))).unwrap();
    drop(part(&mut host_end).await);
    assert_eq!(mappings(), 2, "one to write, one to read");
    soon(async {
        while mappings() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // The link lives, and goes on with new memory.
    proc_end.sender.post(packet(2, large(MIB, 2))).unwrap();
    let got = part(&mut host_end).await;
    assert!(holds(&got, MIB, 2) && is_shared(&got));
}

#[test]
fn more_than_there_may_be_is_not_shared() {
    assert!(take_slot(1 << 40).is_none());
    assert!(take_slot(usize::MAX).is_none());
    assert!(take_slot(0).is_some());
}

#[tokio::test]
async fn who_holds_bytes_writes_to_them_alone() {
    let (proc_end, mut host_end) = linked(&Host::unix()).await;
    proc_end.sender.post(packet(1, large(MIB, 1))).unwrap();
    let got = part(&mut host_end).await;
    let [one, two] = [PrivateBytes::of(got.clone()).unwrap(), PrivateBytes::of(got.clone()).unwrap()];
    assert_ne!(one.pointer(), two.pointer());
    assert_eq!(one.len(), MIB);
    let small = got.slice(..LEAST_SHARED - 1);
    assert_eq!(PrivateBytes::of(small.clone()).unwrap_err(), small);
}

/// A link whose other end says what it likes.
fn with_a_stranger() -> (Link, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    let peer = Peer { pid: None, uid: None, address: "stranger".into() };
    (Link::on_this_machine(here, peer).unwrap(), there)
}

fn note(note: Note) -> BytesMut {
    let mut out = BytesMut::new();
    note.write(&mut out);
    out
}

fn referring(reference: Reference) -> BytesMut {
    let sent = packet(1, Bytes::from(vec![0; reference.length.min(10) as usize]));
    let mut out = BytesMut::new();
    encode_prefix_with(&sent, &[Some(reference)], &Limits::default(), &mut out).unwrap();
    write_reference(&reference, &mut out);
    out
}

async fn error_after(said: &[u8]) -> LinkError {
    let (mut link, mut stranger) = with_a_stranger();
    stranger.write_all(said).await.unwrap();
    soon(link.receiver.recv()).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn what_does_not_fit_to_what_was_said_ends_the_link() {
    for said in [
        Note::Accept { region: 0 },
        Note::Refuse { region: 0 },
        Note::Retire { region: 0 },
        Note::Release { reference: 0, stays: false },
        Note::Release { reference: u64::MAX, stays: true },
        Note::Offer { region: 0, length: 4096 },
        Note::Offer { region: 1, length: 4096 },
    ] {
        match error_after(&note(said)).await {
            LinkError::Protocol(ProtocolError::UnexpectedNote(found)) => assert_eq!(found, said),
            other => panic!("{other}"),
        }
    }
    for length in [0, 1, 1 << 30] {
        let reference = Reference { region: 0, offset: 0, length };
        match error_after(&referring(reference)).await {
            LinkError::Protocol(ProtocolError::Reference(found)) => assert_eq!(found, reference),
            other => panic!("{other}"),
        }
    }
}

/// Offers a region of one page-sized file in memory to `link` by hand.
async fn offer(stranger: &UnixStream, file: &std::os::fd::OwnedFd, region: u32, length: u64) {
    use std::os::fd::AsFd;
    let said = note(Note::Offer { region, length });
    stranger.writable().await.unwrap();
    let parts = [std::io::IoSlice::new(&said)];
    assert_eq!(
        procession_sys::send_stream(stranger.as_fd(), &parts, Some(file.as_fd())).unwrap(),
        said.len()
    );
}

async fn hear(stranger: &mut UnixStream) -> Vec<u8> {
    let mut said = vec![0; 16];
    soon(stranger.read_exact(&mut said)).await.unwrap();
    said
}

#[tokio::test]
async fn references_outside_of_an_accepted_region_end_the_link() {
    const SIZE: u64 = 8192;
    for (region, offset, length) in [(0, 0, SIZE + 1), (0, SIZE, 1), (0, u64::MAX, 2), (0, 0, 0), (1, 0, 1)] {
        let (mut link, mut stranger) = with_a_stranger();
        let file = procession_sys::sealed_memfd(c"test", &[7; SIZE as usize]).unwrap();
        offer(&stranger, &file, 0, SIZE).await;
        stranger.write_all(&referring(Reference { region: 0, offset: 1, length: 100 })).await.unwrap();
        let got = first_part(&mut link).await;
        assert!(holds(&got, 100, 7));
        assert_eq!(hear(&mut stranger).await, note(Note::Accept { region: 0 }));
        let wrong = Reference { region, offset, length };
        stranger.write_all(&referring(wrong)).await.unwrap();
        let error = soon(link.receiver.recv()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, LinkError::Protocol(ProtocolError::Reference(found)) if found == wrong),
            "{error}"
        );
        assert!(holds(&got, 100, 7), "what was received before is still there");
    }
}

#[tokio::test]
async fn a_region_that_cannot_be_trusted_is_refused_and_the_link_goes_on() {
    let (mut link, mut stranger) = with_a_stranger();
    let file = procession_sys::sealed_memfd(c"test", &[7; 8192]).unwrap();
    offer(&stranger, &file, 0, 8193).await;
    let socket = UnixStream::pair().unwrap().0.into_std().unwrap().into();
    let reading = tokio::spawn(async move { (link.receiver.recv().await, link.sender) });
    assert_eq!(hear(&mut stranger).await, note(Note::Refuse { region: 0 }));
    offer(&stranger, &socket, 1, 1).await;
    assert_eq!(hear(&mut stranger).await, note(Note::Refuse { region: 1 }));
    offer(&stranger, &file, 2, 8192).await;
    assert_eq!(hear(&mut stranger).await, note(Note::Accept { region: 2 }));
    stranger.write_all(&referring(Reference { region: 2, offset: 0, length: 8192 })).await.unwrap();
    let (got, _sender) = soon(reading).await.unwrap();
    assert!(holds(&got.unwrap().unwrap().parts[0], 8192, 7));
}

#[tokio::test]
async fn descriptors_that_nothing_is_said_about_end_the_link() {
    use std::os::fd::AsFd;
    let (mut link, stranger) = with_a_stranger();
    let file = procession_sys::sealed_memfd(c"test", &[7; 8192]).unwrap();
    for _ in 0..2 {
        let mut sent = BytesMut::new();
        encode_prefix(&packet(1, ""), &Limits::default(), &mut sent).unwrap();
        let parts = [std::io::IoSlice::new(&sent)];
        procession_sys::send_stream(stranger.as_fd(), &parts, Some(file.as_fd())).unwrap();
    }
    let mut results = Vec::new();
    while let Some(result) = soon(link.receiver.recv()).await {
        results.push(result);
    }
    let error = results.pop().unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Protocol(ProtocolError::Descriptors)), "{error}");
}

/// What a peer hears that notes what it is told of memory.
#[derive(Default)]
struct Heard(Vec<Note>);

impl PeerMemory for Heard {
    fn note(&mut self, note: Note) -> Result<(), ProtocolError> {
        self.0.push(note);
        Ok(())
    }

    fn view(&mut self, reference: Reference) -> Result<Bytes, ProtocolError> {
        Err(ProtocolError::Reference(reference))
    }
}

/// Reads until a packet is there.
async fn next(stranger: &mut UnixStream, buffer: &mut BytesMut, heard: &mut Heard) -> Packet {
    let mut decoder = Decoder::default();
    loop {
        if let Some(packet) = decoder.decode_with(buffer, heard).unwrap() {
            return packet;
        }
        assert_ne!(soon(stranger.read_buf(buffer)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_peer_that_refuses_gets_the_bytes_themselves() {
    let (mut link, mut stranger) = with_a_stranger();
    link.sender.post(packet(1, large(MIB, 5))).unwrap();
    link.sender.post(packet(2, "behind it")).unwrap();
    let offered = hear(&mut stranger).await;
    assert!(matches!((&offered[..2], &offered[2..8]), ([0xf5, 0x53], [1, 0, 0, 0, 0, 0])), "{offered:?}");
    stranger.write_all(&note(Note::Refuse { region: 0 })).await.unwrap();
    let reading = tokio::spawn(async move { link.receiver.recv().await.is_none() });
    let (mut buffer, mut heard) = (BytesMut::new(), Heard::default());
    let got = next(&mut stranger, &mut buffer, &mut heard).await;
    assert!(number(&got) == 1 && holds(&got.parts[0], MIB, 5));
    assert_eq!(number(&next(&mut stranger, &mut buffer, &mut heard).await), 2);
    link.sender.post(packet(3, large(MIB, 6))).unwrap();
    assert!(holds(&next(&mut stranger, &mut buffer, &mut heard).await.parts[0], MIB, 6));
    assert!(heard.0.is_empty() && !buffer.has_remaining() && !reading.is_finished(), "{:?}", heard.0);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_gets_the_bytes_themselves_after_a_second() {
    let (link, mut stranger) = with_a_stranger();
    link.sender.post(packet(1, large(MIB, 5))).unwrap();
    link.sender.post(packet(2, large(80 * MIB, 6))).unwrap();
    let (mut buffer, mut heard) = (BytesMut::new(), Heard::default());
    assert!(holds(&next(&mut stranger, &mut buffer, &mut heard).await.parts[0], MIB, 5));
    assert!(holds(&next(&mut stranger, &mut buffer, &mut heard).await.parts[0], 80 * MIB, 6));
    assert_eq!(heard.0.len(), 1, "{:?}", heard.0);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_gets_everything_when_the_link_is_closed() {
    let (link, mut stranger) = with_a_stranger();
    for index in 0..3 {
        link.sender.post(packet(index, large(MIB, 5))).unwrap();
    }
    assert!(link.sender.pending_bytes() > 3 * MIB as u64);
    let offered = hear(&mut stranger).await;
    assert_eq!(offered[2], 1);
    link.sender.close();
    let (mut buffer, mut heard) = (BytesMut::new(), Heard::default());
    for index in 0..3 {
        let got = next(&mut stranger, &mut buffer, &mut heard).await;
        assert!(number(&got) == index && holds(&got.parts[0], MIB, 5));
    }
    soon(link.sender.flushed()).await.unwrap();
    assert_eq!(link.sender.pending_bytes(), 0);
    assert_eq!(soon(stranger.read_buf(&mut buffer)).await.unwrap(), 0);
}
