//! A unix socket whose bytes take descriptors along. Each direction is watched by itself, and only while somebody waits for it:
//! the kernel reports each time that the peer has read something, and to be woken for that costs as much as a message.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use procession_sys::{Came, receive_stream, send_stream};
use procession_wire::ProtocolError;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// The socket, and the descriptors that go with its bytes: one each way that nothing was said about yet.
pub(crate) struct Ends {
    socket: Socket,
    to_send: Mutex<Option<OwnedFd>>,
    arrived: Mutex<Option<Came>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ends {
    /// Has the next bytes take `descriptor` along; the one before has to be gone, and what speaks of this one comes later.
    pub(crate) fn send(&self, descriptor: OwnedFd) {
        *lock(&self.to_send) = Some(descriptor);
    }

    /// Takes what came with the bytes so far.
    pub(crate) fn arrived(&self) -> Option<Came> {
        lock(&self.arrived).take()
    }

    /// Ends both directions. What has arrived can still be read.
    pub(crate) fn hang_up(&self) {
        // A peer that is gone already has nothing to be told.
        let _gone = self.socket.shutdown(Shutdown::Both);
    }

    /// Writes what the socket has room for.
    ///
    /// # Errors
    /// As of the system call; `WouldBlock`: it has none.
    pub(crate) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut descriptor = lock(&self.to_send);
        let count = send_stream(self.socket.as_fd(), parts, descriptor.as_ref().map(AsFd::as_fd))?;
        *descriptor = None;
        Ok(count)
    }
}

impl AsRawFd for Ends {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// What is read from a unix socket, by one task.
pub(crate) struct StreamReader(AsyncFd<Arc<Ends>>);

/// What is written to a unix socket. When it is dropped, the peer sees the end of it.
pub(crate) struct StreamWriter {
    ends: Arc<Ends>,
    /// Since it was full, until all that was to be written is.
    full: Option<AsyncFd<Socket>>,
}

impl StreamWriter {
    /// For those who write to the socket themselves, or have descriptors go with what is written.
    pub(crate) fn ends(&self) -> Arc<Ends> {
        Arc::clone(&self.ends)
    }
}

/// Both ends of a stream; inside a runtime.
///
/// # Errors
/// The runtime has ended.
pub(crate) fn split(stream: UnixStream) -> io::Result<(StreamReader, StreamWriter)> {
    let (to_send, arrived) = (Mutex::default(), Mutex::default());
    let ends = Arc::new(Ends { socket: stream.into_std()?, to_send, arrived });
    let reader = watched(Arc::clone(&ends), Interest::READABLE)?;
    Ok((StreamReader(reader), StreamWriter { ends, full: None }))
}

fn watched<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    #[expect(
        deprecated,
        reason = "unsound for descriptors that may be closed while they are watched, which a socket that is owned cannot be"
    )]
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for StreamReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let ends = Arc::clone(guard.get_inner());
            match receive_stream(ends.socket.as_fd(), buffer) {
                Ok((count, Came::Bytes)) => {
                    // Less than there is room for: it is empty, and whatever comes then is reported.
                    if count > 0 && buffer.remaining() > 0 {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok((_, came)) => {
                    if lock(&ends.arrived).replace(came).is_some() {
                        return Poll::Ready(Err(io::Error::other(ProtocolError::Descriptors)));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.ends.try_write(parts) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(written) => {
                    if written == parts.iter().map(|part| part.len()).sum::<usize>() {
                        self.full = None;
                    }
                    return Poll::Ready(Ok(written));
                }
                failed => return Poll::Ready(failed),
            }
            if self.full.is_none() {
                // Watched apart from the reading end, which an epoll instance only does for a descriptor of its own.
                self.full = Some(watched(self.ends.socket.try_clone()?, Interest::WRITABLE)?);
            }
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(cx))?.clear_ready();
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
        Poll::Ready(self.ends.socket.shutdown(Shutdown::Write))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        // A peer that is gone already has nothing to be told.
        let _gone = self.ends.socket.shutdown(Shutdown::Write);
    }
}
