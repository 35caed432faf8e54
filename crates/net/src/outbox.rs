use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use procession_model::{Head, Packet};
use procession_wire::{Limits, ProtocolError, encode_prefix};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::batch::Batch;
use crate::shared::{ANSWER, Ends, Outgoing};
use crate::{LinkError, PostError};

/// How long a closed link waits for a peer that takes nothing more.
const LINGER: Duration = Duration::from_secs(10);
/// How many bytes may wait for a peer that takes none, and for how long it may take none before it
/// counts: who only sends fast is not refused.
pub(crate) const MOST_WAITING: u64 = 64 << 20;
const STALL: Duration = Duration::from_secs(2);
/// As many pieces as the kernel takes with little ado.
const PIECES: usize = 16;

/// What was posted on a link and has not left yet.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Something was posted, or the link was closed: the writer has work.
    work: Arc<Notify>,
    /// Something was written, or the writer ended: flushers look again.
    progress: Notify,
    /// The link was closed: a stuck writer starts to count.
    closing: Notify,
    /// What the peer can see of this process's memory, where both are on one machine.
    pub(crate) shared: Option<Arc<Outgoing>>,
}

struct State {
    batch: Batch,
    /// The writer has taken what came before, and is not done with it.
    writing: bool,
    /// Where whoever posts may write itself, while the link lives.
    direct: Option<Arc<Ends>>,
    /// What follows after the peer has said whether it sees the memory that the first of them lies in, each with its bytes. They count as posted.
    behind: VecDeque<(Packet, u64)>,
    posted: u64,
    written: u64,
    /// When the peer has last taken something, or there began to be something to take.
    moved: Instant,
    closing: bool,
    ended: bool,
}

impl Default for State {
    fn default() -> Self {
        let batch = Batch::default();
        let behind = VecDeque::new();
        Self {
            batch,
            writing: false,
            direct: None,
            behind,
            posted: 0,
            written: 0,
            moved: Instant::now(),
            closing: false,
            ended: false,
        }
    }
}

impl State {
    #[expect(clippy::result_large_err, reason = "as `Outbox::post`")]
    fn put_behind(&mut self, packet: Packet) -> Result<(), (Packet, PostError)> {
        match whole_length(&packet) {
            Ok(bytes) => {
                self.posted += bytes;
                self.behind.push_back((packet, bytes));
                Ok(())
            }
            Err(error) => Err((packet, PostError::Refused(error))),
        }
    }

    /// Encodes what need not wait for an answer of the peer any more, and what is to be said of shared memory.
    fn advance(&mut self, shared: &Arc<Outgoing>) {
        while let Some((packet, bytes)) = self.behind.pop_front() {
            if !self.closing && shared.has_to_ask(&packet) {
                self.behind.push_front((packet, bytes));
                break;
            }
            // It was found to be within the limits when it was posted.
            let made = self.batch.push(&packet, &Limits::default(), Some(shared));
            let made = made.inspect_err(|error| tracing::error!(%error, "a packet was dropped")).unwrap_or(0);
            // What is not written of it counts as written.
            self.written += bytes - made as u64;
        }
        self.posted += self.batch.push_notes(shared) as u64;
    }

    /// Writes what is posted, as far as the peer takes it; whether that was all. What goes wrong the writer meets again.
    fn write_through(&mut self) -> bool {
        let Some(direct) = &self.direct else { return false };
        while self.batch.has_remaining() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = self.batch.chunks_vectored(&mut pieces);
            let Ok(written @ 1..) = direct.try_write(&pieces[..count]) else { return false };
            self.batch.advance(written);
            self.written += written as u64;
        }
        true
    }

    fn waiting(&self) -> u64 {
        self.posted - self.written
    }

    /// Whether there is no room for `packet`. What only keeps the books is always taken: whoever waits
    /// for an answer depends on it, and it is small.
    fn is_full_for(&self, packet: &Packet) -> bool {
        matches!(packet.head, Head::Deliver { .. } | Head::Send { .. })
            && self.waiting() >= MOST_WAITING
            && self.moved.elapsed() >= STALL
    }
}

/// How many bytes a packet makes that refers to nothing.
fn whole_length(packet: &Packet) -> Result<u64, ProtocolError> {
    let mut prefix = BytesMut::new();
    encode_prefix(packet, &Limits::default(), &mut prefix)?;
    Ok(prefix.len() as u64 + packet.parts.iter().map(|part| part.len() as u64).sum::<u64>())
}

impl Outbox {
    /// One for a link that takes descriptors along, and which whoever posts may write to as long as the writer has nothing
    /// to do.
    pub(crate) fn sharing(ends: Arc<Ends>) -> Self {
        let work = Arc::<Notify>::default();
        let shared = Some(Outgoing::new(work.clone(), Arc::clone(&ends)));
        let outbox = Self { work, shared, ..Self::default() };
        outbox.state().direct = Some(ends);
        outbox
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The packet is the caller's own, given back.
    #[expect(clippy::result_large_err, reason = "boxing would cost an allocation for each failed post")]
    pub(crate) fn post(&self, packet: Packet) -> Result<(), (Packet, PostError)> {
        let mut state = self.state();
        if state.closing {
            return Err((packet, PostError::Closed));
        }
        if state.is_full_for(&packet) {
            let waiting = state.waiting();
            return Err((packet, PostError::Full { waiting, limit: MOST_WAITING }));
        }
        if state.waiting() == 0 {
            state.moved = Instant::now();
        }
        if let Some(shared) = &self.shared
            && (!state.behind.is_empty() || shared.has_to_ask(&packet))
        {
            return state.put_behind(packet);
        }
        let idle = !state.batch.has_remaining();
        let nothing_waits = idle && !state.writing;
        match state.batch.push(&packet, &Limits::default(), self.shared.as_ref()) {
            Ok(bytes) => state.posted += bytes as u64,
            Err(error) => return Err((packet, PostError::Refused(error))),
        }
        // On a thread of the runtime the writer comes next, and writes all at once that is posted until then.
        let written = nothing_waits && Handle::try_current().is_err() && state.write_through();
        drop(state);
        if written {
            self.progress.notify_waiters();
        } else if idle {
            self.work.notify_one();
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        let first = !std::mem::replace(&mut self.state().closing, true);
        if first {
            self.work.notify_one();
            self.closing.notify_one();
        }
    }

    pub(crate) fn hang_up(&self) {
        self.close();
        if let Some(shared) = &self.shared {
            shared.hang_up();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closing
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.state().waiting()
    }

    pub(crate) async fn flushed(&self) -> Result<(), LinkError> {
        let goal = self.state().posted;
        loop {
            let progress = self.progress.notified();
            {
                let state = self.state();
                let arrived = state.written >= goal;
                if arrived && (state.ended || !state.closing) {
                    return Ok(());
                }
                if state.ended {
                    return Err(LinkError::Closed { unsent: state.waiting() });
                }
            }
            progress.await;
        }
    }

    /// Swaps what was posted into the empty `batch`; false when nothing was and nothing will be.
    async fn take(&self, batch: &mut Batch) -> bool {
        loop {
            let nothing_behind = {
                let mut state = self.state();
                if let Some(shared) = &self.shared {
                    state.advance(shared);
                }
                state.writing = state.batch.has_remaining();
                if state.writing {
                    std::mem::swap(&mut state.batch, batch);
                    return true;
                }
                if state.closing {
                    return false;
                }
                state.behind.is_empty()
            };
            if nothing_behind {
                self.work.notified().await;
            } else {
                // Whether for an answer or in vain, it looks again.
                let _ = timeout(ANSWER, self.work.notified()).await;
            }
        }
    }

    fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        state.written += bytes as u64;
        state.moved = Instant::now();
        drop(state);
        self.progress.notify_waiters();
    }

    /// Resolves when the link is closed and the caller has then waited in vain.
    async fn lingered(&self) {
        if !self.is_closed() {
            self.closing.notified().await;
        }
        tokio::time::sleep(LINGER).await;
    }
}

/// Tells those who post or flush that nobody writes any more.
struct Ended(Arc<Outbox>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.closing, state.ended) = (true, true);
        let rest = (std::mem::take(&mut state.batch), std::mem::take(&mut state.behind), state.direct.take());
        drop(state);
        drop(rest);
        if let Some(shared) = &self.0.shared {
            shared.end();
        }
        self.0.progress.notify_waiters();
    }
}

/// Writes what is posted until the link is closed or broken; one task per link.
pub(crate) fn write_out<W: AsyncWrite + Unpin>(
    outbox: Arc<Outbox>,
    mut io: W,
) -> impl Future<Output = ()> + use<W> {
    // Made before the first poll, because a runtime that ends may never poll the task.
    let ended = Ended(outbox);
    async move {
        let outbox = &ended.0;
        let mut batch = Batch::default();
        while outbox.take(&mut batch).await {
            while batch.has_remaining() {
                tokio::select! {
                    biased;
                    result = write_some(&mut io, &mut batch) => match result {
                        Ok(bytes) => outbox.wrote(bytes),
                        Err(error) => return tracing::debug!(%error, "a link broke while it was written to"),
                    },
                    () = outbox.lingered() => {
                        return tracing::warn!("a peer took nothing for {LINGER:?} after its link was closed");
                    }
                }
            }
            batch.trim();
        }
        // A peer that is gone already has nothing to be told.
        let _ = tokio::time::timeout(LINGER, io.shutdown()).await;
    }
}

async fn write_some(io: &mut (impl AsyncWrite + Unpin), batch: &mut Batch) -> io::Result<usize> {
    let bytes = io.write_buf(batch).await?;
    // TLS has a buffer of its own, and what is in it has not left.
    io.flush().await?;
    if bytes == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes) }
}
