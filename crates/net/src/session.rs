use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use procession_wire::{ProtocolError, Record};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};

use crate::kept::Kept;

/// How many bytes that have arrived may wait for their reader: what the peer is given room for. What it
/// says of this end's own bytes never waits behind them.
const ROOM: u64 = 4 << 20;
/// After how many bytes the peer is told that they have arrived, when nothing else is sent to it.
const TELL_AFTER: u64 = 64 << 10;

/// A stream of bytes in each direction that outlives the connections which carry it.
///
/// What arrives is confirmed, and what is not confirmed is kept and sent again over the next connection.
pub(crate) struct Session {
    state: Mutex<State>,
    /// There may be something to send.
    pub(crate) to_send: Notify,
    /// Whether there is a connection.
    pub(crate) reachable: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    kept: Kept,
    /// The peer has said on this connection how much it has.
    synced: bool,
    unread: BytesMut,
    received: u64,
    /// What of that was read.
    consumed: u64,
    /// What the peer was told on this connection: what has arrived, and what there is room for.
    told: Option<(u64, u64)>,
    peer_ended: bool,
    reader_gone: bool,
    writer_gone: bool,
    over: Option<Over>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Over {
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// There is no connection any more, and there will be none.
    Lost(ErrorKind, String),
}

impl Over {
    fn error(&self) -> io::Error {
        match self {
            Self::Protocol(error) => io::Error::new(ErrorKind::InvalidData, error.clone()),
            Self::Lost(kind, why) => io::Error::new(*kind, why.clone()),
        }
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

impl State {
    fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

impl Session {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), to_send: Notify::new(), reachable: watch::channel(true).0 })
    }

    /// Its two ends for those who use it; each once.
    pub(crate) fn ends(self: &Arc<Self>) -> (SessionReader, SessionWriter) {
        (SessionReader(Arc::clone(self)), SessionWriter(Arc::clone(self)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection begins.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        (state.synced, state.told) = (false, None);
        drop(state);
        self.reachable.send_if_modified(|up| !std::mem::replace(up, true));
    }

    /// Appends what is to be sent now to `out`.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let mut state = self.state();
        if state.synced {
            state.kept.write(out);
        }
        let (count, limit) = (state.received, state.consumed + ROOM);
        let is_due = state.told.is_none_or(|(told, allowed)| {
            let news = count > told || limit > allowed;
            let much = count - told >= TELL_AFTER || limit - allowed >= ROOM / 4;
            much || news && (state.peer_ended || !out.is_empty())
        });
        if is_due {
            Record::Received { count, limit }.write(out);
            state.told = Some((count, limit));
        }
    }

    /// The kernel has everything that was written.
    pub(crate) fn wrote(&self) {
        let mut state = self.state();
        state.kept.wrote();
        wake(&mut state.writer);
    }

    /// Takes a record that has arrived.
    pub(crate) fn take(&self, record: Record) -> Result<(), ProtocolError> {
        let mut state = self.state();
        match record {
            Record::Data(bytes) => state.arrived(&bytes)?,
            Record::Received { count, limit } => {
                if state.synced {
                    state.kept.confirm(count)?;
                } else {
                    state.kept.rewind(count)?;
                    state.synced = true;
                }
                state.kept.allow(limit);
            }
            Record::End if state.peer_ended => return Err(ProtocolError::TrailingBytes),
            Record::End => {
                state.peer_ended = true;
                state.received += 1;
            }
        }
        state.wake();
        drop(state);
        self.to_send.notify_one();
        Ok(())
    }

    /// Both directions have ended, and both ends know it; or nobody is interested any more.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state();
        let told = state.told.is_some_and(|(count, _)| count == state.received);
        state.over.is_some()
            || state.kept.is_settled() && state.peer_ended && told
            || state.reader_gone && state.writer_gone
    }

    /// The connection is lost; whether the session can go on over another one.
    pub(crate) fn lose(&self) -> bool {
        let state = self.state();
        let unwanted = state.reader_gone && state.writer_gone;
        let has_ended = state.over.is_some() || state.peer_ended || state.kept.is_settled() || unwanted;
        drop(state);
        if !has_ended {
            self.reachable.send_replace(false);
        }
        !has_ended
    }

    /// It ends here, for its users after what has arrived.
    pub(crate) fn end(&self, over: Over) {
        let mut state = self.state();
        state.over.get_or_insert(over);
        state.wake();
        drop(state);
        self.to_send.notify_one();
    }
}

impl State {
    fn arrived(&mut self, bytes: &Bytes) -> Result<(), ProtocolError> {
        if self.peer_ended {
            return Err(ProtocolError::TrailingBytes);
        }
        let (count, limit) = (self.received + bytes.len() as u64, self.consumed + ROOM);
        if count > limit {
            return Err(ProtocolError::Room { count, limit });
        }
        self.received = count;
        if self.reader_gone {
            self.consumed = count;
        } else {
            self.unread.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// Where the bytes of the peer come out.
pub(crate) struct SessionReader(Arc<Session>);

/// Where bytes for the peer go in. What is flushed a kernel has; what is shut down the peer has.
pub(crate) struct SessionWriter(Arc<Session>);

impl AsyncRead for SessionReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if !state.unread.is_empty() {
            let size = state.unread.len().min(buffer.remaining());
            buffer.put_slice(&state.unread[..size]);
            state.unread.advance(size);
            state.consumed += size as u64;
            if state.unread.is_empty() {
                state.unread = BytesMut::new();
            }
            drop(state);
            self.0.to_send.notify_one();
            return Poll::Ready(Ok(()));
        }
        if state.peer_ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(over) = &state.over {
            return Poll::Ready(Err(over.error()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl SessionWriter {
    /// Ready once `done` holds of what was kept, or the session is over.
    fn poll_until(&self, cx: &Context<'_>, done: fn(&Kept) -> bool) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if done(&state.kept) {
            return Poll::Ready(Ok(()));
        }
        if let Some(over) = &state.over {
            return Poll::Ready(Err(over.error()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SessionWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.state();
        if let Some(over) = &state.over {
            return Poll::Ready(Err(over.error()));
        }
        if state.kept.has_ended() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let taken = state.kept.push(bytes);
        if taken == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.0.to_send.notify_one();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_until(cx, Kept::is_handed_over)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.state().kept.end();
        self.0.to_send.notify_one();
        self.poll_until(cx, Kept::is_settled)
    }
}

impl Drop for SessionReader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reader_gone = true;
        state.unread = BytesMut::new();
        state.consumed = state.received;
        drop(state);
        self.0.to_send.notify_one();
    }
}

impl Drop for SessionWriter {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.writer_gone = true;
        let settled = state.kept.is_settled();
        drop(state);
        if !settled {
            // Its user has given up: what is not confirmed by now is lost.
            self.0.end(Over::Lost(ErrorKind::BrokenPipe, "the link was given up".to_owned()));
        }
        self.0.to_send.notify_one();
    }
}
