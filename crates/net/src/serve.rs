use std::io;
use std::sync::Arc;
use std::time::Duration;

use procession_model::LaunchId;
use procession_wire::HandshakeError;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::carrier::{Connection, Next};
use crate::crowd::{Place, Standing};
use crate::greet::{DEADLINE, Proved, Refusal, Tls, accepting, listening};
use crate::listener::Socket;
use crate::patience::Patience;
use crate::ration::Rationed;
use crate::refusals::Refusals;
use crate::resumable::Resumable;
use crate::shared::split;
use crate::socket_file::is_trusted;
use crate::{Address, Crowd, Doorkeeper, Link, Listener, Peer};

/// How long no peer is accepted after that has failed, as for want of descriptors: it would fail
/// again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener at work. Dropping it ends the listening; links that were admitted live on.
#[derive(Debug)]
pub struct Serving {
    address: Address,
    task: JoinHandle<()>,
}

impl Serving {
    pub(crate) fn new(address: Address, task: JoinHandle<()>) -> Self {
        Self { address, task }
    }

    /// Where it listens.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Ends the listening, and returns once the socket is closed and its file gone.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ends by that abort and by nothing else.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Accepted {
    Unix(UnixStream, u32),
    Tcp(TcpStream, TlsAcceptor),
}

pub(crate) async fn serve(listener: Listener, doorkeeper: Arc<dyn Doorkeeper>, crowd: Crowd) {
    let refusals = Arc::new(Refusals::default());
    let sessions = Resumable::default();
    let mut greeted = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = greeted.join_next() => continue,
            accepted = listener.socket.accept() => accepted,
        };
        let (accepted, peer, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refusals.note("accept", &error);
                if !is_the_peers_doing(&error) {
                    sleep(PAUSE).await;
                }
                continue;
            }
        };
        let place = crowd.join(&source).await;
        let hall =
            Hall { doorkeeper: doorkeeper.clone(), sessions: sessions.clone(), refusals: refusals.clone() };
        greeted.spawn(greet(accepted, peer, source, place, hall));
    }
}

/// What all who greet at one listener share.
struct Hall {
    doorkeeper: Arc<dyn Doorkeeper>,
    sessions: Resumable,
    refusals: Arc<Refusals>,
}

/// Greets one peer, and writes to the log when it is turned away.
async fn greet(accepted: Accepted, peer: Peer, source: String, mut place: Place, hall: Hall) {
    /// Who is cut off in a crowd does not get to say so itself.
    struct Greeted<'a> {
        refusals: &'a Refusals,
        source: &'a str,
        result: Result<(), Refusal>,
    }
    impl Drop for Greeted<'_> {
        fn drop(&mut self) {
            if let Err(refusal) = &self.result {
                self.refusals.note(self.source, refusal);
            }
        }
    }
    let mut greeted = Greeted { refusals: &hall.refusals, source: &source, result: Err(Refusal::CutOff) };
    let standing = Arc::clone(&place.standing);
    let greeting = timeout(DEADLINE, async {
        match accepted {
            Accepted::Unix(stream, own) => {
                if let Some(found) = peer.uid.filter(|uid| !is_trusted(*uid, own)) {
                    return Err(Refusal::User { found, expected: own });
                }
                unix(stream, peer, &*hall.doorkeeper, &standing).await
            }
            Accepted::Tcp(stream, acceptor) => {
                if stream.peek(&mut [0]).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                standing.heard();
                // What only TLS needs is taken when there is something to do with it.
                Box::pin(tcp(stream, acceptor, peer, &hall, &standing)).await
            }
        }
    });
    greeted.result = tokio::select! {
        biased;
        result = greeting => result.unwrap_or(Err(Refusal::Deadline)),
        () = place.taken() => Err(Refusal::CutOff),
    };
}

async fn unix(
    mut stream: UnixStream,
    peer: Peer,
    doorkeeper: &dyn Doorkeeper,
    standing: &Standing,
) -> Result<(), Refusal> {
    let proved = listening(&mut stream, doorkeeper, None, standing).await?;
    let _arriving = doorkeeper.arriving(proved.launch);
    accepting(&mut stream, &proved.acceptance).await?;
    let ends = split(stream)?;
    admit(proved.launch, doorkeeper, || Link::between(ends, peer))
}

async fn tcp(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    peer: Peer,
    hall: &Hall,
    standing: &Standing,
) -> Result<(), Refusal> {
    stream.set_nodelay(true)?;
    let patience = Patience::with(&stream)?;
    let mut stream = acceptor.accept(Rationed::new(stream)).await?;
    standing.known();
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    // The verifier demands a certificate; without one there is nothing that could be trusted.
    let certificate = certificate.ok_or_else(|| io::Error::other("it has no certificate"))?;
    let tls = Tls { certificate: &certificate, sessions: &hall.sessions };
    let proved = listening(&mut stream, &*hall.doorkeeper, Some(tls), standing).await?;
    stream.get_mut().0.lift();
    let Proved { launch, resumes, acceptance, session } = proved;
    let _arriving = hall.doorkeeper.arriving(launch);
    accepting(&mut stream, &acceptance).await?;
    let connection = Connection { stream: Box::new(stream), patience };
    if resumes {
        let goes_on = hall.sessions.resume(launch, connection);
        return if goes_on { Ok(()) } else { Err(HandshakeError::UnknownLaunch(launch).into()) };
    }
    let lease = hall.doorkeeper.lease(launch);
    admit(launch, &*hall.doorkeeper, || {
        let next = Next::Comes(hall.sessions.add(launch, session));
        Link::resumable(connection, next, lease, peer)
    })
}

/// Uses the token up and hands the link over, with nothing in between at which this could be cut
/// off: a token that is spent has a link to show for it.
fn admit(launch: LaunchId, doorkeeper: &dyn Doorkeeper, link: impl FnOnce() -> Link) -> Result<(), Refusal> {
    if !doorkeeper.claim(launch) {
        return Err(HandshakeError::UnknownLaunch(launch).into());
    }
    doorkeeper.admit(launch, link());
    Ok(())
}

impl Socket {
    /// The next connection, who is at its other end, and under which name the log knows them.
    async fn accept(&self) -> io::Result<(Accepted, Peer, String)> {
        match self {
            Self::Unix { listener, file, own } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = Peer {
                    pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()),
                    uid: Some(credentials.uid()),
                    address: format!("unix:{}", file.path().display()),
                };
                Ok((Accepted::Unix(stream, *own), peer, format!("user {}", credentials.uid())))
            }
            Self::Tcp { listener, acceptor } => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer { pid: None, uid: None, address: format!("tcp:{address}") };
                Ok((Accepted::Tcp(stream, acceptor.clone()), peer, address.ip().to_string()))
            }
        }
    }
}

/// Whether accepting failed because the peer has left already; the next one is as good as any.
fn is_the_peers_doing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}
