//! The handshake over a connection, both ends.

use std::io;
use std::time::Duration;

use procession_model::{LaunchId, Secret};
use procession_wire::{
    CLIENT_HELLO_LEN, CONFIRMATION, ClientHandshake, HandshakeError, MAC_LEN, SERVER_HELLO_LEN,
    ServerHandshake,
};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::crowd::Standing;
use crate::resumable::Resumable;
use crate::tls::names_launch;
use crate::{DialCause, Doorkeeper};

/// How long a peer has to prove itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Why a peer was turned away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("its certificate was not issued for launch {0}")]
    Certificate(LaunchId),
    #[error("it runs as user {found}, not as {expected}")]
    User { found: u32, expected: u32 },
    #[error("it did not prove itself in {DEADLINE:?}")]
    Deadline,
    #[error("it left, or could not be understood: {0}")]
    Io(#[from] io::Error),
    #[error("it had not proved itself when its place was needed, or when the listening ended")]
    CutOff,
}

/// Reads a hello byte by byte as it comes, so that a stranger is known by its first bytes, and
/// notes that there are any.
async fn read_hello<const N: usize>(
    stream: &mut impl Stream,
    check: fn(&[u8]) -> Result<(), HandshakeError>,
    standing: &Standing,
) -> io::Result<Result<[u8; N], HandshakeError>> {
    let mut hello = [0; N];
    let mut have = 0;
    while have < N {
        match stream.read(&mut hello[have..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => have += bytes,
        }
        standing.heard();
        if let Err(error) = check(&hello[..have]) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(hello))
}

async fn send(stream: &mut impl Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Why a host is dialled.
#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    /// A launch calls back.
    Back {
        /// Which.
        launch: LaunchId,
        /// What proves it.
        token: &'a Secret,
    },
    /// It has lost the connection of its session.
    Again {
        /// Which launch it is.
        launch: LaunchId,
        /// The secret of the session.
        session: &'a Secret,
    },
}

/// The dialling end: proves what `call` says, and returns the secret of the session once the host has
/// accepted.
pub(crate) async fn dialling(stream: &mut impl Stream, call: Call<'_>) -> Result<Secret, DialCause> {
    let (handshake, hello) = match call {
        Call::Back { launch, token } => ClientHandshake::new(launch, token),
        Call::Again { launch, session } => ClientHandshake::resume(launch, session),
    };
    send(stream, &hello).await?;
    let hello =
        read_hello::<SERVER_HELLO_LEN>(stream, ClientHandshake::check, &Standing::default()).await??;
    let (waiting, proof) = handshake.server_hello(&hello)?;
    send(stream, &proof).await?;
    let mut acceptance = [0; MAC_LEN];
    stream.read_exact(&mut acceptance).await?;
    let session = waiting.accepted(&acceptance)?;
    send(stream, &CONFIRMATION).await?;
    Ok(session)
}

/// What a peer has proved.
pub(crate) struct Proved {
    pub(crate) launch: LaunchId,
    /// It has the secret of its session, and not a token.
    pub(crate) resumes: bool,
    /// What it is to be sent before it is taken in.
    pub(crate) acceptance: [u8; MAC_LEN],
    /// With this it can come back.
    pub(crate) session: Secret,
}

/// What a peer says hello over TLS with.
pub(crate) struct Tls<'a> {
    pub(crate) certificate: &'a CertificateDer<'a>,
    pub(crate) sessions: &'a Resumable,
}

/// The listening end: returns what the peer has proved.
///
/// Over TLS, the peer's certificate has to be that of the launch it says it is, and it may come back.
pub(crate) async fn listening(
    stream: &mut impl Stream,
    doorkeeper: &dyn Doorkeeper,
    tls: Option<Tls<'_>>,
    standing: &Standing,
) -> Result<Proved, Refusal> {
    let hello = match read_hello::<CLIENT_HELLO_LEN>(stream, ServerHandshake::check, standing).await? {
        Ok(hello) => hello,
        Err(error) => {
            if matches!(error, HandshakeError::Version { .. }) {
                send(stream, &ServerHandshake::version_notice()).await?;
            }
            return Err(error.into());
        }
    };
    let handshake = ServerHandshake::client_hello(&hello)?;
    let launch = handshake.launch();
    if tls.as_ref().is_some_and(|tls| !names_launch(tls.certificate, launch)) {
        return Err(Refusal::Certificate(launch));
    }
    let resumes = handshake.resumes();
    let secret = match tls {
        Some(tls) if resumes => tls.sessions.secret(launch),
        _ if resumes => None,
        _ => doorkeeper.token(launch),
    };
    let secret = secret.ok_or(HandshakeError::UnknownLaunch(launch))?;
    standing.known();
    let (waiting, hello) = handshake.answer(&secret);
    send(stream, &hello).await?;
    let mut proof = [0; MAC_LEN];
    stream.read_exact(&mut proof).await?;
    let (acceptance, session) = waiting.proof(&proof)?;
    Ok(Proved { launch, resumes, acceptance, session })
}

/// Tells a peer that has proved itself that it can come in, and returns once it does: one that has lost
/// patience meanwhile dials again, and its token has to be good for that.
pub(crate) async fn accepting(stream: &mut impl Stream, acceptance: &[u8; MAC_LEN]) -> Result<(), Refusal> {
    procession_sys::failpoint!("host-before-accepting");
    send(stream, acceptance).await?;
    let mut confirmation = [0; CONFIRMATION.len()];
    stream.read_exact(&mut confirmation).await?;
    if confirmation != CONFIRMATION {
        let text = format!("it confirmed with {confirmation:?} in place of {CONFIRMATION:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
    }
    Ok(())
}
