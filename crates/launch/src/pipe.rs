use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, DuplexStream, duplex};

/// How much waits to be read.
const BUFFER: usize = 64 << 10;

/// One stream of a proc's output, in the memory of its launcher: its end to read, and to write. Each notices when the
/// other is dropped.
pub(crate) fn pipe(full: &Full) -> (DuplexStream, Writer) {
    let (reader, writer) = duplex(BUFFER);
    (reader, Writer { writer, full: full.clone() })
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
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
