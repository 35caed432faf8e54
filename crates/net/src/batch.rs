use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use procession_model::Packet;
use procession_wire::{Limits, ProtocolError, encode_prefix_with, write_reference};

use crate::shared::Outgoing;

/// Copying a part up to this size costs less than a slot of its own in a vectored write.
const COPY_UP_TO: usize = 4 << 10;
/// How many pieces the list of chunks keeps room for.
const CHUNKS: usize = 64;
/// Where the current buffer ends and the next one starts; growing further would mean copying.
const CHUNK: usize = 256 << 10;

/// Encoded packets on their way out, in order: whole chunks, then the one that is being filled.
#[derive(Default)]
pub(crate) struct Batch {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Batch {
    /// Appends a packet and returns how many bytes it makes. What lies in memory that the peer of `shared` can see is only referred to.
    pub(crate) fn push(
        &mut self,
        packet: &Packet,
        limits: &Limits,
        shared: Option<&Arc<Outgoing>>,
    ) -> Result<usize, ProtocolError> {
        let references = shared.map(|shared| shared.references(packet)).unwrap_or_default();
        if self.tail.len() >= CHUNK {
            self.seal();
        }
        let before = self.tail.len();
        encode_prefix_with(packet, &references, limits, &mut self.tail)?;
        let mut bytes = self.tail.len() - before;
        for (index, part) in packet.parts.iter().enumerate() {
            if let Some(Some(reference)) = references.get(index) {
                let before = self.tail.len();
                write_reference(reference, &mut self.tail);
                bytes += self.tail.len() - before;
                continue;
            }
            bytes += part.len();
            if part.len() <= COPY_UP_TO {
                self.tail.extend_from_slice(part);
            } else {
                self.seal();
                self.chunks.push_back(part.clone());
            }
        }
        if let Some(shared) = shared {
            shared.written(packet, &references);
        }
        Ok(bytes)
    }

    /// Appends what is to be said of shared memory, and returns how many bytes that makes.
    pub(crate) fn push_notes(&mut self, shared: &Outgoing) -> usize {
        shared.write_notes(&mut self.tail)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Gives memory back that an unusual burst has taken; what has been written is gone already.
    pub(crate) fn trim(&mut self) {
        if self.tail.capacity() > CHUNK {
            self.tail = BytesMut::new();
        }
        self.chunks.shrink_to(CHUNKS);
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    fn has_remaining(&self) -> bool {
        !self.chunks.is_empty() || !self.tail.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail, |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (slot, piece) in dst.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
        // An emptied buffer is cleared rather than advanced, so that its memory is used again.
        if count == self.tail.len() { self.tail.clear() } else { self.tail.advance(count) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use procession_model::Head;
    use procession_wire::encode_prefix;

    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in_however_it_is_taken() {
        let limits = Limits::default();
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        for size in [0, 1, COPY_UP_TO, COPY_UP_TO + 1, CHUNK, 3, CHUNK * 2, 7] {
            let parts = vec![Bytes::from(vec![size as u8; size]), Bytes::from_static(b"end")];
            let packet = Packet { head: Head::Ready { pid: size as u32 }, parts };
            let before = batch.remaining();
            let bytes = batch.push(&packet, &limits, None).unwrap();
            assert_eq!(batch.remaining(), before + bytes);
            let mut prefix = BytesMut::new();
            encode_prefix(&packet, &limits, &mut prefix).unwrap();
            expected.extend_from_slice(&prefix);
            packet.parts.iter().for_each(|part| expected.extend_from_slice(part));
        }
        let mut seen = Vec::new();
        let mut step = 1;
        while batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = batch.chunks_vectored(&mut slices);
            let mut left = step;
            for slice in &slices[..filled] {
                let taken = slice.len().min(left);
                seen.extend_from_slice(&slice[..taken]);
                left -= taken;
            }
            batch.advance(step - left);
            step = (step * 3 + 1) % 100_003 + 1;
        }
        assert_eq!(batch.remaining(), 0);
        assert!(seen == expected);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let part = Bytes::from(vec![0; COPY_UP_TO + 1]);
        let mut batch = Batch::default();
        for index in 0..10_000 {
            let packet = Packet { head: Head::Ready { pid: index }, parts: vec![part.clone()] };
            batch.push(&packet, &Limits::default(), None).unwrap();
        }
        batch.advance(batch.remaining());
        batch.trim();
        assert!(batch.chunks.capacity() <= 2 * CHUNKS, "room for {} pieces", batch.chunks.capacity());
        assert!(batch.tail.capacity() <= 2 * CHUNK, "{} bytes", batch.tail.capacity());
    }
}
