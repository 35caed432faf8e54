use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use procession_sys::{Came, receive_stream, send_stream};
use procession_wire::ProtocolError;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// The descriptors that go with the bytes of a stream: one each way that nothing was said about yet.
#[derive(Default)]
pub(crate) struct Descriptors {
    to_send: Mutex<Option<OwnedFd>>,
    arrived: Mutex<Option<Came>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Descriptors {
    /// Has the next bytes take `descriptor` along; the one before has to be gone.
    pub(crate) fn send(&self, descriptor: OwnedFd) {
        *lock(&self.to_send) = Some(descriptor);
    }

    /// Takes what came with the bytes so far.
    pub(crate) fn arrived(&self) -> Option<Came> {
        lock(&self.arrived).take()
    }
}

/// What is read from a unix socket.
pub(crate) struct StreamReader {
    stream: Arc<UnixStream>,
    descriptors: Arc<Descriptors>,
}

/// What is written to a unix socket. When it is dropped, the peer sees the end of it.
pub(crate) struct StreamWriter {
    stream: Arc<UnixStream>,
    descriptors: Arc<Descriptors>,
}

/// Both ends of a stream, and the descriptors that come and go.
pub(crate) fn split(stream: UnixStream) -> (StreamReader, StreamWriter, Arc<Descriptors>) {
    let (stream, descriptors) = (Arc::new(stream), Arc::<Descriptors>::default());
    let reader = StreamReader { stream: stream.clone(), descriptors: descriptors.clone() };
    (reader, StreamWriter { stream, descriptors: descriptors.clone() }, descriptors)
}

impl AsyncRead for StreamReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let received =
                self.stream.try_io(Interest::READABLE, || receive_stream(self.stream.as_fd(), buffer));
            match received {
                Ok((_, Came::Bytes)) => return Poll::Ready(Ok(())),
                Ok((_, came)) => {
                    if lock(&self.descriptors.arrived).replace(came).is_some() {
                        return Poll::Ready(Err(io::Error::other(ProtocolError::Descriptors)));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            // Nobody else writes: what is put there meanwhile goes with the next bytes, which are those that speak of it.
            let mut descriptor = lock(&self.descriptors.to_send);
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                send_stream(self.stream.as_fd(), parts, descriptor.as_ref().map(AsFd::as_fd))
            });
            match sent {
                Ok(count) => {
                    *descriptor = None;
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.stream.as_fd(), Shutdown::Write).map_err(Into::into))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        // A peer that is gone already has nothing to be told.
        let _ = shutdown(self.stream.as_fd(), Shutdown::Write);
    }
}
