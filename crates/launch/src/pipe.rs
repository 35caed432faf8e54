use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, DuplexStream, duplex};

/// How much waits to be read.
const BUFFER: usize = 64 << 10;

/// One stream of a proc's output, in the memory of its launcher: its end to read, and to write. Each notices when the
/// other is dropped. The first `known` bytes that are written were read before, and do not come again.
pub(crate) fn pipe(full: &Full, known: u64) -> (DuplexStream, Writer) {
    let (reader, writer) = duplex(BUFFER);
    (reader, Writer { writer, full: full.clone(), known })
}

/// Whether somebody waits to write, because nobody reads as fast.
#[derive(Clone, Debug, Default)]
pub(crate) struct Full(Arc<AtomicBool>);

impl Full {
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Writer {
    writer: DuplexStream,
    full: Full,
    known: u64,
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.known > 0 && !bytes.is_empty() {
            let skipped = bytes.len().min(usize::try_from(self.known).unwrap_or(usize::MAX));
            self.known -= skipped as u64;
            return Poll::Ready(Ok(skipped));
        }
        let written = Pin::new(&mut self.writer).poll_write(cx, bytes);
        self.full.0.store(written.is_pending(), Ordering::Relaxed);
        Poll::Ready(ready!(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
