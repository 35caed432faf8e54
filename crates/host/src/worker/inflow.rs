use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use procession_actor::{Answer, Held};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How long an exit waits for a reader that does not read on, and for one that does.
const IDLE: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(1);

/// One stream of a proc on a worker, as it arrives.
#[derive(Default)]
pub(super) struct Inflow {
    state: Mutex<State>,
    /// A piece of it was read.
    read: Notify,
}

#[derive(Default)]
struct State {
    /// With what is let go of once it was read: then the worker reads on.
    pieces: VecDeque<(Bytes, Vec<Arc<Held>>)>,
    has_ended: bool,
    reader_gone: bool,
    reader: Option<Waker>,
}

impl Inflow {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has arrived; an empty piece is the last.
    pub(super) fn take(&self, answer: Answer) {
        let Answer::Value { parts, mut claims, .. } = answer else { return self.finish() };
        let bytes = parts.into_iter().next().unwrap_or_default();
        if bytes.is_empty() {
            return self.finish();
        }
        let mut state = self.state();
        if !state.reader_gone {
            state.pieces.push_back((bytes, claims.take_all()));
        }
        let waker = state.reader.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nothing more comes.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let waker = state.reader.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Inflow {
    /// Waits until what has arrived was read: of what is read only after the exit some may be cut off. Not long, and
    /// shorter still for a reader that is not there, or held up.
    pub(super) async fn read_out(&self) {
        let start = Instant::now();
        loop {
            let mut read = std::pin::pin!(self.read.notified());
            read.as_mut().enable();
            if self.state().pieces.is_empty() {
                return;
            }
            let bound = IDLE.min(MOST.saturating_sub(start.elapsed()));
            if timeout(bound, read).await.is_err() {
                return;
            }
        }
    }
}

/// The reading end of it.
pub(super) struct Outlet(pub(super) Arc<Inflow>);

impl AsyncRead for Outlet {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        let Some((bytes, _)) = state.pieces.front_mut() else {
            if state.has_ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let size = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..size]);
        bytes.advance(size);
        let read = if bytes.is_empty() { state.pieces.pop_front() } else { None };
        drop(state);
        // What it lets go of is told to the worker, and not under a lock.
        if read.is_some() {
            self.0.read.notify_waiters();
        }
        drop(read);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reader_gone = true;
        let unread = std::mem::take(&mut state.pieces);
        drop(state);
        self.0.read.notify_waiters();
        drop(unread);
    }
}
