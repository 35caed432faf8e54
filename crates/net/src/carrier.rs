use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use procession_wire::{ProtocolError, Record};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::greet::Stream;
use crate::patience::{LOOK, Patience};
use crate::redial::Redial;
use crate::resumable::Resumed;
use crate::session::{Over, Session};

const READ: usize = 64 << 10;
/// How long a connection that has served its purpose may take to end in good order.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection whose ends trust each other.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream + Send>,
    pub(crate) patience: Patience,
}

/// How a session comes by its next connection.
pub(crate) enum Next {
    /// It dials.
    Dials(Box<Redial>),
    /// The peer does.
    Comes(Resumed),
}

impl Next {
    /// A connection that is to replace the one in use; never where this end dials.
    async fn replacement(&mut self) -> Connection {
        match self {
            Self::Dials(_) => std::future::pending().await,
            Self::Comes(resumed) => resumed.next().await,
        }
    }

    /// The next connection; none when none comes for as long as `lease`.
    async fn within(&mut self, lease: Duration) -> Result<Connection, String> {
        match self {
            Self::Dials(redial) => redial.within(lease).await,
            Self::Comes(resumed) => resumed.within(lease).await,
        }
    }
}

enum Lost {
    Protocol(ProtocolError),
    Io(io::Error),
}

impl From<ProtocolError> for Lost {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Tells the users of a session when nobody carries it any more, as when its runtime ends.
struct Carried(Arc<Session>);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.end(Over::Lost(ErrorKind::BrokenPipe, "the connection was closed".to_owned()));
    }
}

/// Carries what a session sends and gets over one connection after the other, until it has ended, or
/// there was none for as long as `lease`.
pub(crate) fn carry(
    session: Arc<Session>,
    mut connection: Connection,
    mut next: Next,
    lease: Duration,
) -> impl Future<Output = ()> {
    // Made before the first poll, because a runtime that ends may never poll the task.
    let carried = Carried(session);
    async move {
        let session = &carried.0;
        loop {
            session.begin();
            let lost = tokio::select! {
                biased;
                replacement = next.replacement() => {
                    connection = replacement;
                    continue;
                }
                lost = exchange(session, connection) => lost,
            };
            let error = match lost {
                Ok(()) => return,
                Err(Lost::Protocol(error)) => return session.end(Over::Protocol(error)),
                Err(Lost::Io(error)) => error,
            };
            if !session.lose() {
                return session.end(Over::Lost(error.kind(), error.to_string()));
            }
            tracing::debug!(%error, "a connection was lost; its session waits for the next one");
            let found = tokio::select! {
                found = next.within(lease) => found,
                () = done(session) => return,
            };
            match found {
                Ok(found) => connection = found,
                Err(why) => {
                    let text = format!("the connection was lost ({error}), and {why}");
                    return session.end(Over::Lost(ErrorKind::TimedOut, text));
                }
            }
        }
    }
}

/// Waits until nobody needs the session any more.
async fn done(session: &Session) {
    while !session.is_done() {
        session.to_send.notified().await;
    }
}

/// Serves the session over one connection until that is lost, or the session has ended.
async fn exchange(session: &Session, connection: Connection) -> Result<(), Lost> {
    let Connection { stream, mut patience } = connection;
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::select! {
        lost = receive(session, &mut reader) => lost,
        sent = send(session, &mut writer, &mut patience) => {
            sent?;
            // Whether the peer hears the last word is its business.
            let _ = timeout(FAREWELL, writer.shutdown()).await;
            Ok(())
        }
    }
}

async fn receive(session: &Session, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), Lost> {
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        while let Some(record) = Record::read(&mut buffer)? {
            session.take(record)?;
        }
        buffer.reserve(READ);
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
    }
}

async fn send(
    session: &Session,
    writer: &mut (impl AsyncWrite + Unpin),
    patience: &mut Patience,
) -> Result<(), Lost> {
    let mut out = BytesMut::new();
    loop {
        session.write(&mut out);
        if out.is_empty() {
            if session.is_done() {
                return Ok(());
            }
            tokio::select! {
                () = session.to_send.notified() => {}
                () = sleep(LOOK), if patience.is_needed() => patience.look()?,
            }
            continue;
        }
        patience.begin();
        {
            let mut writing = pin!(async {
                writer.write_all(&out).await?;
                writer.flush().await
            });
            loop {
                tokio::select! {
                    written = &mut writing => break written?,
                    () = sleep(LOOK) => patience.look()?,
                }
            }
        }
        out.clear();
        session.wrote();
    }
}
