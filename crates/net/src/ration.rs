use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a peer may say before it has proved itself: several times what a handshake takes. TLS alone
/// would keep up to 64 KiB of an unfinished message.
const RATION: usize = 8 << 10;

/// A stream that fails once a peer that has not proved itself has said too much.
pub(crate) struct Rationed<S> {
    stream: S,
    /// None once it has proved itself.
    left: Option<usize>,
}

impl<S> Rationed<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, left: Some(RATION) }
    }

    /// The peer has proved itself.
    pub(crate) fn lift(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rationed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(left) = self.left {
            let Some(left) = left.checked_sub(buffer.filled().len() - before) else {
                buffer.set_filled(before);
                let text = format!("it said more than {RATION} bytes before it had proved itself");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            };
            self.left = Some(left);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rationed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_stranger_is_heard_up_to_its_ration_and_a_peer_for_ever() {
        let words = vec![7; 3 * RATION];
        let mut heard = Vec::new();
        let error = Rationed::new(&words[..]).read_to_end(&mut heard).await.unwrap_err();
        assert!(error.to_string().contains("said more than"), "{error}");
        let mut stream = Rationed::new(&words[..]);
        stream.read_exact(&mut vec![0; RATION]).await.unwrap();
        stream.lift();
        assert_eq!(stream.read_to_end(&mut heard).await.unwrap(), 2 * RATION);
    }
}
