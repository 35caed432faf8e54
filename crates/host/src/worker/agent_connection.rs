use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use procession_actor::PortRef;
use procession_launch::{Relayed, Report};
use procession_model::{ActorId, HostId, ProcId};
use procession_net::{Link, LinkReceiver, Peer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::agent_launcher::AgentDial;
use super::error::WorkerError;
use super::line::{Line, peer};
use super::message::{Beat, DESK, Dialled, Forget, Lead, Listen, Listening};
use super::over_stdio::AGENT_SPEAKS;
use super::relay;
use super::remote::Session;

/// How often an agent is asked whether it is there, and how long it may take to answer before its procs are said to be unreachable.
const BEAT: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(2);
/// How long an agent may take to end all that it has launched, once its stream was closed.
const CLOSING: Duration = Duration::from_secs(12);
/// How much may come before an agent speaks.
const NOISE: usize = 64 << 10;

/// How an agent is started, and spoken with: by whatever command leads to where it runs.
#[async_trait]
pub trait Way: Send + Sync + 'static {
    /// Where it leads to, for people: `ssh node7`.
    fn place(&self) -> &str;

    /// What is run for that.
    fn command_line(&self) -> Vec<String>;

    /// Starts an agent there.
    ///
    /// # Errors
    /// Why there is none, and what to do next.
    async fn open(&self) -> Result<Stream, String>;
}

/// What leads to an agent.
pub struct Stream {
    /// What it says.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it gets to hear.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What ends when this is dropped.
    pub guard: Box<dyn Guard>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

/// The command that leads to an agent; it is ended when this is dropped.
#[async_trait]
pub trait Guard: Send + Sync {
    /// Once the stream has ended: how the command has, and what it said last, for people. It does not take long.
    async fn last_words(&mut self) -> String;
}

/// One agent, from its start to its end; what was launched by it ends with it.
pub(super) struct Connection {
    pub(super) session: Arc<Session>,
    line: Line,
    /// That of the conversation, which may outlive that of a host.
    runtime: Handle,
    /// By the address of a host: at which address of the agent's its procs reach it.
    relayed: Mutex<HashMap<SocketAddr, String>>,
    leading: std::sync::Mutex<JoinSet<()>>,
    /// This end has.
    was_closed: AtomicBool,
    /// Nothing is waited for any more.
    given_up: Notify,
}

impl Connection {
    pub(super) async fn begin(way: &dyn Way, how: &AgentDial) -> Result<Arc<Self>, WorkerError> {
        let place = || way.place().to_owned();
        let within = how.within;
        let reached = Self::reach(way, within).await;
        let (line, mut session, mut receiver, guard) =
            reached.map_err(|why| WorkerError::Agent { place: place(), why })?;
        let heard = Arc::<OnceLock<Weak<Session>>>::default();
        if let Some(far) = &how.launcher {
            let hears = Arc::clone(&heard);
            let said = line.node.mailbox().open_sink(move |answer| {
                if let (Ok(said), Some(session)) = (answer.open(), hears.get().and_then(Weak::upgrade)) {
                    session.hear(said);
                }
            });
            let reached = async {
                tokio::select! {
                    reached = session.through(&far.kind, &far.config, PortRef::attach(said)) => reached,
                    why = line.attend(&mut receiver) => Err(why),
                }
            };
            let reached = timeout(within, reached).await;
            let reached = reached.unwrap_or_else(|_| Err(format!("it has not answered within {within:?}")));
            if let Err(why) = reached {
                line.end(&why);
                drop(guard);
                return Err(WorkerError::Launcher { place: place(), kind: far.kind.clone(), why });
            }
        }
        let session = Arc::new(session);
        let _nobody_else_sets_it = heard.set(Arc::downgrade(&session));
        let connection = Arc::new(Self {
            session,
            line,
            runtime: Handle::current(),
            relayed: Mutex::default(),
            leading: Default::default(),
            was_closed: AtomicBool::new(false),
            given_up: Notify::new(),
        });
        tokio::spawn(Arc::clone(&connection).carry(place(), receiver, guard, how.lease));
        Ok(connection)
    }

    /// An agent that has been greeted.
    async fn reach(
        way: &dyn Way,
        within: Duration,
    ) -> Result<(Line, Session, LinkReceiver, Box<dyn Guard>), String> {
        let opened = timeout(within, way.open()).await;
        let opened = opened.unwrap_or_else(|_| Err(format!("no agent has spoken within {within:?}")));
        let Stream { mut reader, writer, mut guard } = opened?;
        let spoken = timeout(within, wait_for_agent(&mut reader)).await;
        let failed = match spoken {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no agent has spoken within {within:?}")),
        };
        if let Some(why) = failed {
            return Err(with_words(&why, &guard.last_words().await));
        }
        let address = way.place().to_owned();
        let mut link = Link::over(reader, writer, Peer { pid: None, uid: None, address: address.clone() });
        let line = Line::over(&link, "client", &HostId::fresh("client"));
        let greeted = async {
            let there = peer(&mut link.receiver).await?;
            let desk = ActorId::new(there, DESK);
            let greeted = Session::greet("agent", address.clone(), &line.node, desk);
            tokio::select! {
                greeted = greeted => greeted,
                why = line.attend(&mut link.receiver) => Err(why),
            }
        };
        let greeted = timeout(within, greeted).await;
        let greeted =
            greeted.unwrap_or_else(|_| Err(format!("the agent has not answered within {within:?}")));
        match greeted {
            Ok(session) => Ok((line, session, link.receiver, guard)),
            Err(why) => {
                line.end(&why);
                Err(with_words(&why, &guard.last_words().await))
            }
        }
    }

    async fn carry(
        self: Arc<Self>,
        address: String,
        mut receiver: LinkReceiver,
        mut guard: Box<dyn Guard>,
        lease: Duration,
    ) {
        let why = tokio::select! {
            why = self.line.attend(&mut receiver) => why,
            why = self.beat(&address, lease) => why,
            () = self.given_up.notified() => "it was given up, since it does not answer".to_owned(),
        };
        // A command may have something to do after its agent.
        let words = guard.last_words().await;
        let words = if self.was_closed.load(Ordering::Relaxed) { String::new() } else { words };
        let reason = with_words(&format!("host lost: the connection to {address} has ended: {why}"), &words);
        self.session.end(&reason);
        self.line.end(&reason);
        self.leading().shutdown().await;
    }

    fn leading(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.leading.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Until it has not answered for so long; gives that.
    async fn beat(&self, address: &str, lease: Duration) -> String {
        loop {
            sleep(BEAT).await;
            if self.was_closed.load(Ordering::Relaxed) {
                sleep(CLOSING).await;
                return "it was closed".to_owned();
            }
            let (done, answer) = self.line.node.mailbox().open_once_port();
            if let Err(why) = self.session.tell(Beat(done.bind())) {
                return why;
            }
            let mut answer = std::pin::pin!(answer.recv());
            if timeout(QUIET.min(lease), &mut answer).await.is_ok() {
                continue;
            }
            self.session.report(&Report::Unreachable(format!("{address} has not answered for {QUIET:?}")));
            if timeout(lease.saturating_sub(QUIET), &mut answer).await.is_err() {
                return format!("it has not answered for {lease:?}");
            }
            self.session.report(&Report::Reachable);
        }
    }

    /// What that proc dials there to reach `host`.
    pub(super) async fn relay(
        self: &Arc<Self>,
        proc_id: &ProcId,
        host: SocketAddr,
    ) -> Result<Relayed, String> {
        let address = self.listening_for(host, 0).await?;
        if !self.session.machine.leads() {
            return Ok(Relayed { address, kept: Box::new(()) });
        }
        let here = address.parse().map_err(|_| format!("{address} is no address"))?;
        let (listening, is_led) = self.line.node.mailbox().open_once_port();
        self.session.tell(Lead { proc_id: proc_id.clone(), here, listening: listening.bind() })?;
        let Listening(address) = is_led.recv().await.map_err(|error| error.to_string())?;
        let kept = Box::new(Led(Arc::clone(&self.session), proc_id.clone()));
        Ok(Relayed { address: address?, kept })
    }

    /// Where the agent listens for procs that want to reach `host`, as they dial it: at `port` of its loopback, or where
    /// they can best where that is 0.
    pub(super) async fn listening_for(
        self: &Arc<Self>,
        host: SocketAddr,
        port: u16,
    ) -> Result<String, String> {
        let mut relayed = self.relayed.lock().await;
        if let Some(address) = relayed.get(&host) {
            return Ok(address.clone());
        }
        let mailbox = self.line.node.mailbox();
        let (dialled, mut guests) = mailbox.open_port::<Dialled>();
        let (listening, is_listening) = mailbox.open_once_port();
        let listen = Listen { port, dialled: dialled.bind(), listening: listening.bind() };
        self.session.tell(listen)?;
        let Listening(address) = is_listening.recv().await.map_err(|error| error.to_string())?;
        let address = address?;
        let line = self.line.clone();
        let leads = async move {
            let mut led = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = led.join_next() => {}
                    guest = guests.recv() => match guest {
                        Ok(guest) => drop(led.spawn(relay::lead(line.clone(), host, guest))),
                        Err(_) => return,
                    },
                }
            }
        };
        let mut leading = self.leading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        leading.spawn_on(leads, &self.runtime);
        relayed.insert(host, address.clone());
        Ok(address)
    }

    /// Ends the command, whatever the agent does.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    /// Closes it: what was launched by the agent ends.
    pub(super) fn close(&self) {
        self.was_closed.store(true, Ordering::Relaxed);
        self.line.link().close();
    }
}

/// A proc that is led by the launcher there, which keeps something for that until it is launched, or this is dropped.
struct Led(Arc<Session>, ProcId);

impl Drop for Led {
    fn drop(&mut self) {
        let _it_ended_with_all = self.0.tell(Forget(self.1.clone()));
    }
}

fn with_words(why: &str, words: &str) -> String {
    if words.is_empty() { why.to_owned() } else { format!("{why}; {words}") }
}

/// Reads what comes before the agent speaks, and that.
async fn wait_for_agent(reader: &mut (impl AsyncRead + Unpin)) -> Result<(), String> {
    let (mut heard, wanted) = (Vec::new(), AGENT_SPEAKS.as_bytes());
    let said = |heard: &[u8]| match String::from_utf8_lossy(heard).trim() {
        "" => String::new(),
        text => format!("; what came instead is {:?}", text.chars().take(300).collect::<String>()),
    };
    while !heard.ends_with(wanted) {
        // One by one: what comes behind it belongs to another reader.
        match reader.read_u8().await {
            Ok(byte) => heard.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(format!("no agent has spoken before the command's output ended{}", said(&heard)));
            }
            Err(error) => return Err(format!("no agent has spoken: {error}")),
        }
        if heard.len() > NOISE {
            return Err(format!("no agent has spoken within {NOISE} bytes{}", said(&heard)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_is_heard_behind_the_noise_of_a_shell_and_nothing_that_it_says_next_is_lost() {
        let said = format!("Welcome!\n\0procession{AGENT_SPEAKS}rest");
        let mut reader = said.as_bytes();
        wait_for_agent(&mut reader).await.expect("it spoke");
        assert_eq!(reader, b"rest");
    }

    #[tokio::test]
    async fn where_none_speaks_the_error_has_what_was_said_instead() {
        let why = wait_for_agent(&mut &b"sh: procession: not found\n"[..]).await.expect_err("none spoke");
        assert!(why.contains("sh: procession: not found"), "{why}");
        let why = wait_for_agent(&mut &[b'x'; NOISE + 1][..]).await.expect_err("none spoke");
        assert!(why.contains("within 65536 bytes"), "{why}");
    }
}
