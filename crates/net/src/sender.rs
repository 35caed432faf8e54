use std::fmt;
use std::sync::Arc;

use procession_model::Packet;
use procession_wire::ProtocolError;

use crate::LinkError;
use crate::outbox::Outbox;

/// The sending end of a link. When its last clone is dropped, the link is closed.
#[derive(Clone)]
pub struct LinkSender(Arc<Last>);

/// What the clones share.
struct Last(Arc<Outbox>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Why a packet was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The link is closed.
    #[error("the connection was lost")]
    Closed,
    /// The peer has taken nothing for a while, and too much waits for it already; small packets that
    /// carry no message are still taken.
    #[error(
        "{waiting} bytes wait for it and it takes none, where the limit is {limit}: it is stopped, or cannot be reached; send less before it answers"
    )]
    Full {
        /// How much waits.
        waiting: u64,
        /// How much may.
        limit: u64,
    },
    /// The packet is over a limit of the protocol; the link takes others.
    #[error(transparent)]
    Refused(#[from] ProtocolError),
}

impl LinkSender {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self(Arc::new(Last(outbox)))
    }

    /// Queues a packet; never blocks, and may be called from any thread. Packets arrive in the
    /// order in which they were posted.
    ///
    /// # Errors
    /// The packet comes back when the link is closed, when it is over a limit of the protocol, and when
    /// 64 MiB wait for a peer that has taken nothing for 2 s. A packet that was taken is lost when the link breaks before it is written.
    #[expect(clippy::result_large_err, reason = "the packet is the caller's own, given back")]
    pub fn post(&self, packet: Packet) -> Result<(), (Packet, PostError)> {
        self.0.0.post(packet)
    }

    /// Takes nothing more, writes what was posted, then tells the peer that this was all. A peer
    /// that takes nothing for 10 s loses the rest.
    pub fn close(&self) {
        self.0.0.close();
    }

    /// Takes and writes nothing more, at once; what has arrived can still be read, and then the link ends, whether or not
    /// its peer has closed it. Of a link to another machine this is [`Self::close`].
    pub fn hang_up(&self) {
        self.0.0.hang_up();
    }

    /// Whether the link takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.0.0.is_closed()
    }

    /// Bytes that were posted and that the kernel has not taken yet.
    pub fn pending_bytes(&self) -> u64 {
        self.0.0.pending_bytes()
    }

    /// Waits until the kernel has everything that was posted before this call, and, on a closed
    /// link, until the peer was told of the end. Cancel safe.
    ///
    /// # Errors
    /// The link broke first.
    pub async fn flushed(&self) -> Result<(), LinkError> {
        self.0.0.flushed().await
    }
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSender")
            .field("pending_bytes", &self.pending_bytes())
            .field("closed", &self.is_closed())
            .finish()
    }
}
