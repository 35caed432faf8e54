use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procession_model::LaunchId;
use procession_wire::{HandshakeError, MAC_LEN};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::greet::{DEADLINE, Refusal, listening};
use crate::listener::Socket;
use crate::refusals::Refusals;
use crate::socket_file::is_trusted;
use crate::{Address, Doorkeeper, Link, Listener, Peer};

/// How many peers may be connected that have not proved themselves.
const PENDING: usize = 256;
/// In a crowd, who has said nothing for so long makes room for the next.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long no peer is accepted when there are no descriptors left to do it with.
const EXHAUSTED: Duration = Duration::from_millis(100);

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

pub(crate) async fn serve(listener: Listener, doorkeeper: Arc<dyn Doorkeeper>) {
    let refusals = Arc::new(Refusals::default());
    let mut crowd = Crowd::default();
    loop {
        if crowd.is_full() {
            crowd.thin_out().await;
            continue;
        }
        let accepted = tokio::select! {
            Some(_) = crowd.tasks.join_next() => continue,
            accepted = listener.socket.accept() => accepted,
        };
        let (accepted, peer, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refusals.note("accept", &error);
                if is_exhaustion(&error) {
                    sleep(EXHAUSTED).await;
                }
                continue;
            }
        };
        let heard = Arc::new(AtomicBool::new(false));
        let task = greet(accepted, peer, source, heard.clone(), doorkeeper.clone(), refusals.clone());
        crowd.join(task, heard);
    }
}

/// The peers that have not proved themselves, in the order in which they came.
#[derive(Default)]
struct Crowd {
    tasks: JoinSet<()>,
    order: VecDeque<Pending>,
}

struct Pending {
    since: Instant,
    task: AbortHandle,
    /// Whether it has said anything yet.
    heard: Arc<AtomicBool>,
}

impl Crowd {
    fn join(&mut self, task: impl Future<Output = ()> + Send + 'static, heard: Arc<AtomicBool>) {
        self.order.push_back(Pending { since: Instant::now(), task: self.tasks.spawn(task), heard });
    }

    fn is_full(&mut self) -> bool {
        if self.order.len() >= PENDING {
            self.order.retain(|pending| !pending.task.is_finished());
        }
        self.order.len() >= PENDING
    }

    /// Waits until there is room. A burst of real diallers passes by itself; of those who say
    /// nothing, the oldest has to go.
    async fn thin_out(&mut self) {
        let mute = self.order.iter().position(|pending| !pending.heard.load(Ordering::Relaxed));
        let patience_ends = mute.map(|index| self.order[index].since + PATIENCE);
        tokio::select! {
            _ = self.tasks.join_next() => {}
            () = sleep_until(patience_ends.unwrap_or_else(Instant::now)), if mute.is_some() => {
                if let Some(pending) = mute.and_then(|index| self.order.remove(index)) {
                    pending.task.abort();
                }
            }
        }
    }
}

/// Greets one peer, and writes to the log when it is turned away.
async fn greet(
    accepted: Accepted,
    peer: Peer,
    source: String,
    heard: Arc<AtomicBool>,
    doorkeeper: Arc<dyn Doorkeeper>,
    refusals: Arc<Refusals>,
) {
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
    let mut greeted = Greeted { refusals: &refusals, source: &source, result: Err(Refusal::CutOff) };
    greeted.result = timeout(DEADLINE, async {
        match accepted {
            Accepted::Unix(stream, own) => {
                if let Some(found) = peer.uid.filter(|uid| !is_trusted(*uid, own)) {
                    return Err(Refusal::User { found, expected: own });
                }
                unix(stream, peer, &*doorkeeper, &heard).await
            }
            Accepted::Tcp(stream, acceptor) => {
                if stream.peek(&mut [0]).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                heard.store(true, Ordering::Relaxed);
                // What only TLS needs is taken when there is something to do with it.
                Box::pin(tcp(stream, acceptor, peer, &*doorkeeper, &heard)).await
            }
        }
    })
    .await
    .unwrap_or(Err(Refusal::Deadline));
}

async fn unix(
    mut stream: UnixStream,
    peer: Peer,
    doorkeeper: &dyn Doorkeeper,
    heard: &AtomicBool,
) -> Result<(), Refusal> {
    let proved = listening(&mut stream, doorkeeper, None, heard).await?;
    let (reader, writer) = stream.into_split();
    admit(proved, doorkeeper, reader, writer, peer)
}

async fn tcp(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    peer: Peer,
    doorkeeper: &dyn Doorkeeper,
    heard: &AtomicBool,
) -> Result<(), Refusal> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    // The verifier demands a certificate; without one there is nothing that could be trusted.
    let certificate = certificate.ok_or_else(|| io::Error::other("it has no certificate"))?;
    let proved = listening(&mut stream, doorkeeper, Some(&certificate), heard).await?;
    let (reader, writer) = tokio::io::split(stream);
    admit(proved, doorkeeper, reader, writer, peer)
}

/// Uses the token up and hands the link over, with nothing in between at which this could be cut
/// off: a token that is spent has a link to show for it.
fn admit(
    (launch, acceptance): (LaunchId, [u8; MAC_LEN]),
    doorkeeper: &dyn Doorkeeper,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
) -> Result<(), Refusal> {
    if !doorkeeper.claim(launch) {
        return Err(HandshakeError::UnknownLaunch(launch).into());
    }
    doorkeeper.admit(launch, Link::greeting(reader, writer, peer, &acceptance));
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

/// Whether accepting failed for want of something that others hold, and would fail again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
