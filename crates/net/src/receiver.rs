use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use procession_model::Packet;
use procession_wire::Decoder;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::LinkError;
use crate::outbox::Outbox;
use crate::shared::Received;

/// What is read at once; a packet of more is read by itself.
const READ: usize = 64 << 10;
/// Less room than this is not worth a system call.
const LEAST_ROOM: usize = 4 << 10;

/// The receiving end of a link. Dropping it closes the link.
pub struct LinkReceiver {
    io: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    decoder: Decoder,
    outbox: Arc<Outbox>,
    shared: Option<Received>,
    ended: bool,
}

impl LinkReceiver {
    pub(crate) fn new(
        io: Box<dyn AsyncRead + Send + Unpin>,
        outbox: Arc<Outbox>,
        shared: Option<Received>,
    ) -> Self {
        Self { io, buffer: BytesMut::new(), decoder: Decoder::default(), outbox, shared, ended: false }
    }

    /// The next packet; none when the peer has closed the link or is gone. Cancel safe.
    ///
    /// # Errors
    /// The peer broke the protocol or left in the middle of a packet. Nothing follows an error,
    /// and with it, as with the end, the link is closed.
    pub async fn recv(&mut self) -> Option<Result<Packet, LinkError>> {
        // A peer that never stops talking must not keep other tasks from running.
        tokio::task::coop::consume_budget().await;
        if self.ended {
            return None;
        }
        let result = self.read().await.transpose();
        if !matches!(result, Some(Ok(_))) {
            self.ended = true;
            self.outbox.close();
        }
        result
    }

    async fn read(&mut self) -> Result<Option<Packet>, LinkError> {
        loop {
            let before = self.buffer.len();
            let decoded = match &mut self.shared {
                Some(shared) => self.decoder.decode_with(&mut self.buffer, shared),
                None => self.decoder.decode(&mut self.buffer),
            };
            if let Some(packet) = decoded? {
                if before - self.buffer.len() > READ {
                    // Its memory goes with the packet, and not at the end of the link.
                    self.buffer = BytesMut::from(&self.buffer[..]);
                }
                return Ok(Some(packet));
            }
            let missing = self.decoder.missing(&self.buffer);
            let is_big = before + missing > READ;
            let (least, room, most) = if is_big {
                // A length field is only a promise: memory follows what has arrived. What comes after a
                // big packet is not read into its memory, which it would hold on to.
                (LEAST_ROOM.min(missing), missing.min(before.max(READ)), missing)
            } else {
                (LEAST_ROOM, READ, usize::MAX)
            };
            if self.buffer.capacity() - before < least {
                if is_big {
                    grow(&mut self.buffer, room)?;
                } else {
                    self.buffer.reserve(room);
                }
            }
            match self.io.read_buf(&mut (&mut self.buffer).limit(most)).await {
                Ok(0) => return self.end(),
                Ok(_) => {}
                Err(error) if is_death(&error) => return self.end(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn end(&self) -> Result<Option<Packet>, LinkError> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        Err(LinkError::CutOff { have: self.buffer.len(), missing: self.decoder.missing(&self.buffer) })
    }
}

/// Makes room for more of a packet whose size its sender has chosen: that there is no memory for it must not be
/// the end of this process, as it is with `reserve`.
fn grow(buffer: &mut BytesMut, room: usize) -> Result<(), LinkError> {
    let mut bytes = Vec::from(mem::take(buffer));
    let grown = bytes.try_reserve_exact(room);
    let size = bytes.len().saturating_add(room);
    *buffer = BytesMut::from(Bytes::from(bytes));
    grown.map_err(|_| LinkError::Memory { size })
}

/// How the kernel, or TLS, reports a peer that died instead of closing.
fn is_death(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl fmt::Debug for LinkReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkReceiver")
            .field("buffered", &self.buffer.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use procession_model::Head;

    use super::*;
    use crate::{Link, Peer};

    fn packet(size: usize) -> Packet {
        Packet { head: Head::Welcome, parts: vec![Bytes::from(vec![7; size])] }
    }

    /// A link whose ends are both here.
    fn pair() -> (Link, Link) {
        let ends = tokio::io::duplex(1 << 20);
        let [near, far] = [ends.0, ends.1].map(|end| {
            let (reader, writer) = tokio::io::split(end);
            Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
        });
        (near, far)
    }

    #[tokio::test]
    async fn the_memory_of_a_big_packet_goes_with_it() {
        const BIG: usize = 16 << 20;
        let (near, mut far) = pair();
        let sizes = [1, BIG, 10, READ, 10, READ + 1, 10, READ * 2, 10, BIG, 10, 10];
        for size in sizes {
            near.sender.post(packet(size)).unwrap();
        }
        let mut kept = Vec::new();
        for size in sizes {
            let mut received = far.receiver.recv().await.unwrap().unwrap();
            let part = received.parts.remove(0);
            assert_eq!(part.len(), size);
            assert!(far.receiver.buffer.capacity() <= 8 * READ, "{}", far.receiver.buffer.capacity());
            if size > READ {
                kept.push(part);
            }
        }
        // The small packets behind the big ones were read into memory of their own.
        assert_eq!(kept.iter().filter(|part| part.len() == BIG && part.is_unique()).count(), 2);
    }

    #[tokio::test]
    async fn a_small_packet_that_is_kept_keeps_little_memory() {
        let (near, mut far) = pair();
        let mut kept = Vec::new();
        for _ in 0..50 {
            near.sender.post(packet(1 << 20)).unwrap();
            near.sender.post(packet(1)).unwrap();
            let big = far.receiver.recv().await.unwrap().unwrap();
            kept.push(far.receiver.recv().await.unwrap().unwrap());
            assert!(big.parts[0].is_unique(), "the small packet shares the big one's memory");
        }
    }

    mod f82 {
        use super::*;

        #[test]
        fn room_that_cannot_be_had_is_an_error_and_costs_nothing_that_is_there() {
            let mut buffer = BytesMut::from(&b"what has arrived"[..]);
            let error = grow(&mut buffer, isize::MAX as usize - 100).unwrap_err();
            assert!(error.to_string().contains("no memory for"), "{error}");
            assert_eq!(buffer, "what has arrived");
            grow(&mut buffer, 1 << 20).unwrap();
            assert_eq!(buffer, "what has arrived");
            assert!(buffer.capacity() >= 1 << 20);
        }
    }
}
