use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// One stream of a proc's output that is made up here: its end to read, and where its pieces go, which never waits. It ends when
/// that is dropped.
pub(crate) fn pieces() -> (Pieces, mpsc::UnboundedSender<Vec<u8>>) {
    let (tx, pieces) = mpsc::unbounded_channel();
    (Pieces { pieces, piece: Vec::new(), at: 0 }, tx)
}

pub(crate) struct Pieces {
    pieces: mpsc::UnboundedReceiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.at == self.piece.len() {
            let Some(piece) = ready!(self.pieces.poll_recv(cx)) else { return Poll::Ready(Ok(())) };
            (self.piece, self.at) = (piece, 0);
        }
        let end = self.piece.len().min(self.at + buf.remaining());
        buf.put_slice(&self.piece[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}
