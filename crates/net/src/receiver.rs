use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::BytesMut;
use procession_model::Packet;
use procession_wire::Decoder;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::LinkError;
use crate::outbox::Outbox;

/// What is read at once.
const READ: usize = 64 << 10;
/// Less room than this is not worth a system call.
const LEAST_ROOM: usize = 4 << 10;

/// The receiving end of a link. Dropping it closes the link.
pub struct LinkReceiver {
    io: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    decoder: Decoder,
    outbox: Arc<Outbox>,
    ended: bool,
}

impl LinkReceiver {
    pub(crate) fn new(io: Box<dyn AsyncRead + Send + Unpin>, outbox: Arc<Outbox>) -> Self {
        Self { io, buffer: BytesMut::new(), decoder: Decoder::default(), outbox, ended: false }
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
            if let Some(packet) = self.decoder.decode(&mut self.buffer)? {
                return Ok(Some(packet));
            }
            if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM {
                // A length field is only a promise: memory follows what has arrived.
                let missing = self.decoder.missing(&self.buffer);
                self.buffer.reserve(missing.min(self.buffer.len()).max(READ));
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) => return self.end(),
                Ok(_) => {}
                Err(error) if is_death(&error) => return self.end(),
                Err(error) => return Err(LinkError::Io(error)),
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
