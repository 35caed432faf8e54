use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use crate::StdioHandling;

pub(super) type Stream = Box<dyn AsyncRead + Send + Unpin>;

/// A stream that is not there yet: nothing comes from it until it is given, and its end where it never is.
struct Later(State);

enum State {
    Awaits(oneshot::Receiver<Stream>),
    Has(Stream),
    Over,
}

/// Output that is to be read before it is known where it comes from.
pub(super) fn output() -> (StdioHandling, Source) {
    let ((stdout, stdout_tx), (stderr, stderr_tx)) = (stream(), stream());
    (StdioHandling::Captured { stdout, stderr }, Source(stdout_tx, stderr_tx))
}

/// One such stream.
pub(super) fn stream() -> (Stream, oneshot::Sender<Stream>) {
    let (tx, given) = oneshot::channel();
    (Box::new(Later(State::Awaits(given))), tx)
}

/// Where that output is to come from. When this is dropped there is none.
pub(super) struct Source(oneshot::Sender<Stream>, oneshot::Sender<Stream>);

impl Source {
    pub(super) fn is(self, stdio: StdioHandling) {
        if let Ok((stdout, stderr)) = streams(stdio) {
            let _nobody_reads = (self.0.send(stdout), self.1.send(stderr));
        }
    }
}

/// The output, where it is here to be read; else what there is in its place.
pub(super) fn streams(stdio: StdioHandling) -> Result<(Stream, Stream), StdioHandling> {
    match stdio {
        StdioHandling::Captured { stdout, stderr } => Ok((stdout, stderr)),
        StdioHandling::Pipes { stdout, stderr } => Ok((Box::new(stdout), Box::new(stderr))),
        none @ (StdioHandling::Inherited | StdioHandling::ManagedByLauncher) => Err(none),
    }
}

impl AsyncRead for Later {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.0 = match &mut self.0 {
                State::Over => return Poll::Ready(Ok(())),
                State::Has(stream) => return Pin::new(stream).poll_read(cx, buf),
                State::Awaits(given) => match ready!(Pin::new(given).poll(cx)) {
                    Ok(stream) => State::Has(stream),
                    Err(_) => State::Over,
                },
            };
        }
    }
}
