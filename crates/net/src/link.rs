use std::io;
use std::sync::Arc;
use std::time::Duration;

use procession_wire::ProtocolError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::carrier::{Connection, Next, carry};
use crate::outbox::{Outbox, write_out};
use crate::session::Session;
use crate::shared::{Received, StreamReader, StreamWriter, keep_time, split};
use crate::{LinkReceiver, LinkSender};

/// A connection to a peer that has proved itself.
#[derive(Debug)]
pub struct Link {
    /// Where packets go in.
    pub sender: LinkSender,
    /// Where packets come out.
    pub receiver: LinkReceiver,
    /// Who is at the other end.
    pub peer: Peer,
    /// Whether the peer can be reached now; none where the end of the connection is that of the link.
    pub reachable: Option<watch::Receiver<bool>>,
}

/// Who is at the other end of a link, as far as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process, on a unix socket.
    pub pid: Option<u32>,
    /// Its user, on a unix socket.
    pub uid: Option<u32>,
    /// Where it is, for people.
    pub address: String,
}

/// Why a link ended other than by its peer's end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer sent what is not a packet.
    #[error("the peer broke the protocol: {0}; install the same release at both ends")]
    Protocol(#[from] ProtocolError),
    /// The peer went in the middle of a packet.
    #[error(
        "the peer left in the middle of a packet: {have} bytes had arrived, at least {missing} were to come; its own log or exit says why"
    )]
    CutOff {
        /// Bytes of it that had arrived.
        have: usize,
        /// Bytes that had not, as far as was known.
        missing: usize,
    },
    /// There is no memory for a packet.
    #[error("there was no memory for {size} bytes of a packet: send it in several smaller messages")]
    Memory {
        /// Its bytes that had arrived, and those that were to be read next.
        size: usize,
    },
    /// The connection failed.
    #[error("the connection failed: {0}; check the network between the two ends")]
    Io(#[source] io::Error),
    /// The link was closed or broke with packets still to be written.
    #[error("the link ended with {unsent} bytes unsent; what they were meant for has to be done again")]
    Closed {
        /// Bytes that were posted and never written.
        unsent: u64,
    },
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.downcast() {
            Ok(protocol) => Self::Protocol(protocol),
            Err(error) => Self::Io(error),
        }
    }
}

impl Link {
    /// A link over a connection whose ends trust each other. Has to be called inside a runtime,
    /// where it spawns the task that writes.
    pub fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        peer: Peer,
    ) -> Self {
        Self::with(Outbox::default(), reader, writer, None, peer)
    }

    /// A link to a process of this machine, which sees large payloads where they are instead of getting copies; who posts what
    /// nothing waits before writes it out at once. Has to be called inside a runtime, as [`Self::over`].
    ///
    /// # Errors
    /// The runtime has ended.
    pub fn on_this_machine(stream: UnixStream, peer: Peer) -> io::Result<Self> {
        Ok(Self::between(split(stream)?, peer))
    }

    pub(crate) fn between((reader, writer): (StreamReader, StreamWriter), peer: Peer) -> Self {
        keep_time();
        let outbox = Outbox::sharing(writer.ends());
        let shared = outbox.shared.clone().map(|outgoing| Received::new(outgoing, writer.ends()));
        Self::with(outbox, reader, writer, shared, peer)
    }

    fn with(
        outbox: Outbox,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        shared: Option<Received>,
        peer: Peer,
    ) -> Self {
        let outbox = Arc::new(outbox);
        tokio::spawn(write_out(outbox.clone(), writer));
        Self {
            sender: LinkSender::new(outbox.clone()),
            receiver: LinkReceiver::new(Box::new(reader), outbox, shared),
            peer,
            reachable: None,
        }
    }

    /// A link that goes on over another connection when one is lost, unless there is none for as long as
    /// `lease`.
    pub(crate) fn resumable(connection: Connection, next: Next, lease: Duration, peer: Peer) -> Self {
        let session = Session::new();
        let (reader, writer) = session.ends();
        let reachable = Some(session.reachable.subscribe());
        tokio::spawn(carry(session, connection, next, lease));
        Self { reachable, ..Self::over(reader, writer, peer) }
    }
}
