//! A unix socket of which each direction is watched by itself, and only while somebody waits for it: the kernel reports
//! each time that the peer has read something, and to be woken for that costs as much as a message.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream as Socket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use procession_sys::receive_stream;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// The reading end, which is for one task.
pub(crate) struct UnixReader(AsyncFd<Arc<Socket>>);

/// The writing end, which one task waits for and any thread may try.
pub(crate) struct UnixWriter {
    socket: Arc<Socket>,
    /// Since it was full, until all that was to be written is.
    full: Option<AsyncFd<Socket>>,
}

/// Both ends; inside a runtime.
///
/// # Errors
/// The runtime has ended.
pub(crate) fn split(stream: UnixStream) -> io::Result<(UnixReader, UnixWriter)> {
    let socket = Arc::new(stream.into_std()?);
    let reader = watched(Arc::clone(&socket), Interest::READABLE)?;
    Ok((UnixReader(reader), UnixWriter { socket, full: None }))
}

fn watched<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    #[expect(
        deprecated,
        reason = "unsound for descriptors that may be closed while they are watched, which a socket that is owned cannot be"
    )]
    AsyncFd::with_interest(socket, interest)
}

/// Writes what the socket has room for.
///
/// # Errors
/// As of the system call; `WouldBlock`: it has none.
pub(crate) fn try_write(socket: &Socket, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut socket = socket;
    socket.write_vectored(pieces)
}

impl UnixWriter {
    pub(crate) fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }
}

impl AsyncRead for UnixReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match receive_stream(guard.get_inner().as_fd(), buf) {
                Ok((count, _)) => {
                    // Less than there is room for: it is empty, and whatever comes then is reported.
                    if count > 0 && buf.remaining() > 0 {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for UnixWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match try_write(&self.socket, pieces) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(written) => {
                    if written == pieces.iter().map(|piece| piece.len()).sum::<usize>() {
                        self.full = None;
                    }
                    return Poll::Ready(Ok(written));
                }
                failed => return Poll::Ready(failed),
            }
            if self.full.is_none() {
                // Watched apart from the reading end, which an epoll instance only does for a descriptor of its own.
                let again = self.socket.try_clone()?;
                self.full = Some(watched(again, Interest::WRITABLE)?);
            }
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(cx))?.clear_ready();
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}

impl Drop for UnixWriter {
    fn drop(&mut self) {
        // A peer that is gone already has nothing to be told.
        let _gone = self.socket.shutdown(Shutdown::Write);
    }
}
