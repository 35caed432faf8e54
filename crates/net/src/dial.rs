use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use procession_model::{LaunchId, Secret};
use procession_wire::HandshakeError;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::carrier::{Connection, Next};
use crate::greet::{Call, DEADLINE, dialling};
use crate::patience::Patience;
use crate::redial::Redial;
use crate::socket_file::{is_trusted, own_uid};
use crate::tls::client_config;
use crate::{Address, ClientTls, Link, Peer, TlsError};

/// How long one address may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

/// Everything a proc needs to call its host; travels in the bootstrap payload. `Debug` shows
/// neither the token nor a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// Where the host is, the best first.
    pub addresses: Vec<Address>,
    /// Who calls.
    #[serde(with = "launch_bytes")]
    pub launch: LaunchId,
    /// What proves it, once.
    pub token: Secret,
    /// What TCP addresses are dialled with; they are refused without.
    pub tls: Option<ClientTls>,
    /// How long a TCP link may be without a connection, at both ends, before it has ended; with zero it
    /// ends with its connection.
    pub lease: Duration,
}

/// Why no address of a host led to it.
#[derive(Debug)]
pub struct DialError {
    /// What was tried, in order.
    pub attempts: Vec<Attempt>,
}

/// One address that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// Where.
    pub address: Address,
    /// Why not.
    pub cause: DialCause,
}

/// Why a host could not be reached at an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialCause {
    /// Nobody answers there.
    #[error("cannot connect: {0}; check that the host runs, and that this address leads to it from here")]
    Connect(#[source] io::Error),
    /// Nobody answered in time.
    #[error("no connection within {CONNECT:?}; check that this address leads to the host from here")]
    ConnectDeadline,
    /// Somebody else listens at the socket.
    #[error("the socket belongs to user {found}, and this process runs as {expected}")]
    User {
        /// The user who listens.
        found: u32,
        /// The user who should.
        expected: u32,
    },
    /// A TCP address was given without the certificates for it.
    #[error("TCP is only spoken with TLS, and no certificates were given")]
    NoTls,
    /// The certificates that were given cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// The host is not the one it should be, or does not take this end for the one it says it is.
    #[error("the ends do not trust each other's certificates: {0}")]
    Tls(#[source] io::Error),
    /// The two ends do not trust each other.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The host ended the connection, and does not say why.
    #[error(
        "the host refused: it hung up without taking this launch in, because it does not expect it (any more), its token was used before, or the host was ending or too busy; its log says which"
    )]
    Refused,
    /// The host did not answer in time.
    #[error("the host did not answer within {DEADLINE:?}")]
    HandshakeDeadline,
    /// The connection failed.
    #[error("the connection failed: {0}; check the network between this process and the host")]
    Io(#[source] io::Error),
}

impl From<io::Error> for DialCause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Refused,
            ErrorKind::InvalidData => Self::Tls(error),
            _ => Self::Io(error),
        }
    }
}

impl DialCause {
    /// Whether the same dial can succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::ConnectDeadline | Self::HandshakeDeadline | Self::Refused | Self::Io(_)
        )
    }
}

impl DialError {
    /// Whether the same dial can succeed later; when not, there is no use in repeating it.
    pub fn is_temporary(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.cause.is_temporary())
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return f.write_str("there is no address to dial");
        }
        for (index, Attempt { address, cause }) in self.attempts.iter().enumerate() {
            write!(f, "{}{address}: {cause}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}

/// Calls the host: connects (10 s at most for each address), proves the token and hears that it
/// was accepted (2 s). It tries each address once; to try again is the caller's business.
///
/// The token is spent when this succeeds, and good for another call when it does not. Not cancel safe:
/// when it is dropped at its very end, the token may be spent and the link gone.
///
/// # Errors
/// No address led to the host; the error says for each why.
pub async fn dial(dial: &Dial) -> Result<Link, DialError> {
    let mut attempts = Vec::new();
    for address in &dial.addresses {
        let result = match address {
            Address::Unix(path) => dial_unix(dial, address, path).await,
            Address::Tcp { host, port } => dial_tcp(dial, address, host, *port).await,
        };
        match result {
            Ok(link) => return Ok(link),
            Err(cause) => attempts.push(Attempt { address: address.clone(), cause }),
        }
    }
    Err(DialError { attempts })
}

async fn connect<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, DialCause> {
    timeout(CONNECT, connecting).await.map_err(|_| DialCause::ConnectDeadline)?.map_err(DialCause::Connect)
}

async fn within_deadline<T>(handshake: impl Future<Output = Result<T, DialCause>>) -> Result<T, DialCause> {
    timeout(DEADLINE, handshake).await.map_err(|_| DialCause::HandshakeDeadline)?
}

async fn dial_unix(dial: &Dial, address: &Address, path: &std::path::Path) -> Result<Link, DialCause> {
    let mut stream = connect(UnixStream::connect(path)).await?;
    let credentials = stream.peer_cred().map_err(DialCause::Io)?;
    let (found, expected) = (credentials.uid(), own_uid().map_err(DialCause::Io)?);
    if !is_trusted(found, expected) {
        return Err(DialCause::User { found, expected });
    }
    within_deadline(dialling(&mut stream, call_back(dial))).await?;
    let peer = Peer {
        pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()),
        uid: Some(found),
        address: address.to_string(),
    };
    Link::on_this_machine(stream, peer).map_err(DialCause::Io)
}

fn call_back(dial: &Dial) -> Call<'_> {
    Call::Back { launch: dial.launch, token: &dial.token }
}

async fn dial_tcp(dial: &Dial, address: &Address, host: &str, port: u16) -> Result<Link, DialCause> {
    let (connection, session) = connect_tcp(dial, host, port, call_back(dial)).await?;
    let redial = Redial { dial: dial.clone(), host: host.to_owned(), port, session };
    let peer = Peer { pid: None, uid: None, address: address.to_string() };
    Ok(Link::resumable(connection, Next::Dials(Box::new(redial)), dial.lease, peer))
}

/// A connection over which `call` was accepted, and the secret of its session.
pub(crate) async fn connect_tcp(
    dial: &Dial,
    host: &str,
    port: u16,
    call: Call<'_>,
) -> Result<(Connection, Secret), DialCause> {
    let (config, name) = client_config(dial.tls.as_ref().ok_or(DialCause::NoTls)?)?;
    let stream = connect(TcpStream::connect((host, port))).await?;
    stream.set_nodelay(true).map_err(DialCause::Io)?;
    let patience = Patience::with(&stream).map_err(DialCause::Io)?;
    within_deadline(async {
        let mut stream = TlsConnector::from(config).connect(name, stream).await?;
        let session = dialling(&mut stream, call).await?;
        Ok((Connection { stream: Box::new(stream), patience }, session))
    })
    .await
}

/// An id as its 16 bytes.
mod launch_bytes {
    use super::{Deserialize, LaunchId, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(launch: &LaunchId, serializer: S) -> Result<S::Ok, S::Error> {
        launch.to_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LaunchId, D::Error> {
        <[u8; 16]>::deserialize(deserializer).map(LaunchId::from_bytes)
    }
}
